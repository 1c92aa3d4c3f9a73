//! Where a feed goes on after its upstream was lost: an origin begins again at its newest keyframe, of
//! which part was sent already.

use media_core::relay::{Mark, Tag};

/// The place in the stream.
#[derive(Debug, Default)]
pub(super) struct Resume {
    /// Of the newest frame that was taken.
    last: Option<(u64, u64)>,
    epoch: u64,
    taken: u64,
}

impl Resume {
    /// The relay says where it is.
    pub(super) fn mark(&mut self, mark: &Mark) {
        self.epoch = mark.epoch.0;
    }

    /// Whether a tag has not been seen yet. Headers always are news to this; the fan-out compares them.
    pub(super) fn is_news(&mut self, tag: &Tag) -> bool {
        if tag.is_metadata || tag.is_sequence_header {
            return true;
        }
        let place = (self.epoch, tag.sequence);
        let news = self.last.is_none_or(|last| place > last);
        if news {
            self.last = Some(place);
            self.taken += 1;
        }
        news
    }

    /// Grows with every frame that is taken.
    pub(super) fn progress(&self) -> u64 {
        self.taken
    }
}
