//! Marks: where in the stream the feed is.

use bytes::{Bytes, BytesMut};

use super::Tag;
use crate::amf0::{self, Value};
use crate::flv::{self, TagKind};
use crate::hub::Epoch;

/// The script tag's name.
const NAME: &str = "weirMark";

/// What is known of the next frame of a feed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Mark {
    /// The publish lease it came under.
    pub epoch: Epoch,
    /// Its number in the stream.
    pub sequence: u64,
    /// Its decoding time on the stream's timeline, in milliseconds; tags carry it modulo 2³².
    pub media_time_ms: i64,
    /// When the frame came to the hub, in milliseconds since 1970 (UTC).
    pub wall_clock_ms: u64,
}

impl Mark {
    /// What would be said of a later frame, by its tag. That which this was said of has the timestamp `at_ms`.
    #[must_use]
    pub fn moved_to(self, at_ms: u32, tag: &Tag) -> Self {
        let later_ms = tag.timestamp_ms.wrapping_sub(at_ms).cast_signed();
        Self {
            sequence: tag.sequence,
            media_time_ms: self.media_time_ms.saturating_add(later_ms.into()),
            wall_clock_ms: self.wall_clock_ms.saturating_add_signed(later_ms.into()),
            ..self
        }
    }

    /// The body of its script tag. AMF0's doubles are exact up to 2⁵³, which none of the numbers reaches
    /// in a thousand years.
    #[allow(clippy::cast_precision_loss, reason = "see above")]
    pub(super) fn body(&self) -> Bytes {
        let number = |key: &str, n: f64| (key.to_owned(), Value::Number(n));
        flv::script(
            NAME,
            vec![
                number("epoch", self.epoch.0 as f64),
                number("sequence", self.sequence as f64),
                number("mediaTimeMs", self.media_time_ms as f64),
                number("wallClockMs", self.wall_clock_ms as f64),
            ],
        )
    }

    /// Writes it as a script tag.
    pub fn write_tag(&self, out: &mut BytesMut, timestamp_ms: u32) {
        flv::write_tag(out, TagKind::Script, timestamp_ms, &[&self.body()]);
    }

    /// Whether a script tag is a mark.
    pub(super) fn is(body: &[u8]) -> bool {
        flv::is_script(body, NAME)
    }

    /// Reads a mark's body; `None` if a number is missing or none that it can be.
    pub(super) fn read(body: &[u8]) -> Option<Self> {
        let values = amf0::decode(body).ok()?;
        let numbers = values.get(1)?;
        let number = |key: &str| numbers.get(key).and_then(Value::as_f64);
        Some(Self {
            epoch: Epoch(whole(number("epoch")?)?),
            sequence: whole(number("sequence")?)?,
            media_time_ms: signed(number("mediaTimeMs")?)?,
            wall_clock_ms: whole(number("wallClockMs")?)?,
        })
    }
}

/// A double as the integer that it is.
#[allow(clippy::cast_possible_truncation, reason = "in the range that is checked it is exact")]
fn signed(n: f64) -> Option<i64> {
    const EXACT: f64 = (1u64 << 53) as f64;
    (n.trunc() == n && n.abs() <= EXACT).then_some(n as i64)
}

fn whole(n: f64) -> Option<u64> {
    signed(n).and_then(|n| u64::try_from(n).ok())
}
