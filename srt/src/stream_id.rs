//! Stream ids: how a caller says which stream it means, what it wants with it, and who it is (access control guidelines of
//! SRT, "General Syntax"; draft §3.2.1.3 has the extension that carries it).
//!
//! Read are
//! - `#!::r=app/name,m=publish|request,u=…,s=…`, and further keys: `token`, `key`, `backup`, `latency`;
//! - the same percent-encoded, whole or by value, as it stands in URLs of players;
//! - `publish:app/name`, `read:app/name`, `request:app/name`, as MediaMTX has it, with `:user:key` behind it or without;
//! - `app/name`, which publishes: cameras and encoders have one field for it.
//!
//! The last two may go on with `?token=…&…` or `,token=…,…`.

use std::borrow::Cow;
use std::fmt;

use percent_encoding::{NON_ALPHANUMERIC, percent_decode_str, utf8_percent_encode};

/// Longest stream id in bytes, as libsrt has it. It bounds whatever is made of one.
pub const MAX_BYTES: usize = 512;

/// The standard's mark, before the keys.
const MARK: &str = "#!::";

/// Keys that say what is wanted, beside which others are passed on.
const OWN_KEYS: &[&str] = &["r", "m", "h", "t"];

/// What a caller wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// It sends the stream.
    Publish,
    /// It receives it.
    Request,
}

/// A stream id.
#[derive(Clone, PartialEq, Eq)]
pub struct StreamId {
    /// What it wants.
    pub mode: Mode,
    /// The stream's app: what stands before the slash. Not checked in any way.
    pub app: String,
    /// The stream's name.
    pub name: String,
    /// Further keys and values, decoded, in their order.
    params: Vec<(String, String)>,
}

/// Why a stream id cannot be read. The words are for whoever typed it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Malformed {
    /// There is none, or it names no stream.
    #[error("the stream id names no stream: streamid=#!::r=app/name,m=publish")]
    NoStream,
    /// It is too long.
    #[error("the stream id has {0} bytes, of which 512 are allowed")]
    TooLong(usize),
    /// It is no text.
    #[error("the stream id is no UTF-8, or has control characters in it")]
    NotText,
    /// It wants what is neither of both.
    #[error("the stream id's mode is neither publish nor request")]
    Mode,
    /// It is of a kind that is not read: nested keys, files.
    #[error("the stream id is of a kind that is not read here")]
    Kind,
}

impl StreamId {
    /// Reads what a caller sent.
    pub fn parse(bytes: &[u8]) -> Result<Self, Malformed> {
        if bytes.len() > MAX_BYTES {
            return Err(Malformed::TooLong(bytes.len()));
        }
        let text = std::str::from_utf8(bytes).map_err(|_| Malformed::NotText)?;
        // Who encodes `#` encodes all of it.
        let text = if text.starts_with("%23") { decoded(text)? } else { Cow::Borrowed(text) };
        if text.chars().any(char::is_control) {
            return Err(Malformed::NotText);
        }
        if let Some(keys) = text.strip_prefix(MARK) {
            return Self::standard(keys);
        }
        if text.starts_with("#!") {
            return Err(Malformed::Kind);
        }
        Self::plain(&text)
    }

