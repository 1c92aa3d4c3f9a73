//! When tags become a flush: the `frame` policy.
//!
//! A flush is due when a video frame is whole; sound rides along with the next picture, but waits no
//! longer than a bound. A keyframe begins a flush of its own, so that viewers can start at it. Where
//! there is no video, each audio frame is a flush. Headers of a new track set are a flush of their own.
//!
//! No clock and no socket: tags and the time go in, flushes and the next deadline come out.

use std::sync::Arc;
use std::time::{Duration, Instant};

use media_core::flv::TagKind;
use media_core::relay::{Mark, Tag};

use super::headers::Headers;

/// Tags that wait for a picture at most; 100 ms of sound are about 5 tags a track.
const MAX_PENDING_TAGS: usize = 256;

/// Bytes that wait for a picture at most: far beyond what sound takes, but a bound.
const MAX_PENDING_BYTES: usize = 1 << 20;

/// Without video, viewers may start once a second: often enough to be live, and players like a short
/// burst to begin with.
const AUDIO_POINT_MS: u32 = 1_000;

/// Tags that go to viewers together.
#[derive(Debug, Clone)]
pub(crate) struct Flush {
    /// At least one, in decoding order.
    pub(crate) tags: Vec<Tag>,
    /// What is needed for decoding them.
    pub(crate) headers: Arc<Headers>,
    /// What the flush is.
    pub(crate) role: Role,
    /// What is known of the first tag.
    pub(crate) mark: Option<Mark>,
    /// The relay said so right before it: whoever counts frames must be told.
    pub(crate) marked: bool,
}

impl Flush {
    /// Decoding time of the first tag in milliseconds, modulo 2³².
    pub(crate) fn timestamp_ms(&self) -> u32 {
        self.tags.first().map_or(0, |tag| tag.timestamp_ms)
    }

    /// What keeping it costs in memory.
    pub(crate) fn bytes(&self) -> usize {
        self.tags.iter().map(|tag| tag.tag.len() + size_of::<Tag>()).sum::<usize>() + size_of::<Self>()
    }
}

/// What a flush is for someone who is not yet, or no longer, at its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Role {
    /// The headers of a new track set.
    Headers,
    /// Viewers can start here; the clock ties its timestamps to the wall clock.
    Point(Option<Mark>),
    /// Anything else.
    Media,
}

/// Groups tags into flushes.
pub(crate) struct Flusher {
    audio_delay: Duration,
    headers: Arc<Headers>,
    /// Header tags since the last frame: a new track set, if it differs.
    incoming: Vec<Tag>,
    pending: Vec<Tag>,
    pending_bytes: usize,
    pending_since: Option<Instant>,
    mark: Option<Mark>,
    /// The timestamp of the frame that the newest mark was for; `None` until it came.
    mark_at_ms: Option<u32>,
    /// No flush has taken it along yet.
    mark_is_new: bool,
    last_point_ms: Option<u32>,
}

impl Flusher {
    pub(crate) fn new(audio_delay: Duration) -> Self {
        Self {
            audio_delay,
            headers: Arc::new(Headers::default()),
            incoming: Vec::new(),
            pending: Vec::new(),
            pending_bytes: 0,
            pending_since: None,
            mark: None,
            mark_at_ms: None,
            mark_is_new: false,
            last_point_ms: None,
        }
    }

    /// Takes what is known of the next tag, which begins a flush.
    pub(crate) fn mark(&mut self, mark: Mark, emit: &mut dyn FnMut(Flush)) {
        self.flush(emit);
        self.mark = Some(mark);
        self.mark_at_ms = None;
        self.mark_is_new = true;
    }

    /// Takes the next tag; hands each flush that it completes to `emit`.
    pub(crate) fn push(&mut self, tag: Tag, now: Instant, emit: &mut dyn FnMut(Flush)) {
        if tag.is_metadata || tag.is_sequence_header {
            if Headers::has_room(&self.incoming) {
                self.incoming.push(tag);
            }
            return;
        }
        self.mark_at_ms.get_or_insert(tag.timestamp_ms);
        self.adopt_headers(emit);
        if self.is_point(&tag) {
            self.flush(emit);
            self.last_point_ms = Some(tag.timestamp_ms);
            let mark = self.mark_of(&tag);
            emit(self.made_of(vec![tag], Role::Point(mark)));
            return;
        }
        let due = tag.kind == TagKind::Video || !self.headers.has_video();
        self.pending_bytes += tag.tag.len();
        self.pending_since.get_or_insert(now);
        self.pending.push(tag);
        if due || self.pending.len() >= MAX_PENDING_TAGS || self.pending_bytes >= MAX_PENDING_BYTES {
            self.flush(emit);
        }
    }

    /// When [`Self::handle_timeout`] is to be called, if anything waits.
    pub(crate) fn deadline(&self) -> Option<Instant> {
        self.pending_since.map(|since| since + self.audio_delay)
    }

    /// Flushes what has waited long enough.
    pub(crate) fn handle_timeout(&mut self, now: Instant, emit: &mut dyn FnMut(Flush)) {
        if self.deadline().is_some_and(|deadline| deadline <= now) {
            self.flush(emit);
        }
    }

    /// Flushes whatever waits: nothing more comes for a while.
    pub(crate) fn flush(&mut self, emit: &mut dyn FnMut(Flush)) {
        self.pending_bytes = 0;
        self.pending_since = None;
        if !self.pending.is_empty() {
            let tags = std::mem::take(&mut self.pending);
            emit(self.made_of(tags, Role::Media));
        }
    }

    fn made_of(&mut self, tags: Vec<Tag>, role: Role) -> Flush {
        let mark = tags.first().and_then(|tag| self.mark_of(tag));
        let marked = std::mem::take(&mut self.mark_is_new);
        Flush { tags, headers: Arc::clone(&self.headers), role, mark, marked }
    }

    /// What the newest mark says of a tag that came after it.
    fn mark_of(&self, tag: &Tag) -> Option<Mark> {
        let mark = self.mark?;
        let frame = !tag.is_metadata && !tag.is_sequence_header;
        Some(if frame { mark.moved_to(self.mark_at_ms.unwrap_or(tag.timestamp_ms), tag) } else { mark })
    }

    fn is_point(&self, tag: &Tag) -> bool {
        if self.headers.has_video() {
            return tag.kind == TagKind::Video && tag.is_keyframe;
        }
        tag.kind == TagKind::Audio
            && self.last_point_ms.is_none_or(|last| tag.timestamp_ms.wrapping_sub(last) >= AUDIO_POINT_MS)
    }

    /// The upstream repeats headers when it is asked again; only different ones are news.
    fn adopt_headers(&mut self, emit: &mut dyn FnMut(Flush)) {
        if self.incoming.is_empty() {
            return;
        }
        let incoming = std::mem::take(&mut self.incoming);
        if self.headers.same(&incoming) {
            return;
        }
        self.flush(emit);
        self.headers = Arc::new(self.headers.successor(&incoming));
        self.last_point_ms = None;
        let mark_is_new = self.mark_is_new;
        emit(self.made_of(incoming, Role::Headers));
        // It is for the frame that follows, too.
        self.mark_is_new = mark_is_new;
    }
}
