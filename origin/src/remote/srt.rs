//! `srt://host:port?streamid=…&passphrase=…&pbkeylen=…&latency=…`: a listener to be called.

use std::net::SocketAddr;
use std::time::Duration;

use control_api::LineInfo;
use percent_encoding::percent_decode_str;
use srt::{Connection, KeyLength, Options, Passphrase, Stats};
use url::Url;

use super::{Host, Reach, Shown, Trouble, WishError};

/// What people type when they mean SRT.
pub(crate) const SCHEME: &str = "srt";

/// SRT's own bound of a stream id (draft §3.2.1.3).
const MAX_STREAM_ID_BYTES: usize = 512;

/// A listener to be called. Debug shows none of its secrets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Target {
    pub(crate) host: Host,
    pub(crate) shown: Shown,
    stream_id: StreamId,
    encryption: Option<(Passphrase, KeyLength)>,
    latency: Option<Duration>,
}

/// It may hold a password.
#[derive(Clone, PartialEq, Eq, Default)]
struct StreamId(Vec<u8>);

impl std::fmt::Debug for StreamId {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("StreamId(…)")
    }
}

fn wrong(what: impl Into<String>) -> WishError {
    WishError::Url(what.into())
}

impl Target {
    /// Of such a URL. Values are percent-encoded or plain: a stream id's `#!::` begins no fragment.
    pub(crate) fn parse(text: &str) -> Result<Self, WishError> {
        let (place, query) = text.split_once('?').unwrap_or((text, ""));
        let mut url = Url::parse(place).map_err(|error| wrong(error.to_string()))?;
        let name = url.host().ok_or_else(|| wrong("it names no host"))?.to_owned();
        // Of a scheme that the standard does not know, hosts are not recognized as addresses.
        let name = match &name {
            url::Host::Domain(domain) => {
                url::Host::parse(domain).map_err(|error| wrong(error.to_string()))?
            }
            _ => name,
        };
        let port = url.port().ok_or_else(|| wrong("it names no port"))?;
        let mut stream_id = Vec::new();
        let (mut passphrase, mut length, mut latency) = (None, KeyLength::default(), None);
        for pair in query.split('&').filter(|pair| !pair.is_empty()) {
            let (key, value) = pair.split_once('=').unwrap_or((pair, ""));
            let decoded = || percent_decode_str(value).collect::<Vec<u8>>();
            let number = || value.parse::<u32>().map_err(|_| wrong(format!("{key} must be a number")));
            match key {
                "streamid" if decoded().len() > MAX_STREAM_ID_BYTES => {
                    return Err(wrong("streamid has 512 bytes at most"));
                }
                "streamid" => stream_id = decoded(),
                "passphrase" => {
                    let text = String::from_utf8(decoded()).map_err(|_| wrong("passphrase is no UTF-8"))?;
                    passphrase = Some(Passphrase::new(text).map_err(|error| wrong(error.to_string()))?);
                }
                "pbkeylen" => {
                    length = KeyLength::of_bytes(number()?)
                        .ok_or_else(|| wrong("pbkeylen must be 16, 24 or 32"))?;
                }
                "latency" => latency = Some(Duration::from_millis(number()?.into())),
                "mode" if value == "caller" => {}
                "mode" => return Err(wrong("mode must be caller: listeners are called")),
                "transtype" if value == "live" => {}
                _ => {
                    return Err(wrong(
                        "it has parameters besides streamid, passphrase, pbkeylen and latency",
                    ));
                }
            }
        }
        let encryption = passphrase.map(|passphrase| (passphrase, length));
        url.set_query((!query.is_empty()).then_some(query));
        let secret = String::from_utf8_lossy(&stream_id).into_owned();
        let shown = Shown::new(&url, [secret]);
        Ok(Self { host: Host { name, port }, shown, stream_id: StreamId(stream_id), encryption, latency })
    }

    /// What tells it from others: where it is, and which stream of it is meant.
    pub(crate) fn place(&self) -> (String, Vec<u8>) {
        (self.host.to_string(), self.stream_id.0.clone())
    }

    /// Calls it at each of its addresses.
    pub(crate) async fn call(&self, reach: &Reach) -> Result<Connection, Trouble> {
        let mut options = Options::default();
        options.latency = self.latency.unwrap_or(options.latency);
        let encryption = self.encryption.as_ref().map(|(passphrase, length)| (passphrase, *length));
        let mut trouble = Trouble::Ended;
        for address in self.host.addresses(reach).await? {
            let address: SocketAddr = address;
            match srt::connect(address, &self.stream_id.0, encryption, &options).await {
                Ok(connection) => return Ok(connection),
                Err(error @ srt::Error::Refused { .. }) => {
                    return Err(Trouble::Refused(self.shown.scrub(&error.to_string())));
                }
                Err(error) => trouble = Trouble::Failed(self.shown.scrub(&error.to_string())),
            }
        }
        Err(trouble)
    }
}

/// What is told of a line on which media comes in.
pub(crate) fn line(stats: Stats, continuity_errors: u64) -> LineInfo {
    let ms = |time: Duration| u64::try_from(time.as_millis()).unwrap_or(u64::MAX);
    LineInfo {
        rtt_us: u64::try_from(stats.rtt.as_micros()).unwrap_or(u64::MAX),
        latency_ms: ms(stats.latency),
        buffer_ms: ms(stats.receive_buffer),
        received_packets: stats.received_packets,
        lost_packets: stats.receive_lost_packets,
        retransmitted_packets: stats.receive_retransmitted_packets,
        dropped_packets: stats.receive_dropped_packets,
        undecrypted_packets: stats.undecrypted_packets,
        continuity_errors,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn urls_say_whom_to_call_and_how() {
        let target = Target::parse(
            "srt://10.0.0.7:9000?streamid=#!::r=live/x,m=request&passphrase=a%20long%20secret&pbkeylen=32&latency=300",
        )
        .unwrap();
        assert_eq!(target.host.to_string(), "10.0.0.7:9000");
        assert!(matches!(target.host.name, url::Host::Ipv4(_)));
        assert_eq!(target.stream_id.0, b"#!::r=live/x,m=request");
        assert_eq!(target.encryption, Some((Passphrase::new("a long secret").unwrap(), KeyLength::Aes256)));
        assert_eq!(target.latency, Some(Duration::from_millis(300)));
        assert_eq!(target.shown.to_string(), "srt://10.0.0.7:9000?…");
        let encoded = Target::parse("srt://[::1]:9000?streamid=%23!::r=live/x&mode=caller").unwrap();
        assert_eq!(encoded.stream_id.0, b"#!::r=live/x");
        assert_eq!(encoded.host.to_string(), "[::1]:9000");
        assert!(!format!("{target:?}").contains("secret") && !format!("{target:?}").contains("live/x"));
    }

    #[test]
    fn what_cannot_be_called_is_said_without_secrets() {
        for (url, word) in [
            ("srt://10.0.0.7", "port"),
            ("srt://:9000", "host"),
            ("srt://10.0.0.7:9000?passphrase=hunter2", "10 to 79"),
            ("srt://10.0.0.7:9000?pbkeylen=17", "16, 24"),
            ("srt://10.0.0.7:9000?mode=listener", "caller"),
            ("srt://10.0.0.7:9000?hunter2=1", "besides"),
            ("srt://10.0.0.7:9000?latency=x", "number"),
        ] {
            let error = Target::parse(url).unwrap_err().to_string();
            assert!(error.contains(word) && !error.contains("hunter2"), "{url}: {error}");
        }
    }
}
