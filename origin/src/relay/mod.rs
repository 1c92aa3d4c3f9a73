//! The relay: streams as edges pull them.
//!
//! A stream that any edge pulls has a *feed*: a ring of its units as the feed's bytes ([`media_core::relay::Encoder`]).
//! Each edge's response is a cursor into it and refers to the same bytes. No task stands between the hub and the edges:
//! whoever has read all that is encoded encodes more, so who rests costs nothing. A ring begins with what the hub still
//! has, so that an edge whose connection broke can go on behind what it has, though it be the only one.

mod ring;

use std::sync::{Arc, Weak};

use ahash::AHashMap;
use bytes::Bytes;
use http_body::Frame;
use http_body_util::{BodyExt, StreamBody};
use media_core::hub::{Consumer, Event, Registry, Stream, StreamKey};
use media_core::relay::{Encoder, Place};
use parking_lot::Mutex;

use crate::http::{Body, BoxError};
use crate::metrics::Metrics;
use ring::{Cursor, Ring};

/// Bytes of frames that are encoded before others have their turn: a fraction of a millisecond. The hub may have many times
/// as much that nobody has read.
const TURN_BYTES: usize = 512 * 1024;

/// The feeds of all streams that edges pull.
#[derive(Debug)]
pub(crate) struct Feeds {
    /// An entry goes when its feed does, which is when its last reader does.
    feeds: Mutex<AHashMap<StreamKey, Weak<Feed>>>,
    /// Bytes that each ring may hold.
    ring_bytes: usize,
    metrics: Metrics,
}

/// One stream's encoded bytes and their readers.
#[derive(Debug)]
struct Feed {
    feeds: Weak<Feeds>,
    stream: Arc<Stream>,
    tape: Mutex<Tape>,
}

/// What is encoded of a stream, and what encodes it.
#[derive(Debug)]
struct Tape {
    consumer: Consumer,
    encoder: Encoder,
    ring: Ring,
}

impl Tape {
    /// Encodes what has come, a turn's worth at most. Whether that is all.
    fn catch_up(&mut self) -> bool {
        let mut bytes = 0;
        while bytes < TURN_BYTES {
            if self.ring.is_over() {
                return true;
            }
            match self.consumer.try_next() {
                Some(Event::Unit(unit)) => {
                    if let Some(encoded) = self.encoder.unit(&unit) {
                        bytes += encoded.bytes.len();
                        self.ring.push(encoded);
                    }
                }
                Some(Event::Ended) => self.ring.end(),
                None => return true,
            }
        }
        false
    }
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
            let piece = reader.next().await?;
            Some((Ok::<_, BoxError>(Frame::data(piece)), reader))
        });
        Some(StreamBody::new(pieces).boxed_unsync())
    }

    /// Whether any edge pulls the stream.
    pub(crate) fn is_read(&self, key: &StreamKey) -> bool {
        self.feeds.lock().get(key).is_some_and(|feed| feed.strong_count() > 0)
    }

    /// The stream's feed, which is started if there is none.
    fn join(self: &Arc<Self>, registry: &Registry, key: &StreamKey) -> Option<Arc<Feed>> {
        let mut consumer = registry.subscribe(key)?;
        // Outlives the lock, which a feed takes when it is dropped.
        let found;
        let mut feeds = self.feeds.lock();
        found = feeds.get(key).and_then(Weak::upgrade);
        if let Some(feed) = &found
            && Arc::ptr_eq(&feed.stream, consumer.stream())
        {
            return found.clone();
        }
        consumer.rewind();
        let feed = Arc::new(Feed {
            feeds: Arc::downgrade(self),
            stream: Arc::clone(consumer.stream()),
            tape: Mutex::new(Tape { consumer, encoder: Encoder::new(), ring: Ring::new(self.ring_bytes) }),
        });
        feeds.insert(key.clone(), Arc::downgrade(&feed));
        Some(feed)
    }
}

impl Feed {
    /// What the cursor reads next. `None`: others shall have their turn before more is encoded.
    fn read(&self, cursor: &mut Cursor) -> Option<ring::Read> {
        let mut tape = self.tape.lock();
        // Who begins at the newest keyframe shall find no older one; who goes on needs no more than what comes next.
        let ready = tape.ring.goes_on(cursor) || tape.catch_up() || tape.ring.goes_on(cursor);
        ready.then(|| tape.ring.read(cursor))
    }
}

impl Drop for Feed {
    fn drop(&mut self) {
        if let Some(feeds) = self.feeds.upgrade() {
            let mut feeds = feeds.feeds.lock();
            // Another may have taken its place.
            if feeds.get(self.stream.key()).is_some_and(|feed| feed.strong_count() == 0) {
                feeds.remove(self.stream.key());
            }
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
    async fn next(&mut self) -> Option<Bytes> {
        loop {
            let changed = self.feed.stream.changed();
            let skips = self.cursor.skips();
            let read = self.feed.read(&mut self.cursor);
            if self.cursor.take_resumed() {
                self.metrics.relay_resumptions.inc();
            }
            if self.cursor.skips() != skips {
                self.metrics.relay_skips.inc();
                tracing::warn!(stream = %self.feed.stream.key(), "an edge reads too slowly and was moved on");
            }
            match read {
                Some(ring::Read::Piece(piece)) => return Some(piece),
                Some(ring::Read::Later) => changed.await,
                Some(ring::Read::Ended) => return None,
                None => tokio::task::yield_now().await,
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
