//! A feed's stream with AAC for Opus, for players that know only that: a second fan-out, which a task writes of what it
//! reads of the first one, as another edge would, while somebody watches it.

use std::future::poll_fn;
use std::sync::Arc;

use media_core::hub::StreamKey;
use media_core::relay::{Decoder, Event};
use tokio::task::JoinHandle;

use super::reading::sleep_until;
use super::recode::Recoder;
use super::{Feed, now};
use crate::fanout::{Fanout, Format, Over, Reader, Start};
use crate::sound::Sound;

/// See the module. Dropped, it is written no more.
pub(super) struct Aac {
    pub(super) fanout: Arc<Fanout>,
    writing: JoinHandle<()>,
}

impl Aac {
    /// Begins to write, with the feed's newest keyframe.
    pub(super) fn start(feed: &Feed, fanout: Fanout, sound: Sound) -> Self {
        let fanout = Arc::new(fanout);
        let reader = feed.fanout.enter(Format::Relay, Start::Gop);
        let writing = Writing { fanout: Arc::clone(&fanout), key: feed.key.clone() };
        let writing = tokio::spawn(writing.run(reader, Recoder::new(sound)));
        Self { fanout, writing }
    }

    /// Whether nothing more comes of it.
    pub(super) fn is_over(&self) -> bool {
        self.writing.is_finished()
    }
}

impl Drop for Aac {
    fn drop(&mut self) {
        self.writing.abort();
    }
}

struct Writing {
    fanout: Arc<Fanout>,
    key: StreamKey,
}

impl Drop for Writing {
    /// However it ends, nobody waits for more.
    fn drop(&mut self) {
        self.fanout.end(now());
    }
}

impl Writing {
    async fn run(self, mut reader: Reader, mut recoder: Recoder) {
        let (fanout, key) = (&self.fanout, &self.key);
        let mut decoder = Decoder::default();
        loop {
            let bytes = tokio::select! {
                bytes = poll_fn(|cx| reader.poll_next(cx, now())) => bytes,
                () = sleep_until(fanout.deadline()) => {
                    fanout.handle_timeout(now());
                    continue;
                }
            };
            match bytes {
                Ok(bytes) => decoder.push(bytes),
                Err(Over::Ended) => return,
                Err(over) => {
                    tracing::warn!(stream = %key, ?over, "transcoding the sound lags behind the stream");
                    return;
                }
            }
            loop {
                let event = match decoder.next_event() {
                    Ok(Some(event)) => event,
                    Ok(None) => break,
                    Err(error) => {
                        tracing::warn!(stream = %key, %error, "the feed can't be read for transcoding");
                        return;
                    }
                };
                let costs = matches!(&event, Event::Tag(tag) if recoder.transcodes(tag));
                recoder.take(event, &mut |event| match event {
                    Event::Mark(mark) => fanout.mark(mark, now()),
                    Event::Tag(tag) => fanout.push(tag, now()),
                });
                if costs {
                    tokio::task::yield_now().await;
                }
            }
            fanout.tell(now());
        }
    }
}