    fn standard(keys: &str) -> Result<Self, Malformed> {
        let (mut resource, mut mode) = (None, None);
        let mut params = Vec::new();
        for pair in keys.split(',').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let value = decoded(value)?;
            match key {
                "r" => resource = Some(value),
                "m" => mode = Some(self::mode(&value)?),
                "t" if !matches!(&*value, "stream" | "") => return Err(Malformed::Kind),
                _ if OWN_KEYS.contains(&key) => {}
                _ => params.push((key.to_owned(), value.into_owned())),
            }
        }
        let resource = resource.ok_or(Malformed::NoStream)?;
        // A query may stand behind the name, where keys are composed of a URL.
        let (path, query) = resource.split_once('?').unwrap_or((&resource, ""));
        pairs(query, '&', &mut params)?;
        // What the guidelines give.
        Self::of(path, mode.unwrap_or(Mode::Request), params)
    }

    fn plain(text: &str) -> Result<Self, Malformed> {
        let (text, mode) = match text.split_once(':') {
            Some((word, rest)) if !word.contains(['/', '?', ',']) => (rest, mode(word)?),
            _ => (text, Mode::Publish),
        };
        let mut params = Vec::new();
        let end = text.find(['?', ',']).unwrap_or(text.len());
        let (path, rest) = text.split_at_checked(end).unwrap_or((text, ""));
        // MediaMTX: publish:path:user:password.
        let mut login = path.split(':');
        let path = login.next().unwrap_or_default();
        for (key, value) in ["u", "key"].into_iter().zip(login) {
            params.push((key.to_owned(), decoded(value)?.into_owned()));
        }
        let separator = if rest.starts_with('?') { '&' } else { ',' };
        pairs(rest.trim_start_matches(['?', ',']), separator, &mut params)?;
        let path = decoded(path)?;
        // What was encoded to look like a name may be a key, and a name is logged.
        if path.contains(['?', ':', ',']) {
            return Err(Malformed::NoStream);
        }
        Self::of(&path, mode, params)
    }

    fn of(path: &str, mode: Mode, params: Vec<(String, String)>) -> Result<Self, Malformed> {
        let path = path.trim_start_matches('/');
        let (app, name) = path.split_once('/').ok_or(Malformed::NoStream)?;
        let said = mode_said(&params)?;
        Ok(Self { mode: said.unwrap_or(mode), app: app.to_owned(), name: name.to_owned(), params })
    }

    /// The first value of a further key.
    pub fn param(&self, key: &str) -> Option<&str> {
        self.params.iter().find(|(k, _)| k == key).map(|(_, value)| value.as_str())
    }

    /// The further keys as the query of a URL, secrets included.
    pub fn query(&self) -> String {
        let encoded = |text| utf8_percent_encode(text, NON_ALPHANUMERIC);
        let pairs = self.params.iter().filter(|(key, _)| key != "mode");
        let pairs: Vec<_> =
            pairs.map(|(key, value)| format!("{}={}", encoded(key), encoded(value))).collect();
        pairs.join("&")
    }
}

impl fmt::Debug for StreamId {
    /// Without the values, among which are secrets.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { mode, app, name, params } = self;
        let keys: Vec<_> = params.iter().map(|(key, _)| key).collect();
        f.debug_struct("StreamId")
            .field("mode", mode)
            .field("app", app)
            .field("name", name)
            .field("keys", &keys)
            .finish()
    }
}

/// `mode=request` behind a plain name, for clients that take no colon.
fn mode_said(params: &[(String, String)]) -> Result<Option<Mode>, Malformed> {
    params.iter().find(|(key, _)| key == "mode").map(|(_, value)| mode(value)).transpose()
}

fn mode(word: &str) -> Result<Mode, Malformed> {
    match word {
        "publish" => Ok(Mode::Publish),
        "request" | "read" | "play" => Ok(Mode::Request),
        _ => Err(Malformed::Mode),
    }
}

fn pairs(text: &str, separator: char, into: &mut Vec<(String, String)>) -> Result<(), Malformed> {
    for pair in text.split(separator).filter(|pair| !pair.is_empty()) {
        let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
        into.push((key.to_owned(), decoded(value)?.into_owned()));
    }
    Ok(())
}

