//! Where a feed goes on after its upstream was lost: behind what was taken, if the upstream still has that; or else it
//! begins again at its newest keyframe, of which part was taken already.

use media_core::hub::Epoch;
use media_core::relay::{Mark, Place, Tag};

/// The place in the stream.
#[derive(Debug, Default)]
pub(super) struct Resume {
    /// Of the newest frame that was taken.
    last: Option<Place>,
    epoch: Epoch,
    taken: u64,
}

impl Resume {
    /// The relay says where it is.
    pub(super) fn mark(&mut self, mark: &Mark) {
        self.epoch = mark.epoch;
    }

    /// Whether a tag has not been seen yet. Headers always are news to this; the fan-out compares them.
    pub(super) fn is_news(&mut self, tag: &Tag) -> bool {
        if tag.is_metadata || tag.is_sequence_header {
            return true;
        }
        // Epochs are each origin's own clock: that of the next origin can be behind.
        let place = Place { epoch: self.epoch, sequence: tag.sequence };
        let news = self.last.is_none_or(|last| last.epoch != place.epoch || place.sequence > last.sequence);
        if news {
            self.last = Some(place);
            self.taken += 1;
        }
        news
    }

    /// The newest frame that was taken.
    pub(super) fn place(&self) -> Option<Place> {
        self.last
    }

    /// Grows with every frame that is taken.
    pub(super) fn progress(&self) -> u64 {
        self.taken
    }
}

#[cfg(test)]
mod tests {
    use bytes::Bytes;
    use media_core::flv::TagKind;

    use super::*;

    #[test]
    fn frames_are_news_once_and_those_of_another_epoch_always() {
        let mut resume = Resume::default();
        let mut seen = |epoch, sequence| {
            resume.mark(&Mark { epoch: Epoch(epoch), sequence, media_time_ms: 0, wall_clock_ms: 0 });
            resume.is_news(&Tag {
                kind: TagKind::Video,
                timestamp_ms: 0,
                body: Bytes::new(),
                tag: Bytes::new(),
                is_keyframe: false,
                is_sequence_header: false,
                is_metadata: false,
                sequence,
            })
        };
        assert!(seen(7, 4) && seen(7, 5));
        assert!(!seen(7, 4) && !seen(7, 5) && seen(7, 6));
        // The clock of the next origin is behind.
        assert!(seen(3, 0) && seen(3, 1) && !seen(3, 1));
    }
}
