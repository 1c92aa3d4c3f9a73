//! Where a stream is fetched from, by the scheme of its URL, and what comes from there.

use std::net::SocketAddr;
use std::time::Duration;

use control_api::LineInfo;
use media_core::frame::{Frame, Track};

use super::config::Transport;
use super::{rtsp, srt};
use crate::remote::srt::{SCHEME as SRT, Target};
use crate::remote::{Reach, Shown, Trouble, WishError};

/// A place to fetch a stream from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Source {
    Rtsp(rtsp::Camera),
    Srt(Target),
}

/// What comes.
#[derive(Debug)]
pub(super) enum Item {
    /// All tracks that there are by now.
    Tracks(Vec<Track>),
    Frame(Frame),
    /// The clock of the line's statistics: nothing else has come.
    Line(LineInfo),
}

/// A source that sends.
pub(super) enum Opened {
    Rtsp(Box<rtsp::Playing>),
    Srt(Box<srt::Calling>),
}

impl Source {
    pub(super) fn parse(url: &str, transport: Transport) -> Result<Self, WishError> {
        // Schemes are case-insensitive (RFC 3986 §3.1).
        let scheme = url.split_once("://").map_or("", |(scheme, _)| scheme).to_ascii_lowercase();
        match scheme.as_str() {
            rtsp::SCHEME => rtsp::Camera::parse(url, transport).map(Self::Rtsp),
            SRT => Target::parse(url).map(Self::Srt),
            "rtsps" => Err(WishError::Url("RTSP over TLS is not spoken; use rtsp".to_owned())),
            _ => Err(WishError::Url("it must begin with rtsp:// or srt://".to_owned())),
        }
    }

    /// What the stream's publisher is called.
    pub(super) const fn protocol(&self) -> &'static str {
        match self {
            Self::Rtsp(_) => rtsp::SCHEME,
            Self::Srt(_) => SRT,
        }
    }

    pub(super) fn shown(&self) -> &Shown {
        match self {
            Self::Rtsp(camera) => &camera.shown,
            Self::Srt(target) => &target.shown,
        }
    }

    /// Calls it, and lets it send. It takes as long as the other side likes.
    pub(super) async fn open(&self, reach: &Reach) -> Result<Opened, Trouble> {
        Ok(match self {
            Self::Rtsp(camera) => Opened::Rtsp(Box::new(camera.play(reach).await?)),
            Self::Srt(target) => Opened::Srt(Box::new(srt::Calling::new(target.call(reach).await?))),
        })
    }
}

impl Opened {
    /// Who sends, where it is known by its address.
    pub(super) fn peer(&self) -> Option<SocketAddr> {
        match self {
            Self::Rtsp(playing) => playing.peer,
            Self::Srt(calling) => Some(calling.peer()),
        }
    }

    /// What of it is left out, for people.
    pub(super) fn note(&self) -> Option<String> {
        match self {
            Self::Rtsp(playing) => playing.note.clone(),
            Self::Srt(_) => None,
        }
    }

    /// Packets that never came.
    pub(super) fn lost(&self) -> u64 {
        match self {
            Self::Rtsp(playing) => playing.lost,
            Self::Srt(calling) => calling.lost(),
        }
    }

    /// What comes next. Cancel-safe.
    pub(super) async fn next(&mut self) -> Result<Item, Trouble> {
        match self {
            Self::Rtsp(playing) => playing.next().await,
            Self::Srt(calling) => calling.next().await,
        }
    }
}

/// How often a line is looked at.
pub(super) const LOOK: Duration = Duration::from_secs(1);

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn schemes_choose_the_protocol() {
        let protocol = |url| Source::parse(url, Transport::Tcp).map(|source| source.protocol());
        assert_eq!(protocol("rtsp://10.0.0.9/a"), Ok("rtsp"));
        assert_eq!(protocol("RTSP://10.0.0.9/a"), Ok("rtsp"));
        assert_eq!(protocol("srt://10.0.0.9:9000"), Ok("srt"));
        for url in ["rtsps://10.0.0.9/a", "http://10.0.0.9/a", "10.0.0.9", ""] {
            assert!(protocol(url).is_err(), "{url}");
        }
    }
}
