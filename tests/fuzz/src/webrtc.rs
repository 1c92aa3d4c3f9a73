//! The bodies of the targets of WebRTC: offers, checks, and what comes to a peer. See `bodies`.

use std::net::SocketAddr;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use media_core::frame::Codec;
use rtc::peer::{Credentials, Ground, Output, Peer, Role, Sent, Str0m};

/// A target: its name and what it does.
pub type Target = (&'static str, fn(&[u8]));

/// Every target of this file.
pub const TARGETS: &[Target] = &[("sdp_offer", sdp_offer), ("stun", stun), ("rtc_datagrams", rtc_datagrams)];

/// What an answer has at most: each m-line of an offer has one in it, with what is carried of its codecs.
const MAX_ANSWER_BYTES: usize = 64 * 1024;
/// What a peer says in a row, whatever it was told: the flight of a handshake and a round of reports.
const MAX_SAID: usize = 256;

/// Of the peer that [`rtc_datagrams`] reach; seed.py signs checks by them.
const UFRAG: &str = "0123456789abcdef01234567";
const PASSWORD: &str = "fedcba9876543210fedcba98";

/// An offer of Chromium's, shortened.
const OFFER: &str = "v=0\r\no=- 1 2 IN IP4 127.0.0.1\r\ns=-\r\nt=0 0\r\na=group:BUNDLE 0 1\r\n\
    m=audio 9 UDP/TLS/RTP/SAVPF 111\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:seed\r\na=ice-pwd:seedseedseedseedseedseed\r\n\
    a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
    a=setup:actpass\r\na=mid:0\r\na=DIRECTION\r\na=rtcp-mux\r\na=rtpmap:111 opus/48000/2\r\n\
    a=extmap:1 http://www.ietf.org/id/draft-holmer-rmcat-transport-wide-cc-extensions-01\r\n\
    m=video 9 UDP/TLS/RTP/SAVPF 102 103\r\nc=IN IP4 0.0.0.0\r\na=ice-ufrag:seed\r\na=ice-pwd:seedseedseedseedseedseed\r\n\
    a=fingerprint:sha-256 00:01:02:03:04:05:06:07:08:09:0A:0B:0C:0D:0E:0F:10:11:12:13:14:15:16:17:18:19:1A:1B:1C:1D:1E:1F\r\n\
    a=setup:actpass\r\na=mid:1\r\na=DIRECTION\r\na=rtcp-mux\r\na=rtcp-rsize\r\na=rtpmap:102 H264/90000\r\n\
    a=rtcp-fb:102 nack\r\na=rtcp-fb:102 nack pli\r\na=rtcp-fb:102 transport-cc\r\n\
    a=fmtp:102 level-asymmetry-allowed=1;packetization-mode=1;profile-level-id=42e01f\r\n\
    a=rtpmap:103 rtx/90000\r\na=fmtp:103 apt=102\r\n";

fn ground() -> &'static Ground {
    static GROUND: OnceLock<Ground> = OnceLock::new();
    GROUND.get_or_init(|| Ground::new(vec![ours()]).expect("a certificate can be made"))
}

fn ours() -> SocketAddr {
    SocketAddr::from(([192, 0, 2, 1], 8189))
}

fn credentials() -> Credentials {
    Credentials { ufrag: UFRAG.to_owned(), password: PASSWORD.to_owned() }
}

fn viewer() -> Role {
    Role::Play([Codec::Opus, Codec::H264].map(|codec| Sent { codec, profile: None }).to_vec())
}

/// An offer of a publisher, and of a viewer: it is refused, or answered by as much SDP as makes sense.
pub fn sdp_offer(data: &[u8]) {
    let Ok(offer) = std::str::from_utf8(data) else { return };
    if rtc::offer::check(offer).is_err() {
        return;
    }
    for role in [Role::Publish, viewer()] {
        match Str0m::accept(ground(), offer, &role, &credentials(), Instant::now()) {
            Ok((_, answer)) => {
                assert!(answer.len() <= MAX_ANSWER_BYTES, "{} bytes", answer.len());
                assert!(answer.contains("a=ice-lite") && answer.contains(UFRAG));
            }
            Err(refused) => assert!((400..600).contains(&refused.status())),
        }
    }
}

/// A datagram as it is told apart before anybody is known by it.
pub fn stun(data: &[u8]) {
    let Some(ufrag) = rtc::stun::ufrag(data) else { return };
    assert!(rtc::stun::is_stun(data) && rtc::stun::transaction(data).is_some());
    assert!(ufrag.len() < data.len() && !ufrag.contains(':'));
}

/// What comes to a peer before it has shown who it is: checks, records of DTLS, packets of RTP and RTCP. The first byte
/// says what it is for. Before each datagram stand how long it is waited for, the last byte of its address, and its length.
/// Whatever comes, the peer says little more than it hears.
pub fn rtc_datagrams(data: &[u8]) {
    let Some((&role, mut rest)) = data.split_first() else { return };
    let (role, direction) = if role & 1 == 0 { (Role::Publish, "sendonly") } else { (viewer(), "recvonly") };
    let mut now = Instant::now();
    let offer = OFFER.replace("DIRECTION", direction);
    let (mut peer, _) =
        Str0m::accept(ground(), &offer, &role, &credentials(), now).expect("this offer can be answered");
    let (mut heard, mut said) = (0, 0);
    while let Some((&[wait, from, l1, l0], after)) = rest.split_first_chunk::<4>() {
        let length = usize::from(u16::from_be_bytes([l1, l0])).min(after.len());
        let (datagram, after) = after.split_at(length);
        rest = after;
        heard += length;
        now += Duration::from_millis(u64::from(wait) * 4);
        let from = SocketAddr::from(([192, 0, 2, from], 5_000));
        let going_on = peer.handle_datagram(now, from, ours(), datagram).is_ok()
            && drain(&mut peer, &mut said)
            && peer.handle_timeout(now).is_ok()
            && drain(&mut peer, &mut said);
        if !going_on {
            break;
        }
    }
    peer.close();
    drain(&mut peer, &mut said);
    assert!(said <= 16 * 1024 + 32 * heard, "{said} bytes said to {heard}");
}

/// `false`: the peer is over.
fn drain(peer: &mut Str0m, said: &mut usize) -> bool {
    for _ in 0..MAX_SAID {
        match peer.poll() {
            Ok(Output::Wait(_)) => return true,
            Ok(Output::Datagram { bytes, .. }) => *said += bytes.len(),
            Ok(Output::Event(rtc::peer::Event::Closed)) | Err(_) => return false,
            Ok(Output::Event(_)) => {}
        }
    }
    panic!("it does not stop talking");
}
