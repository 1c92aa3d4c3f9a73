//! From a publisher's messages to the hub's frames.

use media_core::flv::{self, Demuxed, Demuxer, Dropped, Tag, TagKind};
use media_core::hub::Revoked;
use media_core::rtmp::{Kind, Message, Refusal};

use super::metrics::Metrics;
use crate::ingest::publishing::Publishing as Stream;

/// How many messages may be useless before the first frame. A publisher whose codecs are not carried, or
/// that never sends their configuration, is told so; one that sends its configuration late is not.
const MAX_BAD_AT_START: u32 = 100;

/// A publisher's stream.
#[derive(Debug)]
pub(super) struct Publishing {
    /// Its message stream.
    pub(super) id: u32,
    stream: Stream,
    demuxer: Demuxer,
    bad: u32,
}

impl Publishing {
    pub(super) fn new(id: u32, stream: Stream) -> Self {
        Self { id, stream, demuxer: Demuxer::new(), bad: 0 }
    }

    /// Completes when the publisher may not go on.
    pub(super) async fn revoked(&mut self) -> Revoked {
        self.stream.revoked().await
    }

    /// Takes a message. A refusal: the publisher can't be served.
    pub(super) fn push(&mut self, message: Message, metrics: &Metrics) -> Result<(), Refusal> {
        let kind = match message.kind {
            Kind::Audio => TagKind::Audio,
            Kind::Video => TagKind::Video,
            Kind::Data => TagKind::Script,
        };
        let tag = Tag { kind, timestamp_ms: message.timestamp_ms, body: message.body };
        let revoked = |revoked| refusal(revoked);
        let problem = match self.demuxer.push(tag) {
            Ok(items) => {
                let mut problem = None;
                for item in items {
                    match item {
                        Demuxed::Frame(frame) => self.stream.frame(frame).map_err(revoked)?,
                        Demuxed::Tracks(tracks) => self.stream.tracks(tracks).map_err(revoked)?,
                        Demuxed::Encoder(name) => self.stream.encoder(&name).map_err(revoked)?,
                        Demuxed::Dropped(dropped) => problem = Some(Problem::Dropped(dropped)),
                    }
                }
                problem
            }
            Err(error) => Some(Problem::Error(error)),
        };
        match problem {
            Some(problem) => self.bad(&problem, metrics),
            None => Ok(()),
        }
    }

    /// Counts a message that could not be used; the log gets the first one.
    fn bad(&mut self, problem: &Problem, metrics: &Metrics) -> Result<(), Refusal> {
        metrics.bad_messages.with_label_values(&[problem.reason()]).inc();
        if self.bad == 0 {
            let stream = self.stream.key();
            tracing::warn!(%stream, "a message of the publisher cannot be used, and maybe more: {problem}");
        }
        self.bad = self.bad.saturating_add(1);
        if self.stream.any_frame() || self.bad < MAX_BAD_AT_START {
            return Ok(());
        }
        Err(Refusal {
            code: "NetStream.Publish.Rejected",
            description: format!("nothing of it can be used: {problem}"),
        })
    }
}

/// Why a message could not be used.
#[derive(Debug)]
enum Problem {
    Dropped(Dropped),
    Error(flv::Error),
}

impl Problem {
    const fn reason(&self) -> &'static str {
        match self {
            Self::Dropped(Dropped::NoSequenceHeader(_)) => "no_sequence_header",
            Self::Dropped(Dropped::Empty(_)) => "empty",
            Self::Dropped(_) => "malformed",
            Self::Error(flv::Error::Codec { .. }) => "codec_configuration",
            Self::Error(flv::Error::LegacyCodec { .. } | flv::Error::FourCc(_)) => "codec_not_supported",
            Self::Error(_) => "malformed",
        }
    }
}

impl std::fmt::Display for Problem {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Dropped(Dropped::NoSequenceHeader(track)) => {
                write!(f, "track {track}: no sequence header (decoder configuration) came before its frames")
            }
            Self::Dropped(Dropped::Empty(track)) => write!(f, "track {track}: a frame has no bytes"),
            Self::Dropped(Dropped::Malformed(track)) => {
                write!(f, "track {track}: a packet or the lengths of a frame's NAL units are wrong")
            }
            Self::Dropped(other) => write!(f, "{other:?}"),
            Self::Error(error) => error.fmt(f),
        }
    }
}

/// What a publisher is told that may not go on.
pub(super) fn refusal(revoked: Revoked) -> Refusal {
    let code = match revoked {
        Revoked::TakenOver => "NetStream.Publish.BadName",
        Revoked::Draining => "NetConnection.Connect.AppShutdown",
        _ => "NetStream.Publish.Denied",
    };
    Refusal { code, description: revoked.to_string() }
}
