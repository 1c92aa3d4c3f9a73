//! What a request asks for, as far as it matters to whom it is put and how long the answer may take.

/// A kind of request.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// A stream's feed: answered at once.
    Relay,
    /// A playlist: the answer may wait for media that is still to come.
    Playlist,
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
    /// Of a path that the edge made.
    pub(super) fn of(path: &'a str) -> Self {
        let path = path.strip_prefix('/').unwrap_or(path);
        if let Some(stream) = path.strip_prefix("relay/") {
            return Self { kind: Kind::Relay, stream };
        }
        let end = path.match_indices('/').nth(1).map_or(path.len(), |(at, _)| at);
        let (stream, file) = path.split_at(end);
        let kind = match file.rsplit('/').next().unwrap_or_default() {
            playlist if playlist.ends_with(".m3u8") => Kind::Playlist,
            // {epoch}-{msn}.{part}.m4s
            part if part.ends_with(".m4s") && part.matches('.').count() == 2 => Kind::Part,
            _ => Kind::Object,
        };
        Self { kind, stream }
    }

    /// Whether the answer may wait for media. It takes long by right then, so that no second origin is asked meanwhile.
    pub(super) fn waits(&self) -> bool {
        matches!(self.kind, Kind::Playlist | Kind::Part)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_say_what_they_are_for() {
        for (path, kind) in [
            ("/relay/live/a", Kind::Relay),
            ("/live/a/index.m3u8", Kind::Playlist),
            ("/live/a/main/media.m3u8", Kind::Playlist),
            ("/live/a/v0/1700-12.m4s", Kind::Object),
            ("/live/a/v0/1700-12.3.m4s", Kind::Part),
            ("/live/a/v0/init-1700-1.mp4", Kind::Object),
        ] {
            assert_eq!(Question::of(path), Question { kind, stream: "live/a" }, "{path}");
        }
        assert_eq!(Question::of("").stream, "");
    }
}
