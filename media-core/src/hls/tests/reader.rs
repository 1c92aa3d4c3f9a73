//! A media playlist as a player reads it: written against RFC 8216bis §4, knowing nothing of the writer.

use std::collections::BTreeMap;

/// A media playlist.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Playlist {
    pub target_duration: u64,
    pub part_target: f64,
    pub server_control: BTreeMap<String, String>,
    pub media_sequence: u64,
    pub discontinuity_sequence: u64,
    pub skipped: u64,
    pub segments: Vec<Segment>,
    /// Parts of the segment that is not whole yet stand in the last segment, which then has no URI.
    pub hints: Vec<String>,
    /// URI, LAST-MSN, LAST-PART.
    pub reports: Vec<(String, u64, u64)>,
    pub ended: bool,
    /// The lines before the first segment (and before EXT-X-SKIP).
    pub head: String,
    /// The lines behind the last segment.
    pub tail: String,
}

#[derive(Debug, Clone, Default, PartialEq)]
pub struct Segment {
    pub msn: u64,
    pub discontinuity: bool,
    /// The map in effect.
    pub map: String,
    pub date_time: Option<String>,
    pub gap: bool,
    pub parts: Vec<Part>,
    pub extinf: Option<f64>,
    pub uri: Option<String>,
    /// Its lines as they stand there.
    pub lines: String,
}

#[derive(Debug, Clone, PartialEq)]
pub struct Part {
    pub duration: f64,
    pub uri: String,
    pub independent: bool,
    pub gap: bool,
}

impl Playlist {
    pub fn read(text: &str) -> Self {
        let mut out = Self::default();
        let mut lines = text.split_inclusive('\n');
        assert_eq!(lines.next(), Some("#EXTM3U\n"));
        out.head.push_str("#EXTM3U\n");
        let mut segment = Segment::default();
        let mut map = String::new();
        let mut msn = None;
        for line in lines {
            let bare = line.strip_suffix('\n').expect("every line ends");
            let (tag, value) = bare.split_once(':').unwrap_or((bare, ""));
            match tag {
                "#EXT-X-VERSION" | "#EXT-X-INDEPENDENT-SEGMENTS" => out.head.push_str(line),
                "#EXT-X-TARGETDURATION" => {
                    out.target_duration = value.parse().unwrap();
                    out.head.push_str(line);
                }
                "#EXT-X-SERVER-CONTROL" => {
                    out.server_control = attributes(value);
                    out.head.push_str(line);
                }
                "#EXT-X-PART-INF" => {
                    out.part_target = attributes(value)["PART-TARGET"].parse().unwrap();
                    out.head.push_str(line);
                }
                "#EXT-X-MEDIA-SEQUENCE" => {
                    out.media_sequence = value.parse().unwrap();
                    msn = Some(out.media_sequence);
                    out.head.push_str(line);
                }
                "#EXT-X-DISCONTINUITY-SEQUENCE" => {
                    out.discontinuity_sequence = value.parse().unwrap();
                    out.head.push_str(line);
                }
                "#EXT-X-SKIP" => {
                    assert!(out.segments.is_empty() && segment == Segment::default());
                    out.skipped = attributes(value)["SKIPPED-SEGMENTS"].parse().unwrap();
                    msn = msn.map(|m| m + out.skipped);
                }
                "#EXT-X-DISCONTINUITY" => {
                    segment.discontinuity = true;
                    segment.lines.push_str(line);
                }
                "#EXT-X-MAP" => {
                    map = attributes(value)["URI"].clone();
                    segment.lines.push_str(line);
                }
                "#EXT-X-PROGRAM-DATE-TIME" => {
                    segment.date_time = Some(value.to_owned());
                    segment.lines.push_str(line);
                }
                "#EXT-X-GAP" => {
                    segment.gap = true;
                    segment.lines.push_str(line);
                }
                "#EXT-X-PART" => {
                    let attributes = attributes(value);
                    let yes = |name: &str| attributes.get(name).is_some_and(|v| v == "YES");
                    segment.parts.push(Part {
                        duration: attributes["DURATION"].parse().unwrap(),
                        uri: attributes["URI"].clone(),
                        independent: yes("INDEPENDENT"),
                        gap: yes("GAP"),
                    });
                    segment.lines.push_str(line);
                }
                "#EXTINF" => {
                    segment.extinf = Some(value.strip_suffix(',').unwrap().parse().unwrap());
                    segment.lines.push_str(line);
                }
                "#EXT-X-PRELOAD-HINT" => {
                    let attributes = attributes(value);
                    assert_eq!(attributes["TYPE"], "PART");
                    out.hints.push(attributes["URI"].clone());
                    out.tail.push_str(line);
                }
                "#EXT-X-RENDITION-REPORT" => {
                    let attributes = attributes(value);
                    let number = |name: &str| attributes[name].parse().unwrap();
                    out.reports.push((attributes["URI"].clone(), number("LAST-MSN"), number("LAST-PART")));
                    out.tail.push_str(line);
                }
                "#EXT-X-ENDLIST" => {
                    out.ended = true;
                    out.tail.push_str(line);
                }
                _ => {
                    assert!(!bare.starts_with('#') && !bare.is_empty(), "{bare:?}");
                    segment.lines.push_str(line);
                    segment.uri = Some(bare.to_owned());
                    segment.map.clone_from(&map);
                    segment.msn = msn.expect("EXT-X-MEDIA-SEQUENCE comes first");
                    msn = msn.map(|m| m + 1);
                    out.segments.push(std::mem::take(&mut segment));
                }
            }
        }
        if segment != Segment::default() {
            segment.map = map;
            segment.msn = msn.expect("EXT-X-MEDIA-SEQUENCE comes first");
            out.segments.push(segment);
        }
        out
    }

