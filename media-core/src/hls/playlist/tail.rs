//! What the end of a media playlist says, for caches: they pass playlists on as text, and need to know only how far
//! the stream is and what comes next.

use crate::hls::Name;

/// The live edge of a media playlist.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Tail {
    /// The part that EXT-X-PRELOAD-HINT announces (RFC 8216bis §4.4.5.3).
    pub hint: Option<Name>,
    /// The newest object that is named, announced ones included.
    pub newest: Option<Name>,
    /// EXT-X-ENDLIST: nothing follows.
    pub ended: bool,
}

impl Tail {
    /// Reads a media playlist, as [`super::media`] writes it or as a stranger does. What it does not know, it
    /// ignores; a name that is no object's names nothing.
    pub fn read(text: &str) -> Self {
        let mut tail = Self::default();
        for line in text.lines().rev() {
            let name = if line == "#EXT-X-ENDLIST" {
                tail.ended = true;
                None
            } else if let Some(attributes) = line.strip_prefix("#EXT-X-PRELOAD-HINT:") {
                let hint = attributes.split(',').any(|a| a == "TYPE=PART").then(|| uri(attributes)).flatten();
                tail.hint = tail.hint.or(hint);
                hint
            } else if let Some(attributes) = line.strip_prefix("#EXT-X-PART:") {
                uri(attributes)
            } else {
                line.parse().ok()
            };
            tail.newest = tail.newest.or(name);
            if tail.newest.is_some() {
                break;
            }
        }
        tail
    }

    /// The publish lease of the newest object.
    pub fn epoch(&self) -> Option<u64> {
        self.newest.map(|name| match name {
            Name::Init { epoch, .. } | Name::Segment { epoch, .. } | Name::Part { epoch, .. } => epoch,
        })
    }

    /// The media sequence number of the newest object.
    pub fn msn(&self) -> Option<u64> {
        self.newest.and_then(|name| match name {
            Name::Init { .. } => None,
            Name::Segment { msn, .. } | Name::Part { msn, .. } => Some(msn),
        })
    }
}

/// The object of an attribute list's URI, if it is one of the playlist's own folder.
fn uri(attributes: &str) -> Option<Name> {
    let (_, value) = attributes.split_once("URI=\"")?;
    let (uri, _) = value.split_once('"')?;
    uri.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const PART: Name = Name::Part { epoch: 7, msn: 12, part: 3 };

    #[test]
    fn the_live_edge_is_read() {
        let text = "#EXTM3U\n#EXTINF:2,\n7-11.m4s\n#EXT-X-PART:DURATION=0.2,URI=\"7-12.2.m4s\",INDEPENDENT=YES\n\
                    #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"7-12.3.m4s\"\n\
                    #EXT-X-RENDITION-REPORT:URI=\"../a0/media.m3u8\",LAST-MSN=12,LAST-PART=2\n";
        let tail = Tail::read(text);
        assert_eq!(tail, Tail { hint: Some(PART), newest: Some(PART), ended: false });
        assert_eq!((tail.epoch(), tail.msn()), (Some(7), Some(12)));
    }

    #[test]
    fn without_a_hint_the_newest_is_a_part_or_a_segment() {
        let part = Tail::read("7-11.m4s\n#EXT-X-PART:DURATION=0.2,URI=\"7-12.3.m4s\"\n");
        assert_eq!(part, Tail { hint: None, newest: Some(PART), ended: false });
        let over = Tail::read("#EXTINF:2,\r\n7-11.m4s\r\n#EXT-X-ENDLIST\r\n");
        assert_eq!(over.newest, Some(Name::Segment { epoch: 7, msn: 11 }));
        assert!(over.ended);
        assert_eq!(Tail::read("#EXTM3U\n#EXT-X-STREAM-INF:BANDWIDTH=1\nmain/media.m3u8\n"), Tail::default());
    }

    #[test]
    fn what_is_elsewhere_is_no_hint() {
        for uri in ["http://h/7-12.3.m4s", "../7-12.3.m4s", "/7-12.3.m4s", "7-12.3.m4s?x", ""] {
            let text = format!("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"{uri}\"\n");
            assert_eq!(Tail::read(&text).hint, None, "{uri}");
        }
        assert_eq!(Tail::read("#EXT-X-PRELOAD-HINT:TYPE=MAP,URI=\"7-12.3.m4s\"").hint, None);
        assert_eq!(Tail::read("#EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"7-12.3.m4s").hint, None);
    }

    proptest! {
        #[test]
        fn nothing_upsets_it(text in "(#EXT-X-(PART|PRELOAD-HINT|ENDLIST):?|TYPE=PART|,|URI=\"|1-2.m4s|\n|.){0,24}") {
            let tail = Tail::read(&text);
            prop_assert!(tail.hint.is_none() || tail.newest.is_some());
        }
    }
}
