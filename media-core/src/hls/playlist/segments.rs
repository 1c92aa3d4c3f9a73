//! Media segment tags: segments, their parts and what applies to them (RFC 8216bis §4.4.4), and EXT-X-SKIP (§4.4.5.2).

use std::time::Duration;

use super::{Form, Seconds, header, line};
use crate::hls::{Name, Segment, Window};

/// EXT-X-PART lines further than this many target durations from the end are left out (§6.2.2).
const PARTS_LISTED: u32 = 3;

pub(super) fn write(out: &mut String, window: &Window, rendition: usize, form: Form) {
    let parts_listed = window.config().target_duration() * PARTS_LISTED;
    let skip_until = header::skip_until(window);
    let skipping = form == Form::Delta && !window.ended();
    // Distance of the segment's start from the end of the playlist.
    let mut from_end: Duration = window.listed().map(Segment::duration).sum();
    let mut skipped = 0u32;
    let mut before: Option<&Segment> = None;
    for segment in window.listed() {
        let end = from_end.saturating_sub(segment.duration());
        if skipping && end > skip_until {
            skipped += 1;
        } else {
            if skipped > 0 {
                line!(out, "#EXT-X-SKIP:SKIPPED-SEGMENTS={skipped}");
                skipped = 0;
            }
            let first_part = segment.parts.first().map_or(Duration::ZERO, |p| p.duration);
            let with_parts = from_end.saturating_sub(first_part) <= parts_listed;
            segment_lines(out, segment, before, rendition, with_parts);
        }
        before = Some(segment);
        from_end = end;
    }
}

fn segment_lines(
    out: &mut String,
    s: &Segment,
    before: Option<&Segment>,
    rendition: usize,
    with_parts: bool,
) {
    let epoch = s.layout.epoch;
    if s.discontinuity {
        line!(out, "#EXT-X-DISCONTINUITY");
    }
    if before.is_none_or(|b| b.layout.version != s.layout.version) {
        let has_init = s.layout.renditions.get(rendition).is_some_and(|r| !r.init.is_empty());
        if has_init {
            let name = Name::Init { epoch, version: s.layout.version };
            line!(out, "#EXT-X-MAP:URI=\"{name}\"");
        }
    }
    line!(out, "#EXT-X-PROGRAM-DATE-TIME:{}", DateTime(s.program_date_time_ms()));
    if s.complete && s.has_gap(rendition) {
        line!(out, "#EXT-X-GAP");
    }
    if with_parts {
        for (part, p) in (0u32..).zip(&s.parts) {
            let media = p.media.get(rendition);
            let independent = if media.is_some_and(|m| m.independent) { ",INDEPENDENT=YES" } else { "" };
            let gap = if media.is_none_or(|m| m.gap) { ",GAP=YES" } else { "" };
            let name = Name::Part { epoch, msn: s.msn, part };
            line!(out, "#EXT-X-PART:DURATION={},URI=\"{name}\"{independent}{gap}", Seconds(p.duration));
        }
    }
    if s.complete {
        line!(out, "#EXTINF:{},", Seconds(s.duration()));
        line!(out, "{}", Name::Segment { epoch, msn: s.msn });
    }
}

/// Milliseconds since 1970 as ISO 8601 in UTC.
struct DateTime(i64);

impl std::fmt::Display for DateTime {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (days, ms) = (self.0.div_euclid(86_400_000), self.0.rem_euclid(86_400_000));
        let (year, month, day) = civil(days);
        let (h, m, s) = (ms / 3_600_000, ms / 60_000 % 60, ms / 1_000 % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{h:02}:{m:02}:{s:02}.{:03}Z", ms % 1_000)
    }
}

/// The Gregorian date of a day counted from 1970-01-01, by counting in 400-year eras that begin on March 1st.
fn civil(days: i64) -> (i64, i64, i64) {
    let days = days.saturating_add(719_468);
    let (era, day_of_era) = (days.div_euclid(146_097), days.rem_euclid(146_097));
    let year_of_era = (day_of_era - day_of_era / 1_460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + i64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates_are_iso_8601_in_utc() {
        for (ms, text) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (1_709_164_799_999, "2024-02-28T23:59:59.999Z"),
            (4_102_444_800_001, "2100-01-01T00:00:00.001Z"),
            (-1, "1969-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(DateTime(ms).to_string(), text);
        }
    }
}
