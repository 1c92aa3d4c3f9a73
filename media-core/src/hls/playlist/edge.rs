//! The tags at the live edge: what comes next, how far the other renditions are, and the end (RFC 8216bis §4.4.5).

use super::line;
use crate::hls::Window;

pub(super) fn write(out: &mut String, window: &Window, rendition: usize) {
    if window.ended() {
        line!(out, "#EXT-X-ENDLIST");
        return;
    }
    if let Some(name) = window.hint(rendition) {
        line!(out, "#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{name}\"");
    }
    // All renditions are cut at the same moments, so all are where this one is.
    let newest = window.listed().next_back();
    let Some((msn, part)) = newest.and_then(|s| Some((s.msn, s.part_count().checked_sub(1)?))) else {
        return;
    };
    for (other, r) in window.renditions().iter().enumerate() {
        if other != rendition {
            line!(out, "#EXT-X-RENDITION-REPORT:URI=\"../{}\",LAST-MSN={msn},LAST-PART={part}", r.uri());
        }
    }
}
