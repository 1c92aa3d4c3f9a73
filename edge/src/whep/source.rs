//! A stream's feed → its broadcast, while somebody watches it.

use std::convert::Infallible;
use std::future::poll_fn;
use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::flv::{self, Demuxed, Demuxer, TagKind};
use media_core::frame::{Codec, Frame, Timestamp};
use media_core::hub::StreamKey;
use media_core::relay::{Decoder, Event};
use rtc::{Broadcast, Ended, Server};
use tokio::task::JoinHandle;

use crate::fanout::Start;
use crate::feed::{Feeds, Refusal, Viewer};
use crate::sound::Sound;

/// How often a stream's publisher is asked for a keyframe at most.
const ASK_AT_MOST: Duration = Duration::from_secs(1);
/// Ticks of a frame's clock in a millisecond.
const TICKS_PER_MS: i64 = 90;

/// See the module. Dropped, it reads no more.
pub(super) struct Source {
    pub(super) broadcast: Arc<Broadcast>,
    reading: JoinHandle<()>,
}

impl Source {
    /// Begins to read; it is one more edge to the feed, and no viewer.
    pub(super) async fn start(
        feeds: &Arc<Feeds>,
        key: &StreamKey,
        server: &Server,
    ) -> Result<Arc<Self>, Refusal> {
        let viewer = feeds.relay(key, Start::Gop, None).await?;
        let broadcast = server.broadcast();
        let sound = feeds.sounds.of(key, Codec::Opus);
        let shown = Shown { broadcast: Arc::clone(&broadcast), sound, frames: Vec::new() };
        let read = read(viewer, shown, key.clone());
        let ask = ask_keyframes(Arc::clone(feeds), Arc::clone(&broadcast), key.clone());
        let reading = tokio::spawn(async move {
            tokio::select! {
                () = read => {}
                never = ask => match never {},
            }
        });
        Ok(Arc::new(Self { broadcast, reading }))
    }

    /// Whether nothing more comes of it.
    pub(super) fn is_over(&self) -> bool {
        self.reading.is_finished() || self.broadcast.is_over()
    }
}

impl Drop for Source {
    fn drop(&mut self) {
        self.reading.abort();
    }
}

/// Asks for keyframes that viewers can't go on without: seldom, however many want them.
async fn ask_keyframes(feeds: Arc<Feeds>, broadcast: Arc<Broadcast>, key: StreamKey) -> Infallible {
    loop {
        broadcast.keyframe_wanted().await;
        feeds.want_keyframe(&key).await;
        tokio::time::sleep(ASK_AT_MOST).await;
    }
}

async fn read(mut viewer: Viewer, mut shown: Shown, key: StreamKey) {
    let (mut decoder, mut demuxer, mut clock) = (Decoder::default(), Demuxer::new(), Clock::default());
    while let Ok(bytes) = poll_fn(|cx| viewer.poll_next(cx)).await {
        decoder.push(bytes);
        loop {
            match decoder.next_event() {
                Ok(Some(Event::Tag(tag))) => {
                    let ahead = clock.ahead(tag.timestamp_ms);
                    let costs = tag.kind == TagKind::Audio && shown.sound.made().is_some();
                    let tag = flv::Tag { kind: tag.kind, timestamp_ms: tag.timestamp_ms, body: tag.body };
                    match demuxer.push(tag) {
                        Ok(items) => items.for_each(|item| shown.show(item, ahead)),
                        // The frame is of no use to anybody else either.
                        Err(error) => {
                            tracing::debug!(stream = %key, %error, "a frame can't be sent by WebRTC");
                        }
                    }
                    if costs {
                        tokio::task::yield_now().await;
                    }
                }
                Ok(Some(Event::Mark(_))) => {}
                Ok(None) => break,
                Err(error) => {
                    tracing::warn!(stream = %key, %error, "the feed can't be read for WebRTC");
                    return shown.broadcast.end(Ended::Failed);
                }
            }
        }
    }
    shown.broadcast.end(Ended::Stream);
}

/// What is shown to all who watch, with sound that WebRTC carries.
struct Shown {
    broadcast: Arc<Broadcast>,
    sound: Sound,
    /// Kept for its allocation.
    frames: Vec<Frame>,
}

impl Shown {
    fn show(&mut self, item: Demuxed, ahead: i64) {
        match item {
            Demuxed::Tracks(tracks) => self.broadcast.set_tracks(&self.sound.set_tracks(&tracks)),
            Demuxed::Frame(frame) => {
                let dts = Timestamp(frame.dts.0 + ahead);
                self.sound.push(Frame { dts, ..frame }, &mut self.frames);
                for frame in self.frames.drain(..) {
                    self.broadcast.push(Instant::now(), &frame);
                }
            }
            Demuxed::Encoder(_) | Demuxed::Dropped(_) => {}
        }
    }
}

/// The feed's milliseconds, which wrap after 49 days, as a clock that goes on.
#[derive(Default)]
struct Clock {
    last: Option<u32>,
    /// How often it wrapped.
    wraps: i64,
}

impl Clock {
    /// What is to be added to a timestamp, in ticks.
    fn ahead(&mut self, timestamp_ms: u32) -> i64 {
        const HALF: u32 = 1 << 31;
        let mut wraps = self.wraps;
        if let Some(last) = self.last {
            if timestamp_ms < last && last - timestamp_ms > HALF {
                self.wraps += 1;
                wraps = self.wraps;
            } else if timestamp_ms > last && timestamp_ms - last > HALF {
                // A late one of before.
                return (self.wraps - 1) * (1 << 32) * TICKS_PER_MS;
            }
        }
        self.last = Some(timestamp_ms);
        wraps * (1 << 32) * TICKS_PER_MS
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_clock_goes_on_through_a_wrap() {
        let mut clock = Clock::default();
        let mut time = |ms: u32| i64::from(ms) + clock.ahead(ms) / TICKS_PER_MS;
        assert_eq!(time(u32::MAX - 10), i64::from(u32::MAX) - 10);
        assert_eq!(time(5), (1 << 32) + 5);
        assert_eq!(time(u32::MAX), i64::from(u32::MAX));
        assert_eq!(time(25), (1 << 32) + 25);
    }
}
