//! A stream's name: app and name, the two path segments that every protocol addresses it by.

use std::fmt;
use std::hash::{Hash, Hasher};
use std::sync::Arc;

/// What errors call the first part.
const APP: &str = "app";
/// Longest app, in bytes: a path segment that people type.
const MAX_APP_LEN: usize = 64;
/// Longest stream name, in bytes: file systems and CDNs take 255 for a path segment.
const MAX_NAME_LEN: usize = 200;

/// Why an app or a name can't be used.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyError {
    /// It is empty.
    #[error("the {part} is empty")]
    Empty {
        /// `app` or `stream name`.
        part: &'static str,
    },
    /// It is too long.
    #[error("the {part} has {len} bytes; at most {max} are allowed")]
    TooLong {
        /// `app` or `stream name`.
        part: &'static str,
        /// Its length in bytes.
        len: usize,
        /// The limit.
        max: usize,
    },
    /// It has a character that has no place in a path segment.
    #[error(
        "the {part} may have letters, digits and - _ . ~ @ + = only, and not begin with a dot, nor an app with ~; {found:?} has no place there"
    )]
    Character {
        /// `app` or `stream name`.
        part: &'static str,
        /// The first such character.
        found: char,
    },
    /// Pages and APIs live under that first path segment.
    #[error("the app {app:?} is reserved; choose another, such as \"live\"")]
    Reserved {
        /// The app.
        app: String,
    },
}

/// `app/name`. Cheap to clone.
#[derive(Clone)]
pub struct StreamKey {
    path: Arc<str>,
    app_len: usize,
}

impl StreamKey {
    /// Checks the app and the name (already percent-decoded) and joins them.
    pub fn parse(app: &str, name: &str, reserved_apps: &[&str]) -> Result<Self, KeyError> {
        check(APP, app, MAX_APP_LEN)?;
        check("stream name", name, MAX_NAME_LEN)?;
        if reserved_apps.contains(&app) {
            return Err(KeyError::Reserved { app: app.to_owned() });
        }
        let mut path = String::with_capacity(app.len() + 1 + name.len());
        path.push_str(app);
        path.push('/');
        path.push_str(name);
        Ok(Self { path: path.into(), app_len: app.len() })
    }

    /// The first part.
    pub fn app(&self) -> &str {
        self.path.get(..self.app_len).unwrap_or_default()
    }

    /// The second part.
    pub fn name(&self) -> &str {
        self.path.get(self.app_len + 1..).unwrap_or_default()
    }

    /// `app/name`.
    pub fn as_str(&self) -> &str {
        &self.path
    }
}

fn check(part: &'static str, text: &str, max: usize) -> Result<(), KeyError> {
    if text.is_empty() {
        return Err(KeyError::Empty { part });
    }
    if text.len() > max {
        return Err(KeyError::TooLong { part, len: text.len(), max });
    }
    let allowed = |c: char| c.is_alphanumeric() || "-_.~@+=".contains(c);
    if let Some(found) = text.chars().find(|c| !allowed(*c)) {
        return Err(KeyError::Character { part, found });
    }
    if text.starts_with('.') {
        return Err(KeyError::Character { part, found: '.' });
    }
    // A path that begins so begins with a grant.
    if part == APP && text.starts_with('~') {
        return Err(KeyError::Character { part, found: '~' });
    }
    Ok(())
}

impl PartialEq for StreamKey {
    fn eq(&self, other: &Self) -> bool {
        self.path == other.path
    }
}

impl Eq for StreamKey {}

impl Hash for StreamKey {
    fn hash<H: Hasher>(&self, state: &mut H) {
        self.path.hash(state);
    }
}

impl PartialOrd for StreamKey {
    fn partial_cmp(&self, other: &Self) -> Option<std::cmp::Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for StreamKey {
    fn cmp(&self, other: &Self) -> std::cmp::Ordering {
        (self.app(), self.name()).cmp(&(other.app(), other.name()))
    }
}

impl fmt::Display for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

impl fmt::Debug for StreamKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.path)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn app_and_name_come_back() {
        let key = StreamKey::parse("live", "höhe-1.b", &[]).unwrap();
        assert_eq!((key.app(), key.name(), key.to_string().as_str()), ("live", "höhe-1.b", "live/höhe-1.b"));
    }

    #[test]
    fn what_could_leave_its_path_segment_is_refused() {
        for bad in
            ["", ".", "..", ".a", "a/b", "a\\b", "a\0", "a b", "a%2fb", "a?b", "a#b", "a:b", "a\u{202e}b"]
        {
            assert!(StreamKey::parse("live", bad, &[]).is_err(), "{bad:?}");
            assert!(StreamKey::parse(bad, "a", &[]).is_err(), "{bad:?}");
        }
        assert!(matches!(
            StreamKey::parse("live", &"x".repeat(8192), &[]),
            Err(KeyError::TooLong { len: 8192, .. })
        ));
    }

    #[test]
    fn reserved_apps_are_refused() {
        assert!(matches!(StreamKey::parse("api", "a", &["api"]), Err(KeyError::Reserved { .. })));
        assert!(StreamKey::parse("live", "api", &["api"]).is_ok());
    }
}
