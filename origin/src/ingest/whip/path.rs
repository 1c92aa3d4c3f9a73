//! The paths of WHIP.

/// A path taken apart, its segments still escaped.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Path<'a> {
    pub(super) app: &'a str,
    pub(super) name: &'a str,
    /// `/{app}/{name}/whip`
    pub(super) endpoint: &'a str,
    pub(super) session: Option<&'a str>,
}

/// Whether a path is for WHIP.
pub fn is_whip(path: &str) -> bool {
    parse(path).is_some()
}

pub(super) fn parse(path: &str) -> Option<Path<'_>> {
    let mut segments = path.strip_prefix('/')?.split('/');
    let (app, name, whip) = (segments.next()?, segments.next()?, segments.next()?);
    let session = segments.next();
    if whip != "whip" || app.is_empty() || name.is_empty() || segments.next().is_some() {
        return None;
    }
    let length = 3 + app.len() + name.len() + whip.len();
    Some(Path { app, name, endpoint: path.get(..length)?, session })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints_and_sessions_are_told_apart() {
        let path = parse("/live/a%20b/whip").unwrap();
        assert_eq!(path, Path { app: "live", name: "a%20b", endpoint: "/live/a%20b/whip", session: None });
        let path = parse("/live/a/whip/xyz").unwrap();
        assert_eq!((path.endpoint, path.session), ("/live/a/whip", Some("xyz")));
        for other in ["/live/a", "/live/a/whep", "/live/a/whip/x/y", "//a/whip", "/whip", "", "live/a/whip"] {
            assert_eq!(parse(other), None, "{other}");
        }
    }
}
