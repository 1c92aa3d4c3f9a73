//! What tells answers apart: the path in one spelling, and the `_HLS_*` directives in one order (RFC 8216bis §6.2.5).
//!
//! Nothing else of a request reaches the key or the upstream: not other parameters of the query (a grant, a
//! session), no header. Text is asked for as it is, whatever coding a viewer takes: the cache compresses it, once.

use std::fmt;

use media_core::hls::{Name, Query, QueryError};

/// The playlist of playlists, which takes no directives.
const MULTIVARIANT: &str = "index.m3u8";

/// What an answer is. The labels of metrics.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Kind {
    /// A playlist as it is now.
    Playlist,
    /// A playlist that waits for a segment or part.
    Blocking,
    /// An init segment.
    Init,
    /// A segment.
    Segment,
    /// A part.
    Part,
}

impl Kind {
    pub(crate) const ALL: [Self; 5] = [Self::Playlist, Self::Blocking, Self::Init, Self::Segment, Self::Part];

    /// As metrics call it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Playlist => "playlist",
            Self::Blocking => "blocking",
            Self::Init => "init",
            Self::Segment => "segment",
            Self::Part => "part",
        }
    }

    /// Where it stands in [`Self::ALL`].
    pub(crate) fn index(self) -> usize {
        match self {
            Self::Playlist => 0,
            Self::Blocking => 1,
            Self::Init => 2,
            Self::Segment => 3,
            Self::Part => 4,
        }
    }

    /// It changes, and is text.
    pub(crate) fn is_playlist(self) -> bool {
        matches!(self, Self::Playlist | Self::Blocking)
    }
}

/// What distinguishes answers.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Key {
    path: String,
    query: Query,
    kind: Kind,
}

impl Key {
    /// The key of a path, escaped in one way, and a request's query. Fails where a directive is malformed.
    pub(crate) fn new(path: &str, query: &str) -> Result<Self, QueryError> {
        let file = path.rsplit('/').next().unwrap_or_default();
        let takes_directives = file.ends_with(".m3u8") && file != MULTIVARIANT;
        let query = if takes_directives { Query::parse(query)? } else { Query::default() };
        let kind = match (file.ends_with(".m3u8"), file.parse()) {
            (true, _) if query.blocks() => Kind::Blocking,
            (true, _) => Kind::Playlist,
            (false, Ok(Name::Part { .. })) => Kind::Part,
            (false, Ok(Name::Init { .. })) => Kind::Init,
            (false, Ok(Name::Segment { .. }) | Err(_)) => Kind::Segment,
        };
        Ok(Self { path: path.to_owned(), query, kind })
    }

    /// An object in the folder of the playlist that this is.
    pub(crate) fn beside(&self, name: Name) -> Self {
        let kind = match name {
            Name::Init { .. } => Kind::Init,
            Name::Segment { .. } => Kind::Segment,
            Name::Part { .. } => Kind::Part,
        };
        Self { path: format!("{}/{name}", self.folder()), query: Query::default(), kind }
    }

    /// The same playlist as it is now, whole.
    pub(crate) fn plain(&self) -> Self {
        Self { path: self.path.clone(), query: Query::default(), kind: Kind::Playlist }
    }

    pub(crate) fn path(&self) -> &str {
        &self.path
    }

    /// The path without its last segment.
    pub(crate) fn folder(&self) -> &str {
        self.path.rsplit_once('/').map_or("", |(folder, _)| folder)
    }

    /// The stream, as the path begins with it: `/app/name`.
    pub(crate) fn stream(&self) -> &str {
        let end = self.path.match_indices('/').nth(2).map_or(self.path.len(), |(at, _)| at);
        self.path.get(..end).unwrap_or_default()
    }

    /// It is the playlist that players of a stream begin with.
    pub(crate) fn is_first(&self) -> bool {
        self.path.strip_prefix(self.stream()).and_then(|file| file.strip_prefix('/')) == Some(MULTIVARIANT)
    }

    pub(crate) fn query(&self) -> Query {
        self.query
    }

