//! An order, and what it is held to before an origin sees it.

use std::fmt;

use serde::{Deserialize, Serialize};
use url::Url;

/// Bytes that a URL may have: a stream id of SRT takes 512, percent-encoded three times as many.
const MAX_URL_BYTES: usize = 4 * 1024;

/// Bytes that an app and a name may have, as origins have it.
const MAX_APP_BYTES: usize = 64;
const MAX_NAME_BYTES: usize = 200;

/// Which way a stream goes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Way {
    /// It is fetched.
    Pull,
    /// It is sent on.
    Push,
}

impl Way {
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Pull => "pull",
            Self::Push => "push",
        }
    }
}

/// A pull or a push, as the registry has it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Order {
    pub(crate) way: Way,
    pub(crate) app: String,
    pub(crate) name: String,
    /// With whatever opens it: it is shown to nobody.
    pub(crate) url: String,
    /// How RTP comes by RTSP: by UDP, or else by TCP.
    #[serde(default)]
    pub(crate) udp: bool,
    /// Only while somebody watches.
    #[serde(default)]
    pub(crate) on_demand: bool,
}

impl fmt::Debug for Order {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} of {}/{}", self.way.name(), self.app, self.name)
    }
}

/// What is wrong with an order; without its secrets.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum BadOrder {
    #[error("`stream` must be app/name, of letters, digits and - _ . ~ @ + =, such as live/camera")]
    Stream,
    #[error("`url` cannot be read")]
    Url,
    #[error("`url` must begin with rtsp:// or srt:// for a pull, and with srt:// for a push")]
    Scheme,
    #[error("`url` must name host and port")]
    Host,
}

impl Order {
    pub(crate) fn check(&self) -> Result<(), BadOrder> {
        let fits = |text: &str, max: usize| {
            let allowed = |c: char| c.is_alphanumeric() || "-_.~@+=".contains(c);
            !text.is_empty() && text.len() <= max && text.chars().all(allowed) && !text.starts_with('.')
        };
        let reserved = control_api::RESERVED_APPS.contains(&&*self.app) || self.app.starts_with('~');
        if !fits(&self.app, MAX_APP_BYTES) || !fits(&self.name, MAX_NAME_BYTES) || reserved {
            return Err(BadOrder::Stream);
        }
        if self.url.len() > MAX_URL_BYTES || self.url.chars().any(char::is_control) {
            return Err(BadOrder::Url);
        }
        let url = Url::parse(&self.url).map_err(|_| BadOrder::Url)?;
        match (url.scheme(), self.way) {
            ("rtsp", Way::Pull) if url.has_host() => Ok(()),
            ("srt", _) if url.has_host() && url.port().is_some() => Ok(()),
            ("rtsp", Way::Pull) | ("srt", _) => Err(BadOrder::Host),
            _ => Err(BadOrder::Scheme),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn orders_that_no_origin_could_carry_out_are_refused() {
        let check = |way, app: &str, url: &str| {
            let (app, url) = (app.to_owned(), url.to_owned());
            Order { way, app, name: "a".to_owned(), url, udp: false, on_demand: false }.check()
        };
        assert_eq!(check(Way::Pull, "live", "rtsp://u:p@10.0.0.9/a"), Ok(()));
        assert_eq!(check(Way::Pull, "live", "srt://10.0.0.9:9000?streamid=#!::r=a"), Ok(()));
        assert_eq!(check(Way::Push, "live", "srt://10.0.0.9:9000"), Ok(()));
        assert_eq!(check(Way::Push, "live", "rtsp://10.0.0.9/a"), Err(BadOrder::Scheme));
        assert_eq!(check(Way::Pull, "live", "file:///etc/passwd"), Err(BadOrder::Scheme));
        assert_eq!(check(Way::Push, "live", "srt://10.0.0.9"), Err(BadOrder::Host));
        assert_eq!(check(Way::Pull, "api", "rtsp://10.0.0.9/a"), Err(BadOrder::Stream));
        assert_eq!(check(Way::Pull, "../x", "rtsp://10.0.0.9/a"), Err(BadOrder::Stream));
        assert_eq!(check(Way::Pull, "live", "rtsp"), Err(BadOrder::Url));
    }
}
