//! What sending SRTP costs at least: one thread that encrypts the same packets for each viewer by AES-GCM (RFC 7714) and
//! hands the kernel all packets of a picture for many viewers in one call (`sendmmsg` with segmentation offload). It knows
//! its viewers by their ports, answers nobody, and keeps nothing to send again.

use std::io::{BufRead, IoSlice};
use std::net::{Ipv4Addr, UdpSocket};
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::process::Command;
use std::sync::mpsc;

use anyhow::{Context, Result, anyhow};
use nix::sys::socket::{ControlMessage, MsgFlags, MultiHeaders, SockaddrIn, sendmmsg};
use ring::aead::{AES_128_GCM, Aad, LessSafeKey, Nonce, UnboundKey};

use super::Server;
use super::packets::{self, head, in_real_time};
use super::server::Addresses;

/// Of a packet: RTP's own, and extensions as weir sends them (RFC 8285).
const HEAD_BYTES: usize = 12 + 12;
const EXTENSIONS: [u8; 12] = [0xbe, 0xde, 0, 2, 0x22, 0, 0, 0, 0x40, 0, 0x90, b'0'];
const TAG_BYTES: usize = 16;
/// Viewers for whom one call sends.
const BATCH: usize = 32;

/// Starts this program as one: `main` hands `--floor` to [`serve`].
pub(crate) async fn srtp_floor(ports: &[u16]) -> Result<Server> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg("--floor");
    let mut server = Server::start(command, tempfile::tempdir()?, Addresses::default()).await?;
    let ports: Vec<String> = ports.iter().map(u16::to_string).collect();
    server.tell(&ports.join(" "))?;
    Ok(server)
}

struct Viewer {
    at: Option<SockaddrIn>,
    key: LessSafeKey,
    ssrc: u32,
    sequence: u16,
    /// The packets of a picture, one behind the other.
    bytes: Vec<u8>,
}

impl Viewer {
    fn encrypt(&mut self, picture: &packets::Picture, timestamp: u32) -> Result<()> {
        self.bytes.clear();
        for payload in &picture.payloads {
            let mut head = head(96, payload.marker, self.sequence, timestamp, self.ssrc);
            head[0] |= 0x10;
            let mut nonce = [0_u8; 12];
            nonce[2..6].copy_from_slice(&self.ssrc.to_be_bytes());
            nonce[10..].copy_from_slice(&self.sequence.to_be_bytes());
            let from = self.bytes.len();
            self.bytes.extend_from_slice(&head);
            self.bytes.extend_from_slice(&EXTENSIONS);
            self.bytes.extend_from_slice(&payload.data);
            let (aad, body) = self.bytes[from..].split_at_mut(HEAD_BYTES);
            let tag = self
                .key
                .seal_in_place_separate_tag(Nonce::assume_unique_for_key(nonce), Aad::from(&*aad), body)
                .map_err(|_| anyhow!("encryption"))?;
            self.bytes.extend_from_slice(tag.as_ref());
            self.sequence = self.sequence.wrapping_add(1);
        }
        Ok(())
    }
}

/// Where the packets of a picture lie that can leave together, and how long they are: the last may be shorter.
fn runs(picture: &packets::Picture) -> Vec<(Range<usize>, u16)> {
    let mut runs: Vec<(Range<usize>, u16)> = Vec::new();
    let (mut at, mut open) = (0, false);
    for payload in &picture.payloads {
        let bytes = HEAD_BYTES + payload.data.len() + TAG_BYTES;
        match runs.last_mut().filter(|(_, segment)| open && bytes <= usize::from(*segment)) {
            Some((run, segment)) => {
                run.end += bytes;
                open = bytes == usize::from(*segment);
            }
            None => {
                runs.push((at..at + bytes, bytes as u16));
                open = true;
            }
        }
        at += bytes;
    }
    runs
}

/// Reads the viewers' ports from standard input, and sends until the process is killed.
pub(crate) fn serve() -> Result<()> {
    let line = std::io::stdin().lock().lines().next().context("no viewers")??;
    let mut viewers = Vec::new();
    for (index, port) in (1..).zip(line.split(' ')) {
        let at = std::net::SocketAddrV4::new(Ipv4Addr::LOCALHOST, port.parse()?);
        let key = UnboundKey::new(&AES_128_GCM, &[index as u8; 16]).map_err(|_| anyhow!("a key"))?;
        let key = LessSafeKey::new(key);
        viewers.push(Viewer { at: Some(at.into()), key, ssrc: index, sequence: 0, bytes: Vec::new() });
    }
    let socket = UdpSocket::bind("127.0.0.1:0")?;
    let mut headers = MultiHeaders::preallocate(BATCH, Some(nix::cmsg_space!(u16)));
    let pictures = packets::pictures()?;
    // For ever.
    let (_wanted, is_wanted) = mpsc::sync_channel(0);
    in_real_time(&pictures, &is_wanted, |picture, timestamp| {
        let runs = runs(picture);
        for batch in viewers.chunks_mut(BATCH) {
            for viewer in batch.iter_mut() {
                viewer.encrypt(picture, timestamp)?;
            }
            let to: Vec<Option<SockaddrIn>> = batch.iter().map(|viewer| viewer.at).collect();
            for (run, segment) in &runs {
                let bytes = batch.iter().map(|viewer| [IoSlice::new(&viewer.bytes[run.clone()])]);
                let slices: Vec<[IoSlice<'_>; 1]> = bytes.collect();
                let control = [ControlMessage::UdpGsoSegments(segment)];
                let (socket, flags) = (socket.as_raw_fd(), MsgFlags::empty());
                let sent = sendmmsg(socket, &mut headers, &slices, &to, control, flags)?.count();
                anyhow::ensure!(sent == batch.len(), "{sent} of {} were sent", batch.len());
            }
        }
        Ok(())
    })
}
