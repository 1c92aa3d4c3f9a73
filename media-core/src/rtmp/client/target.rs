//! Where a stream is: `rtmp://host[:port]/app[/more]/name[?query]`.

/// The port that RTMP URLs mean when they name none.
const DEFAULT_PORT: u16 = 1935;

/// Why a URL names no stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TargetError {
    /// Another scheme.
    #[error("the URL does not begin with rtmp://")]
    Scheme,
    /// No host, or a port that is no number.
    #[error("the URL's host or port is not valid")]
    Authority,
    /// Fewer than two path segments.
    #[error("the URL has no app and name: rtmp://host/app/name")]
    Path,
}

/// Where a stream is.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Target {
    /// Name or address to connect to, without brackets.
    pub host: String,
    /// Port to connect to.
    pub port: u16,
    /// The path but for its last segment.
    pub app: String,
    /// The path's last segment, with the query if there is one.
    pub name: String,
    /// What `connect` says: the URL without the name.
    pub tc_url: String,
}

impl Target {
    /// Takes a URL apart.
    pub fn parse(url: &str) -> Result<Self, TargetError> {
        let rest = url.strip_prefix("rtmp://").ok_or(TargetError::Scheme)?;
        let (authority, path) = rest.split_once('/').ok_or(TargetError::Path)?;
        let (host, port) = match authority.strip_prefix('[') {
            Some(v6) => {
                let (host, port) = v6.split_once(']').ok_or(TargetError::Authority)?;
                match port {
                    "" => (host, None),
                    port => (host, Some(port.strip_prefix(':').ok_or(TargetError::Authority)?)),
                }
            }
            None => match authority.split_once(':') {
                Some((host, port)) => (host, Some(port)),
                None => (authority, None),
            },
        };
        let port = match port {
            Some(port) => port.parse().map_err(|_| TargetError::Authority)?,
            None => DEFAULT_PORT,
        };
        if host.is_empty() {
            return Err(TargetError::Authority);
        }
        let (path, query) = path.split_once('?').map_or((path, None), |(p, q)| (p, Some(q)));
        let (app, name) = path.rsplit_once('/').ok_or(TargetError::Path)?;
        let app = app.trim_matches('/');
        if app.is_empty() || name.is_empty() {
            return Err(TargetError::Path);
        }
        Ok(Self {
            host: host.to_owned(),
            port,
            app: app.to_owned(),
            name: query.map_or_else(|| name.to_owned(), |query| format!("{name}?{query}")),
            tc_url: format!("rtmp://{authority}/{app}"),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_are_taken_apart() {
        let t = Target::parse("rtmp://h/live/a?key=x/y").unwrap();
        assert_eq!(
            (t.host.as_str(), t.port, t.app.as_str(), t.name.as_str()),
            ("h", 1935, "live", "a?key=x/y")
        );
        assert_eq!(t.tc_url, "rtmp://h/live");
        let t = Target::parse("rtmp://[::1]:19350/a/b/c").unwrap();
        assert_eq!((t.host.as_str(), t.port, t.app.as_str(), t.name.as_str()), ("::1", 19350, "a/b", "c"));
        assert_eq!(t.tc_url, "rtmp://[::1]:19350/a/b");
    }

    #[test]
    fn what_is_no_stream_url_says_why() {
        for (url, error) in [
            ("http://h/a/b", TargetError::Scheme),
            ("rtmp://h", TargetError::Path),
            ("rtmp://h/a", TargetError::Path),
            ("rtmp://h/a/", TargetError::Path),
            ("rtmp://h//a", TargetError::Path),
            ("rtmp:///a/b", TargetError::Authority),
            ("rtmp://h:x/a/b", TargetError::Authority),
            ("rtmp://[::1/a/b", TargetError::Authority),
            ("rtmp://[::1]9/a/b", TargetError::Authority),
        ] {
            assert_eq!(Target::parse(url), Err(error), "{url}");
        }
    }
}