    pub(crate) fn kind(&self) -> Kind {
        self.kind
    }
}

/// As the upstream is asked for it.
impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)?;
        if self.query == Query::default() {
            return Ok(());
        }
        write!(f, "?{}", self.query)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const MEDIA: &str = "/live/a/v0/media.m3u8";

    #[test]
    fn what_means_the_same_has_one_key() {
        let key = Key::new(MEDIA, "_HLS_msn=7&_HLS_part=2").unwrap();
        for spelled in ["_HLS_part=02&_HLS_msn=007", "grant=x&_HLS_msn=7&&_HLS_part=2&_HLS_primary_id=1"] {
            assert_eq!(Key::new(MEDIA, spelled), Ok(key.clone()), "{spelled}");
        }
        assert_eq!(key.to_string(), format!("{MEDIA}?_HLS_msn=7&_HLS_part=2"));
        assert_eq!(key.kind(), Kind::Blocking);
        assert_eq!(key.plain(), Key::new(MEDIA, "grant=x").unwrap());
        assert_ne!(key, Key::new(MEDIA, "_HLS_msn=7").unwrap());
        assert_ne!(key, Key::new(MEDIA, "_HLS_msn=7&_HLS_part=2&_HLS_skip=YES").unwrap());
    }

    #[test]
    fn a_streams_files_begin_with_its_path() {
        for (path, first) in [("/live/a/index.m3u8", true), ("/live/a/x/index.m3u8", false), (MEDIA, false)] {
            let key = Key::new(path, "").unwrap();
            assert_eq!((key.stream(), key.is_first()), ("/live/a", first), "{path}");
        }
    }

    #[test]
    fn only_media_playlists_take_directives() {
        for path in ["/live/a/index.m3u8", "/live/a/v0/1-7.2.m4s"] {
            let key = Key::new(path, "_HLS_msn=x&_HLS_part=1").unwrap();
            assert_eq!(key.to_string(), path);
        }
        assert!(Key::new(MEDIA, "_HLS_part=1").is_err());
    }

    #[test]
    fn kinds_are_told_by_the_name() {
        for (path, kind) in [
            ("/live/a/index.m3u8", Kind::Playlist),
            (MEDIA, Kind::Playlist),
            ("/live/a/v0/init-1-0.mp4", Kind::Init),
            ("/live/a/v0/1-7.m4s", Kind::Segment),
            ("/live/a/v0/1-7.2.m4s", Kind::Part),
        ] {
            assert_eq!(Key::new(path, "").unwrap().kind(), kind, "{path}");
        }
        let name = Name::Part { epoch: 1, msn: 7, part: 2 };
        assert_eq!(Key::new(MEDIA, "").unwrap().beside(name), Key::new("/live/a/v0/1-7.2.m4s", "").unwrap());
        assert!(Kind::ALL.iter().enumerate().all(|(i, kind)| kind.index() == i));
    }

    proptest! {
        /// Order, other parameters and leading zeros never matter; the key's own spelling gives the same key.
        #[test]
        fn a_key_does_not_depend_on_the_spelling(
            msn in any::<u64>(),
            part in proptest::option::of(any::<u32>()),
            skip in any::<bool>(),
            noise in "[a-z]{1,4}=[a-z0-9%]{0,4}",
            zeros in 0..4usize,
            turn in 0..4usize,
        ) {
            let mut pairs = vec![format!("_HLS_msn={}{msn}", "0".repeat(zeros)), noise];
            pairs.extend(part.map(|part| format!("_HLS_part={part}")));
            pairs.extend(skip.then(|| "_HLS_skip=v2".to_owned()));
            let turn = turn % pairs.len();
            pairs.rotate_left(turn);
            let key = Key::new(MEDIA, &pairs.join("&")).unwrap();
            prop_assert_eq!(key.query(), Query { msn: Some(msn), part, skip });
            let uri = key.to_string();
            let (path, query) = uri.split_once('?').unwrap();
            prop_assert_eq!(Key::new(path, query).unwrap(), key);
        }
    }
}
