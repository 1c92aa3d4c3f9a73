//! What a path asks for.
//!
//! A path is taken apart and each segment decoded once; whatever could mean something else further on
//! (dot segments, escaped slashes, control characters) is refused here.

use std::borrow::Cow;

use control_api::RESERVED_APPS;
use media_core::hub::{KeyError, StreamKey};
use percent_encoding::percent_decode_str;

use crate::upstream::segment;

/// Longest path. The longest stream key has 265 bytes, each escaped by three at most.
const MAX_PATH_BYTES: usize = 2_048;

/// Segments of the deepest HLS path: app, name, rendition, file.
const MAX_HLS_SEGMENTS: usize = 4;

/// What is asked for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Route {
    /// The stream, as long as it lasts.
    Live(Container, StreamKey),
    /// A file of the stream's HLS.
    Hls(HlsFile),
    /// The stream as another edge pulls it.
    Relay(StreamKey),
    /// Where the stream is watched by WebRTC, or such a session.
    Whep(StreamKey, Option<String>),
    /// Where a stream is published by WebRTC, or such a session: for those who take streams in.
    Whip,
    /// A page, or the API.
    Pages,
    /// Nothing that there is.
    Unknown,
}

/// How a live stream is wrapped.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Container {
    /// FLV with enhanced tags; also over WebSockets.
    Flv,
    /// MPEG-TS.
    Ts,
}

impl Container {
    /// Of a file's name, and what the stream is called then.
    fn of(file: &str) -> Option<(Self, &str)> {
        let flv = file.strip_suffix(".flv").map(|name| (Self::Flv, name));
        flv.or_else(|| file.strip_suffix(".ts").map(|name| (Self::Ts, name)))
    }

    /// What logs, spans and sessions call it.
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Flv => "flv",
            Self::Ts => "ts",
        }
    }

    /// The media type of a response.
    pub(super) const fn media_type(self) -> &'static str {
        match self {
            Self::Flv => "video/x-flv",
            Self::Ts => "video/mp2t",
        }
    }
}

/// A playlist, part, segment or init segment.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct HlsFile {
    /// Its stream.
    pub(super) key: StreamKey,
    /// The whole path, escaped in one way.
    pub(super) path: String,
    /// A playlist: it changes, takes `_HLS_*` and compresses well.
    pub(super) playlist: bool,
}

impl HlsFile {
    /// What a player asks for first, and mostly once.
    pub(super) fn is_multivariant(&self) -> bool {
        self.path.ends_with("/index.m3u8") && self.path.matches('/').count() == 3
    }
}

/// Why a path can't be asked for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum BadPath {
    /// Longer than any that is known.
    #[error("the path is longer than {MAX_PATH_BYTES} bytes")]
    TooLong,
    /// A segment is not what it seems.
    #[error("the path has a dot segment, an escaped slash or a character that is not text")]
    Segment,
    /// App or name can't be a stream's.
    #[error("{0}")]
    Key(#[from] KeyError),
}

/// Takes a path apart.
pub(super) fn route(path: &str) -> Result<Route, BadPath> {
    if path.len() > MAX_PATH_BYTES {
        return Err(BadPath::TooLong);
    }
    let Some(rest) = path.strip_prefix('/') else { return Ok(Route::Unknown) };
    let segments = rest.split('/').map(decode).collect::<Result<Vec<_>, _>>()?;
    let [app, tail @ ..] = segments.as_slice() else { return Ok(Route::Unknown) };
    if let ("relay", [app, name]) = (app.as_ref(), tail) {
        return Ok(Route::Relay(StreamKey::parse(app, name, RESERVED_APPS)?));
    }
    if rest.is_empty() || RESERVED_APPS.contains(&app.as_ref()) {
        return Ok(Route::Pages);
    }
    match tail {
        [name, protocol] | [name, protocol, _] if matches!(protocol.as_ref(), "whip" | "whep") => {
            let key = StreamKey::parse(app, name, RESERVED_APPS)?;
            let session = tail.get(2).map(|session| session.clone().into_owned());
            Ok(if protocol == "whip" { Route::Whip } else { Route::Whep(key, session) })
        }
        [file] => match Container::of(file) {
            Some((container, name)) => {
                Ok(Route::Live(container, StreamKey::parse(app, name, RESERVED_APPS)?))
            }
            None => Ok(Route::Unknown),
        },
        [name, .., file] => {
            let playlist = file.ends_with(".m3u8");
            let is_hls = playlist || file.ends_with(".m4s") || file.ends_with(".mp4");
            if !is_hls || segments.len() > MAX_HLS_SEGMENTS || tail.iter().any(|s| s.is_empty()) {
                return Ok(Route::Unknown);
            }
            let key = StreamKey::parse(app, name, RESERVED_APPS)?;
            let path = segments.iter().fold(String::with_capacity(path.len()), |mut path, text| {
                path.push('/');
                path.extend(segment(text));
                path
            });
            Ok(Route::Hls(HlsFile { key, path, playlist }))
        }
        [] => Ok(Route::Unknown),
    }
}