fn decoded(text: &str) -> Result<Cow<'_, str>, Malformed> {
    let decoded = percent_decode_str(text).decode_utf8().map_err(|_| Malformed::NotText)?;
    if decoded.chars().any(char::is_control) { Err(Malformed::NotText) } else { Ok(decoded) }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn read(text: &str) -> StreamId {
        StreamId::parse(text.as_bytes()).unwrap()
    }

    fn said(text: &str) -> (Mode, String, String) {
        let StreamId { mode, app, name, .. } = read(text);
        (mode, app, name)
    }

    #[test]
    fn every_way_to_say_it_means_the_same() {
        let publish = (Mode::Publish, "live".to_owned(), "a".to_owned());
        for text in [
            "#!::r=live/a,m=publish",
            "#!::m=publish,r=/live/a,h=example.org,t=stream",
            "#!::r=live%2Fa,m=publish",
            "%23%21%3A%3Ar%3Dlive%2Fa%2Cm%3Dpublish",
            "%23!::r=live/a,m=publish",
            "publish:live/a",
            "live/a",
            "/live/a",
            "live%2Fa",
            "live/a?key=x",
            "live/a,key=x",
        ] {
            assert_eq!(said(text), publish, "{text}");
        }
        let request = (Mode::Request, "live".to_owned(), "a".to_owned());
        for text in [
            "#!::r=live/a",
            "#!::m=request,r=live/a",
            "read:live/a",
            "request:live/a?x",
            "live/a?mode=request",
        ] {
            assert_eq!(said(text), request, "{text}");
        }
    }

    #[test]
    fn further_keys_are_params() {
        let standard = read("#!::r=live/a,m=publish,u=jane,s=4,key=a%26b,token=x.y-z");
        assert_eq!(standard.param("u"), Some("jane"));
        assert_eq!(standard.param("key"), Some("a&b"));
        assert_eq!(standard.param("token"), Some("x.y-z"));
        assert_eq!(standard.param("r"), None);
        assert_eq!(standard.query(), "u=jane&s=4&key=a%26b&token=x%2Ey%2Dz");
        assert_eq!(read("live/a?token=t&backup=1").param("backup"), Some("1"));
        assert_eq!(read("publish:live/a,token=t").param("token"), Some("t"));
        let login = read("publish:live/a:jane:s3cret");
        assert_eq!(
            (login.name.as_str(), login.param("u"), login.param("key")),
            ("a", Some("jane"), Some("s3cret"))
        );
        assert_eq!(read("live/a?from=http://x").param("from"), Some("http://x"));
        assert_eq!(read("#!::r=live/a?token=t,m=publish").param("token"), Some("t"));
        assert!(!format!("{standard:?}").contains("x.y-z"));
    }

    #[test]
    fn others_are_refused() {
        let why = |text: &[u8]| StreamId::parse(text).unwrap_err();
        assert_eq!(why(b""), Malformed::NoStream);
        assert_eq!(why(b"a"), Malformed::NoStream);
        assert_eq!(why(b"#!::m=publish"), Malformed::NoStream);
        assert_eq!(why(b"#!::r=live/a,m=bidirectional"), Malformed::Mode);
        assert_eq!(why(b"delete:live/a"), Malformed::Mode);
        assert_eq!(why(b"#!:{r:live/a}"), Malformed::Kind);
        assert_eq!(why(b"#!::r=live/a,t=file"), Malformed::Kind);
        assert_eq!(why(b"live/\xff"), Malformed::NotText);
        assert_eq!(why(b"live/%ff"), Malformed::NotText);
        assert_eq!(why(b"live/a\n"), Malformed::NotText);
        assert_eq!(why(b"live/a%0a"), Malformed::NotText);
        assert_eq!(why(&[b'a'; 513]), Malformed::TooLong(513));
    }

    proptest! {
        #[test]
        fn anything_is_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..600)) {
            if let Ok(id) = StreamId::parse(&bytes) {
                prop_assert!(id.query().len() <= 4 * MAX_BYTES);
            }
        }

        #[test]
        fn what_is_composed_is_read(name in "[a-z0-9_]{1,20}", key in "[^\\p{Cc}]{0,20}") {
            let encoded = utf8_percent_encode(&key, NON_ALPHANUMERIC).to_string();
            let text = format!("#!::r=live/{name},m=publish,key={encoded}");
            if text.len() <= MAX_BYTES {
                let id = read(&text);
                prop_assert_eq!(id.param("key"), Some(key.as_str()));
                prop_assert_eq!(id.name, name);
            }
        }
    }
}
