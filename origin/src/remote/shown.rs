//! URLs for people: without user, password, and whatever may be a secret in path and query.

use std::fmt;

use control_api::shown_url;
use url::Url;

/// What stands for what is not shown.
const HIDDEN: &str = "…";

/// Bytes of a message that somebody else chose.
const MAX_MESSAGE_BYTES: usize = 300;

/// A URL as it may be shown, and what of it may not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Shown {
    text: String,
    hidden: Hidden,
}

/// Words that are in no log.
#[derive(Clone, PartialEq, Eq)]
struct Hidden(Vec<String>);

impl fmt::Debug for Hidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(HIDDEN)
    }
}

impl Shown {
    /// Of a URL, and further words of it that are secret.
    pub(crate) fn new(url: &Url, secrets: impl IntoIterator<Item = String>) -> Self {
        let mut hidden: Vec<String> = secrets.into_iter().collect();
        hidden.push(url.username().to_owned());
        hidden.extend(
            [url.password(), url.query(), url.fragment()].into_iter().flatten().map(ToOwned::to_owned),
        );
        if url.path().contains('=') {
            hidden.push(url.path().trim_start_matches('/').to_owned());
        }
        hidden.retain(|word| !word.is_empty());
        // What contains another is replaced before that.
        hidden.sort_by_key(|word| std::cmp::Reverse(word.len()));
        Self { text: shown_url(url.as_str()), hidden: Hidden(hidden) }
    }

    /// The first line of a message that may repeat the URL, without what is hidden.
    pub(crate) fn scrub(&self, message: &str) -> String {
        let mut text = message.lines().next().unwrap_or_default().trim_end().to_owned();
        for word in &self.hidden.0 {
            text = text.replace(word.as_str(), HIDDEN);
        }
        let end = text.floor_char_boundary(MAX_MESSAGE_BYTES);
        if end < text.len() {
            text.truncate(end);
            text.push_str(HIDDEN);
        }
        text
    }
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn shown(url: &str) -> Shown {
        Shown::new(&Url::parse(url).unwrap(), [])
    }

    #[test]
    fn nothing_secret_is_shown() {
        for (url, text) in [
            ("rtsp://camera.example/h264", "rtsp://camera.example/h264"),
            ("rtsp://admin:hunter2@10.0.0.9:554/ch1?token=hunter2", "rtsp://…@10.0.0.9:554/ch1?…"),
            ("rtsp://10.0.0.9/user=admin&password=hunter2&stream=1", "rtsp://10.0.0.9/…"),
            ("srt://[2001:db8::1]:9000?passphrase=hunter2#hunter2", "srt://[2001:db8::1]:9000?…"),
        ] {
            assert_eq!(shown(url).to_string(), text);
            assert!(!format!("{:?}", shown(url)).contains("hunter2"));
        }
    }

    #[test]
    fn messages_are_short_and_repeat_no_secret() {
        let shown = shown("rtsp://admin:hunter2@10.0.0.9/ch1?token=abc");
        assert_eq!(
            shown.scrub("bad uri rtsp://x/ch1?token=abc, hunter2\n\nconn: 1"),
            "bad uri rtsp://x/ch1?…, …"
        );
        let long = shown.scrub(&"ä".repeat(500));
        assert_eq!(long.len(), MAX_MESSAGE_BYTES + HIDDEN.len());
        assert_eq!(shown.scrub(""), "");
    }
}