fn decode(raw: &str) -> Result<Cow<'_, str>, BadPath> {
    let text = percent_decode_str(raw).decode_utf8().map_err(|_| BadPath::Segment)?;
    let odd = |c: char| c == '/' || c == '\\' || c.is_control();
    if text == "." || text == ".." || text.contains(odd) {
        return Err(BadPath::Segment);
    }
    Ok(text)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn key(app: &str, name: &str) -> StreamKey {
        StreamKey::parse(app, name, &[]).unwrap()
    }

    #[test]
    fn paths_lead_where_they_say() {
        let live = |container, name| Ok(Route::Live(container, key("live", name)));
        assert_eq!(route("/live/a.flv"), live(Container::Flv, "a"));
        assert_eq!(route("/live/a.b.flv"), live(Container::Flv, "a.b"));
        assert_eq!(route("/live/%61.flv"), live(Container::Flv, "a"));
        assert_eq!(route("/live/a.ts"), live(Container::Ts, "a"));
        assert_eq!(route("/live/a.flv.ts"), live(Container::Ts, "a.flv"));
        assert_eq!(route("/relay/live/a"), Ok(Route::Relay(key("live", "a"))));
        assert_eq!(route("/relay/live"), Ok(Route::Pages));
        assert_eq!(route("/"), Ok(Route::Pages));
        assert_eq!(route("/api/v1/streams"), Ok(Route::Pages));
        assert_eq!(route("/watch/live/a"), Ok(Route::Pages));
        assert_eq!(route("/watch/"), Ok(Route::Pages));
        assert_eq!(route("/live"), Ok(Route::Unknown));
        assert_eq!(route("/live/a"), Ok(Route::Unknown));
        assert_eq!(route("/live/a/b.flv"), Ok(Route::Unknown));
        assert_eq!(route("/live/a/v0/x/media.m3u8"), Ok(Route::Unknown));
        assert_eq!(route("*"), Ok(Route::Unknown));
        assert_eq!(route(""), Ok(Route::Unknown));
        let Ok(Route::Hls(file)) = route("/live/%C3%A4/v0/m%65dia.m3u8") else { panic!("not HLS") };
        assert_eq!(file.key, key("live", "ä"));
        assert_eq!(file.path, "/live/%C3%A4/v0/media.m3u8");
        assert!(file.playlist && !file.is_multivariant());
        for (path, is) in [("/live/a/index.m3u8", true), ("/live/a/v0/index.m3u8", false)] {
            let Ok(Route::Hls(file)) = route(path) else { panic!("not HLS") };
            assert_eq!(file.is_multivariant(), is, "{path}");
        }
    }

    #[test]
    fn tricks_are_refused() {
        for path in [
            "/live/../a.flv",
            "/live/%2e%2e/index.m3u8",
            "/live/a%2fb.flv",
            "/live/a%2Fb/index.m3u8",
            "/live/a%00.flv",
            "/live/a\\b.flv",
            "/live/%ff.flv",
            "/live/./index.m3u8",
            "/assets/../secret",
            "/assets/%2e%2e/secret",
        ] {
            assert_eq!(route(path), Err(BadPath::Segment), "{path}");
        }
        for path in ["/live/.flv", "//a.flv", "/live/%252e.flv", "/live/ a.flv", "/live/.hidden.flv"] {
            assert!(matches!(route(path), Err(BadPath::Key(_))), "{path}: {:?}", route(path));
        }
        let long = format!("/live/{}.flv", "a".repeat(8 * 1024));
        assert_eq!(route(&long), Err(BadPath::TooLong));
        let longish = format!("/live/{}.flv", "a".repeat(1024));
        assert!(matches!(route(&longish), Err(BadPath::Key(KeyError::TooLong { .. }))));
    }

    proptest! {
        /// What goes upstream names a stream and stays below it.
        #[test]
        fn no_path_leaves_its_stream(path in "/(live|%2e|[.%2eEfF/\\\\a]{0,6})/[.%2eEfF0a/]{0,8}/[a./%]{0,4}(index.m3u8|x.m4s)") {
            if let Ok(Route::Hls(file)) = route(&path) {
                let below = format!("/{}/{}/", segment(file.key.app()), segment(file.key.name()));
                prop_assert!(file.path.starts_with(&below));
                prop_assert!(file.path.split('/').all(|s| s != ".." && s != "."));
            }
        }

        /// Anything at all is answered.
        #[test]
        fn nothing_upsets_it(path in ".*") {
            let _ = route(&path);
        }
    }
}
