//! The relay: streams as edges pull them.
//!
//! While any edge pulls a stream, one task reads it from the hub and encodes it
//! ([`media_core::relay::Encoder`]) into a ring; each edge's response is a cursor into that ring and
//! refers to the same bytes. Nothing runs for a stream that nobody pulls; a ring begins with what the hub still has, so
//! that an edge whose connection broke can go on behind what it has, though it be the only one.

mod ring;

use std::pin::pin;
use std::sync::{Arc, OnceLock, Weak};

use ahash::AHashMap;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use media_core::hub::{Consumer, Event, Registry, Stream, StreamKey};
use media_core::relay::{Encoder, Place};
use parking_lot::Mutex;
use tokio::sync::Notify;
use tokio::task::AbortHandle;

use crate::http::{Body, BoxError};
use crate::metrics::Metrics;
use crate::origin::unix_ms;
use ring::{Cursor, Ring};

/// The feeds of all streams that edges pull.
#[derive(Debug)]
pub(crate) struct Feeds {
    /// An entry goes when its feed does, which is when its last reader does.
    feeds: Mutex<AHashMap<StreamKey, Weak<Feed>>>,
    /// Bytes that each ring may hold.
    ring_bytes: usize,
    metrics: Metrics,
}

/// The encoder's task is gone, and the stream may go on all the same.
#[derive(Debug, thiserror::Error)]
#[error("the relay's encoder failed")]
struct Broken;

/// One stream's encoded bytes and their readers.
#[derive(Debug)]
struct Feed {
    feeds: Weak<Feeds>,
    stream: Arc<Stream>,
    ring: Mutex<Ring>,
    changed: Notify,
    task: OnceLock<AbortHandle>,
}

impl Feeds {
    pub(crate) fn new(ring_bytes: usize, metrics: Metrics) -> Arc<Self> {
        Arc::new(Self { feeds: Mutex::default(), ring_bytes, metrics })
    }

    /// The stream as an endless body that ends when the stream does, and begins behind the frame `after`, or at the newest
    /// keyframe if that frame is not there. `None`: there is no such stream.
    pub(crate) fn body(
        self: &Arc<Self>,
        registry: &Registry,
        key: &StreamKey,
        after: Option<Place>,
    ) -> Option<Body> {
        let reader = Reader::new(self.join(registry, key)?, after, self.metrics.clone());
        let pieces = futures_util::stream::unfold(reader, |mut reader| async move {
            let piece = reader.next().await.transpose()?;
            Some((piece.map(Frame::data), reader))
        });
        Some(StreamBody::new(pieces).boxed_unsync())
    }

    /// The stream's feed, which is started if there is none.
    fn join(self: &Arc<Self>, registry: &Registry, key: &StreamKey) -> Option<Arc<Feed>> {
        let consumer = registry.subscribe(key)?;
        // Outlives the lock, which a feed takes when it is dropped.
        let found;
        let mut feeds = self.feeds.lock();
        found = feeds.get(key).and_then(Weak::upgrade);
        if let Some(feed) = &found
            && Arc::ptr_eq(&feed.stream, consumer.stream())
            && !feed.ring.lock().is_over()
        {
            return found.clone();
        }
        let feed = Arc::new(Feed {
            feeds: Arc::downgrade(self),
            stream: Arc::clone(consumer.stream()),
            ring: Mutex::new(Ring::new(self.ring_bytes)),
            changed: Notify::new(),
            task: OnceLock::new(),
        });
        feeds.insert(key.clone(), Arc::downgrade(&feed));
        drop(feeds);
        let task = tokio::spawn(encode(consumer, Arc::downgrade(&feed)));
        // Nobody else has set it.
        let _ = feed.task.set(task.abort_handle());
        Some(feed)
    }
}

impl Feed {
    fn update(&self, change: impl FnOnce(&mut Ring)) {
        change(&mut self.ring.lock());
        self.changed.notify_waiters();
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(task) = self.task.get() {
            task.abort();
        }
        if let Some(feeds) = self.feeds.upgrade() {
            let mut feeds = feeds.feeds.lock();
            // Another may have taken its place.
            if feeds.get(self.stream.key()).is_some_and(|feed| feed.strong_count() == 0) {
                feeds.remove(self.stream.key());
            }
        }
    }
}

/// Encodes the stream until it ends or nobody reads the feed.
async fn encode(mut consumer: Consumer, feed: Weak<Feed>) {
    let end = End(&feed);
    let mut encoder = Encoder::new();
    consumer.rewind();
    let mut kept = Vec::new();
    while let Some(Event::Unit(unit)) = consumer.try_next() {
        kept.extend(encoder.unit(&unit, unix_ms()));
        tokio::task::coop::consume_budget().await;
    }
    // At once: who begins at the newest keyframe must not find an older one.
    let Some(ring) = feed.upgrade() else { return };
    ring.update(|ring| kept.into_iter().for_each(|encoded| ring.push(encoded)));
    drop(ring);
    loop {
        let event = consumer.next().await;
        // Units that are ready are had without waiting; other tasks shall run between them all the same.
        tokio::task::coop::consume_budget().await;
        let Some(feed) = feed.upgrade() else { return };
        match event {
            Event::Unit(unit) => {
                if let Some(encoded) = encoder.unit(&unit, unix_ms()) {
                    feed.update(|ring| ring.push(encoded));
                }
            }
            Event::Ended => {
                feed.update(Ring::end);
                break;
            }
        }
    }
    drop(end);
}

/// Lets no reader wait for a task that is gone, however it went.
struct End<'a>(&'a Weak<Feed>);

impl Drop for End<'_> {
    fn drop(&mut self) {
        if let Some(feed) = self.0.upgrade() {
            feed.update(Ring::break_off);
        }
    }
}

/// An edge's place in a feed.
#[derive(Debug)]
struct Reader {
    feed: Arc<Feed>,
    cursor: Cursor,
    metrics: Metrics,
}

impl Reader {
    fn new(feed: Arc<Feed>, after: Option<Place>, metrics: Metrics) -> Self {
        metrics.relay_readers.inc();
        Self { feed, cursor: Cursor::after(after), metrics }
    }

    /// The next piece, when it is there; `None` at the end of the stream.
    async fn next(&mut self) -> Result<Option<Bytes>, BoxError> {
        loop {
            let mut changed = pin!(self.feed.changed.notified());
            changed.as_mut().enable();
            let skips = self.cursor.skips();
            let read = self.feed.ring.lock().read(&mut self.cursor);
            if self.cursor.take_resumed() {
                self.metrics.relay_resumptions.inc();
            }
            if self.cursor.skips() != skips {
                self.metrics.relay_skips.inc();
                tracing::warn!(stream = %self.feed.stream.key(), "an edge reads too slowly and was moved on");
            }
            match read {
                ring::Read::Piece(piece) => return Ok(Some(piece)),
                ring::Read::Later => changed.await,
                ring::Read::Ended => return Ok(None),
                ring::Read::Broken => return Err(Broken.into()),
            }
        }
    }
}

impl Drop for Reader {
    fn drop(&mut self) {
        self.metrics.relay_readers.dec();
    }
}

#[cfg(test)]
mod tests;
