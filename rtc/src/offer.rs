//! What may be an offer, before anything parses it, and why one is refused.

/// The longest offer: Chromium's with all codecs and extensions for four tracks has 15 KB.
pub const MAX_BYTES: usize = 64 * 1024;
/// The most m-lines: audio, video, and a data channel that is not used, with room for more of each.
pub const MAX_MEDIA: usize = 8;
/// The most candidates. Of what an ICE-lite server needs none: it answers whoever checks.
pub const MAX_CANDIDATES: usize = 64;
/// The most lines: parsers go through them several times.
pub const MAX_LINES: usize = 2048;
/// What an offer as a whole has too many of.
const BYTES: &str = "bytes";
/// The longest line.
pub const MAX_LINE_BYTES: usize = 4096;

/// Why an offer is refused. The words are for whoever sent it.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Refused {
    /// Larger than any that makes sense.
    #[error("the offer has {found} {what}; {most} are taken at most")]
    TooLarge {
        /// Of what.
        what: &'static str,
        /// How many it has.
        found: usize,
        /// How many are taken.
        most: usize,
    },
    /// It is not SDP, or lacks what WebRTC needs.
    #[error("the offer can't be used: {0}")]
    Malformed(String),
    /// Nothing that it offers is carried.
    #[error("{0}")]
    NothingInCommon(String),
    /// As many peers as configured.
    #[error("this server has as many WebRTC peers as it takes")]
    Full,
    /// The server is shutting down.
    #[error("the server is shutting down")]
    Draining,
    /// No peer has that name.
    #[error("there is no such session")]
    Unknown,
    /// The session does not answer.
    #[error("the session did not answer")]
    Busy,
}

impl Refused {
    /// Its name in metrics.
    pub const fn reason(&self) -> &'static str {
        match self {
            Self::TooLarge { .. } => "too_large",
            Self::Malformed(_) => "malformed",
            Self::NothingInCommon(_) => "nothing_in_common",
            Self::Full => "full",
            Self::Draining => "draining",
            Self::Unknown => "unknown",
            Self::Busy => "busy",
        }
    }

    /// The HTTP status that says so.
    pub fn status(&self) -> u16 {
        match self {
            Self::TooLarge { what, .. } if *what == BYTES => 413,
            Self::TooLarge { .. } | Self::Malformed(_) => 400,
            // RFC 9725 §4.4.3.
            Self::NothingInCommon(_) => 406,
            Self::Full | Self::Draining | Self::Busy => 503,
            Self::Unknown => 404,
        }
    }
}

/// Refuses what is too large in any way, by looking at its lines only.
pub fn check(sdp: &str) -> Result<(), Refused> {
    let too_large = |what, found, most| Err(Refused::TooLarge { what, found, most });
    if sdp.len() > MAX_BYTES {
        return too_large(BYTES, sdp.len(), MAX_BYTES);
    }
    let (mut lines, mut media, mut candidates) = (0, 0, 0);
    for line in sdp.lines() {
        lines += 1;
        media += usize::from(line.starts_with("m="));
        candidates += usize::from(line.starts_with("a=candidate:"));
        if line.len() > MAX_LINE_BYTES {
            return too_large("bytes in a line", line.len(), MAX_LINE_BYTES);
        }
    }
    match (lines, media, candidates) {
        (lines, ..) if lines > MAX_LINES => too_large("lines", lines, MAX_LINES),
        (_, media, _) if media > MAX_MEDIA => too_large("m-lines", media, MAX_MEDIA),
        (.., candidates) if candidates > MAX_CANDIDATES => {
            too_large("candidates", candidates, MAX_CANDIDATES)
        }
        (_, 0, _) => Err(Refused::Malformed("it has no m-lines".to_owned())),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_too_large_is_refused_before_it_is_parsed() {
        let offer = |more: &str| format!("v=0\r\nm=audio 9 UDP/TLS/RTP/SAVPF 111\r\n{more}");
        assert_eq!(check(&offer("")), Ok(()));
        for (more, status) in [
            ("a=candidate:1 1 udp 1 10.0.0.1 1 typ host\r\n".repeat(1000), 400),
            ("m=video 9 UDP/TLS/RTP/SAVPF 96\r\n".repeat(8), 400),
            ("a=x\r\n".repeat(3000), 400),
            ("a".repeat(5000), 400),
            ("a".repeat(1 << 20), 413),
        ] {
            assert_eq!(check(&offer(&more)).unwrap_err().status(), status);
        }
        assert_eq!(check("hello").unwrap_err().status(), 400);
    }
}
