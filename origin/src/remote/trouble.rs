//! Why a call failed, or what it began is over.

use std::net::IpAddr;

use media_core::hub::Revoked;

use crate::PublishError;

/// Why a call failed, or what it began is over. Nothing of it is a secret.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Trouble {
    /// The name is not known.
    #[error("cannot be found: {0}")]
    Unknown(String),
    /// Nobody who orders by the API may call there.
    #[error(
        "{0} is not called for the API: it is this machine's own or link-local (`origin.remote.allow_networks`)"
    )]
    Forbidden(IpAddr),
    /// The other side wants another password, or another stream id.
    #[error("refused: {0}")]
    Refused(String),
    /// It cannot be reached, or does not speak the protocol.
    #[error("{0}")]
    Failed(String),
    /// It says, or takes, nothing.
    #[error("silent for {0} s")]
    Silent(u64),
    /// It ended the connection.
    #[error("the other side ended it")]
    Ended,
    /// It has nothing that can be used.
    #[error("nothing of it can be used: {0}")]
    Useless(String),
    /// The stream may not be published here now.
    #[error("the stream cannot be published: {0}")]
    Stream(#[from] PublishError),
    /// It may not be published any longer.
    #[error("{0}")]
    Revoked(Revoked),
    /// A mistake of this program.
    #[error("an error of this program; see its log")]
    Panicked,
}

impl Trouble {
    /// Calling again soon changes nothing, and may lock this program out.
    pub(crate) fn is_lasting(&self) -> bool {
        matches!(
            self,
            Self::Forbidden(_)
                | Self::Refused(_)
                | Self::Useless(_)
                | Self::Revoked(Revoked::Kicked)
                | Self::Panicked
        )
    }

    /// This process ends.
    pub(crate) fn is_the_end(&self) -> bool {
        matches!(self, Self::Revoked(Revoked::Draining) | Self::Stream(PublishError::Draining))
    }

    /// Its name in metrics.
    pub(crate) const fn reason(&self) -> &'static str {
        match self {
            Self::Unknown(_) => "unknown",
            Self::Forbidden(_) => "forbidden",
            Self::Refused(_) => "refused",
            Self::Failed(_) => "failed",
            Self::Silent(_) => "silent",
            Self::Ended => "ended",
            Self::Useless(_) => "useless",
            Self::Stream(_) => "stream",
            Self::Revoked(_) => "revoked",
            Self::Panicked => "panicked",
        }
    }
}
