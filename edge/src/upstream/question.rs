//! What a request asks for, as far as it matters to whom it is put and how long the answer may take.

use http::Uri;
use media_core::hls::Query;

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A stream's feed: answered at once.
    Relay,
    /// A playlist as it is now: answered at once, unless the stream has no segment yet.
    Playlist,
    /// A playlist that waits for media that is still to come.
    Reload,
    /// A part: the same, once it is announced.
    Part,
    /// A segment or init segment, which never changes: answered at once.
    Object,
}

/// What is asked.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Question<'a> {
    pub(super) kind: Kind,
    /// `app/name`, as it stands in the path: the edge writes each in one way.
    pub(super) stream: &'a str,
}

impl<'a> Question<'a> {
    /// Of an address that the edge made.
    pub(super) fn of(uri: &'a Uri) -> Self {
        let path = uri.path();
        let path = path.strip_prefix('/').unwrap_or(path);
        if let Some(stream) = path.strip_prefix("relay/") {
            return Self { kind: Kind::Relay, stream };
        }
        let end = path.match_indices('/').nth(1).map_or(path.len(), |(at, _)| at);
        let (stream, file) = path.split_at(end);
        let kind = match file.rsplit('/').next().unwrap_or_default() {
            playlist if playlist.ends_with(".m3u8") => {
                let query = Query::parse(uri.query().unwrap_or_default());
                if query.is_ok_and(|query| query.blocks()) { Kind::Reload } else { Kind::Playlist }
            }
            // {epoch}-{msn}.{part}.m4s
            part if part.ends_with(".m4s") && part.matches('.').count() == 2 => Kind::Part,
            _ => Kind::Object,
        };
        Self { kind, stream }
    }

    /// Whether the answer may wait for media: it takes long by right then.
    pub(super) fn may_wait(&self) -> bool {
        matches!(self.kind, Kind::Playlist | Kind::Reload | Kind::Part)
    }

    /// Whether it mostly does, so that no second origin is asked meanwhile.
    pub(super) fn waits(&self) -> bool {
        matches!(self.kind, Kind::Reload | Kind::Part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_they_are_for() {
        for (asked, kind) in [
            ("/relay/live/a?after=1-7", Kind::Relay),
            ("/live/a/index.m3u8", Kind::Playlist),
            ("/live/a/main/media.m3u8", Kind::Playlist),
            ("/live/a/main/media.m3u8?_HLS_skip=YES", Kind::Playlist),
            ("/live/a/main/media.m3u8?_HLS_msn=7&_HLS_part=2", Kind::Reload),
            ("/live/a/v0/1700-12.m4s", Kind::Object),
            ("/live/a/v0/1700-12.3.m4s", Kind::Part),
            ("/live/a/v0/init-1700-1.mp4", Kind::Object),
        ] {
            let uri = Uri::from_static(asked);
            assert_eq!(Question::of(&uri), Question { kind, stream: "live/a" }, "{asked}");
        }
        assert_eq!(Question::of(&Uri::from_static("/")).stream, "");
    }
}
