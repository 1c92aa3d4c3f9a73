//! The clip's pictures as RTP payloads, sent in real time: to Janus as they are, and by the floor.

use std::net::{SocketAddr, UdpSocket};
use std::sync::mpsc::{self, RecvTimeoutError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, Result};
use media_core::frame::Kind;
use media_core::rtp::{Packetizer, Payload};
use rtc::peer::MAX_PAYLOAD_BYTES;

use crate::clip::Clip;

/// A picture: its time in the clip, in milliseconds, and its payloads.
pub(crate) struct Picture {
    pub(crate) at: Duration,
    pub(crate) payloads: Vec<Payload>,
}

/// What the clip shows, in the payloads that weir makes of it.
pub(crate) fn pictures() -> Result<Vec<Picture>> {
    let clip = Clip::new(&[]);
    let track = clip.tracks.iter().find(|track| track.id.kind == Kind::Video).context("a picture's track")?;
    let mut packetizer = Packetizer::new(track, MAX_PAYLOAD_BYTES)?;
    let shown = clip.frames.iter().filter(|frame| frame.track.kind == Kind::Video);
    Ok(shown
        .map(|frame| {
            let mut payloads = Vec::new();
            packetizer.packetize(frame, &mut payloads);
            let ticks = u64::try_from(frame.dts.0).unwrap_or_default();
            Picture { at: Duration::from_micros(ticks * 1_000 / 90), payloads }
        })
        .collect())
}

/// Calls `send` with each picture when it is due, and with ticks of 90 kHz, over and over, until nobody holds the other end
/// of `wanted` any more.
pub(crate) fn in_real_time(
    pictures: &[Picture],
    wanted: &mpsc::Receiver<()>,
    mut send: impl FnMut(&Picture, u32) -> Result<()>,
) -> Result<()> {
    let began = Instant::now();
    let length = Duration::from_secs(Clip::SECONDS as u64);
    for round in 0.. {
        for picture in pictures {
            let at = length * round + picture.at;
            let wait = (began + at).saturating_duration_since(Instant::now());
            if wanted.recv_timeout(wait) != Err(RecvTimeoutError::Timeout) {
                return Ok(());
            }
            send(picture, (at.as_micros() * 90 / 1_000) as u32)?;
        }
    }
    Ok(())
}

/// RTP's head (RFC 3550 §5.1) of a packet of pictures.
pub(crate) fn head(payload_type: u8, marker: bool, sequence: u16, timestamp: u32, ssrc: u32) -> [u8; 12] {
    let [a, b] = sequence.to_be_bytes();
    let [c, d, e, f] = timestamp.to_be_bytes();
    let [g, h, i, j] = ssrc.to_be_bytes();
    [0x80, payload_type | (u8::from(marker) << 7), a, b, c, d, e, f, g, h, i, j]
}

/// Sends the clip's pictures to one address until it is dropped.
pub(crate) struct Feeder {
    wanted: Option<mpsc::SyncSender<()>>,
    thread: Option<JoinHandle<Result<()>>>,
}

impl Feeder {
    pub(crate) fn start(to: SocketAddr, payload_type: u8) -> Result<Self> {
        let (pictures, socket) = (pictures()?, UdpSocket::bind("127.0.0.1:0")?);
        let (wanted, is_wanted) = mpsc::sync_channel(0);
        let thread = std::thread::spawn(move || {
            let mut sequence = 0_u16;
            in_real_time(&pictures, &is_wanted, |picture, timestamp| {
                for payload in &picture.payloads {
                    let head = head(payload_type, payload.marker, sequence, timestamp, 1);
                    socket.send_to(&[&head[..], &payload.data].concat(), to)?;
                    sequence = sequence.wrapping_add(1);
                }
                Ok(())
            })
        });
        Ok(Self { wanted: Some(wanted), thread: Some(thread) })
    }
}

impl Drop for Feeder {
    fn drop(&mut self) {
        self.wanted = None;
        self.thread.take().map(JoinHandle::join);
    }
}