    /// What a player has after it got this delta update on top of a playlist, as text.
    pub fn updated_by(&self, delta: &Self) -> String {
        if delta.skipped == 0 {
            return delta.text();
        }
        let first = delta.media_sequence;
        let skipped = self.segments.iter().filter(|s| (first..first + delta.skipped).contains(&s.msn));
        let skipped: Vec<Segment> = skipped.cloned().collect();
        assert_eq!(skipped.len() as u64, delta.skipped, "the base must have what the delta leaves out");
        let mut merged = delta.clone();
        for segment in &mut merged.segments {
            if segment.map.is_empty() {
                // The map of what was skipped goes on.
                segment.map.clone_from(&skipped.last().unwrap().map);
            }
        }
        merged.segments.splice(0..0, skipped);
        merged.text()
    }

    /// The text, with EXT-X-MAP where it changes.
    fn text(&self) -> String {
        let mut out = self.head.clone();
        let mut map = "";
        for segment in &self.segments {
            for line in segment.lines.split_inclusive('\n') {
                if line.starts_with("#EXT-X-MAP") {
                    continue;
                }
                if segment.map != map && !line.starts_with("#EXT-X-DISCONTINUITY") {
                    out.push_str(&format!("#EXT-X-MAP:URI=\"{}\"\n", segment.map));
                    map = &segment.map;
                }
                out.push_str(line);
            }
        }
        out + &self.tail
    }

    pub fn hint(&self) -> &str {
        assert_eq!(self.hints.len(), 1, "one hint of a type");
        &self.hints[0]
    }

    /// Parts in their order, with the segment's number and their own.
    pub fn parts(&self) -> impl Iterator<Item = (u64, usize, &Part)> {
        self.segments.iter().flat_map(|s| s.parts.iter().enumerate().map(move |(i, p)| (s.msn, i, p)))
    }

    /// What holds for every playlist, whatever was published.
    pub fn assert_legal(&self) {
        let control = |name: &str| -> f64 { self.server_control[name].parse().unwrap() };
        let target = self.target_duration as f64;
        assert_eq!(self.server_control["CAN-BLOCK-RELOAD"], "YES");
        assert!(control("PART-HOLD-BACK") >= 3.0 * self.part_target - 1e-9);
        assert!(control("HOLD-BACK") >= 3.0 * target);
        assert!(control("CAN-SKIP-UNTIL") >= 6.0 * target);
        assert!(self.part_target <= target);
        let mut from_end: f64 = self
            .segments
            .iter()
            .map(|s| s.extinf.unwrap_or_else(|| s.parts.iter().map(|p| p.duration).sum()))
            .sum();
        for segment in &self.segments {
            assert!(segment.date_time.is_some());
            assert_eq!(segment.uri.is_some(), segment.extinf.is_some());
            let sum: f64 = segment.parts.iter().map(|p| p.duration).sum();
            if let Some(extinf) = segment.extinf {
                assert!(extinf > 0.0 && extinf.round() <= target, "EXTINF {extinf}");
                if !segment.parts.is_empty() {
                    assert!((sum - extinf).abs() <= 0.001, "{sum} ≠ {extinf}");
                }
            }
            if !segment.parts.is_empty() {
                let first = segment.parts[0].duration;
                assert!(from_end - first <= 3.0 * target + 0.001, "parts {from_end} s from the end");
            }
            for (i, part) in segment.parts.iter().enumerate() {
                assert!(part.duration <= self.part_target + 1e-9, "{} > {}", part.duration, self.part_target);
                let last = segment.uri.is_some() && i + 1 == segment.parts.len();
                assert!(
                    last || part.duration >= 0.85 * self.part_target - 1e-5,
                    "{} is below 85 % of {}",
                    part.duration,
                    self.part_target
                );
            }
            from_end -= segment.extinf.unwrap_or(sum);
        }
        if self.ended {
            assert!(self.hints.is_empty());
        }
        assert!(self.hints.len() <= 1);
    }
}

/// An attribute list (§4.2), quotes removed.
pub fn attributes(text: &str) -> BTreeMap<String, String> {
    let mut out = BTreeMap::new();
    let mut rest = text;
    while !rest.is_empty() {
        let (name, after) = rest.split_once('=').expect("name=value");
        let (value, after) = match after.strip_prefix('"') {
            Some(quoted) => {
                let (value, after) = quoted.split_once('"').expect("a closing quote");
                (value, after.strip_prefix(',').unwrap_or(after))
            }
            None => after.split_once(',').unwrap_or((after, "")),
        };
        assert!(out.insert(name.to_owned(), value.to_owned()).is_none(), "{name} comes twice");
        rest = after;
    }
    out
}
