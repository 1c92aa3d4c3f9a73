//! Media playlist tags: what holds for the whole playlist (RFC 8216bis §4.4.3).

use super::{Seconds, line};
use crate::hls::Window;

/// Protocol version: EXT-X-SKIP needs 9 (§8).
const VERSION: u32 = 9;
/// CAN-SKIP-UNTIL in target durations, the least that is allowed (§4.4.3.8).
const SKIP_UNTIL: u32 = 6;
/// HOLD-BACK in target durations and PART-HOLD-BACK in part targets, the least that is allowed.
const HOLD_BACK: u32 = 3;

/// How far from the end a segment must be to be left out of a delta update.
pub(super) fn skip_until(window: &Window) -> std::time::Duration {
    window.config().target_duration() * SKIP_UNTIL
}

pub(super) fn write(out: &mut String, window: &Window) {
    let target = window.config().target_duration();
    let part_target = window.part_target();
    line!(out, "#EXTM3U");
    line!(out, "#EXT-X-VERSION:{VERSION}");
    line!(out, "#EXT-X-TARGETDURATION:{}", target.as_secs());
    line!(
        out,
        "#EXT-X-SERVER-CONTROL:CAN-BLOCK-RELOAD=YES,CAN-SKIP-UNTIL={},HOLD-BACK={},PART-HOLD-BACK={}",
        Seconds(skip_until(window)),
        Seconds(target * HOLD_BACK),
        Seconds(part_target * HOLD_BACK)
    );
    line!(out, "#EXT-X-PART-INF:PART-TARGET={}", Seconds(part_target));
    let first = window.listed().next().map_or(1, |s| s.msn);
    line!(out, "#EXT-X-MEDIA-SEQUENCE:{first}");
    line!(out, "#EXT-X-DISCONTINUITY-SEQUENCE:{}", window.discontinuity_sequence());
}
