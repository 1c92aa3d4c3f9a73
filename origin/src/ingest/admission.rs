//! Whether somebody may publish, whatever the protocol: the stream's name, the key or grant, and the stream itself.

use std::net::SocketAddr;

use control_api::grant::without_secrets;
use media_core::hub::{KeyError, StreamKey};

use crate::auth::{Auth, Denied, Pass};
use crate::opening::Opening;
use crate::{Line, Origin, Publication, PublishError, Publisher};

/// Bytes of a publisher's query that whoever decides about it is told.
const MAX_QUERY_BYTES: usize = 2 << 10;

/// What somebody asks who wants to publish.
pub(super) struct Asked<'a> {
    pub(super) protocol: &'static str,
    pub(super) app: &'a str,
    pub(super) name: &'a str,
    pub(super) remote: SocketAddr,
    pub(super) pass: Pass<'a>,
    pub(super) backup: bool,
    /// What stands behind the name, with its secrets.
    pub(super) query: &'a str,
    pub(super) line: Option<Line>,
}

/// Why it may not. The words are for the publisher.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    #[error(transparent)]
    Name(#[from] KeyError),
    #[error(transparent)]
    Denied(#[from] Denied),
    #[error(transparent)]
    Stream(#[from] PublishError),
}

impl Refused {
    /// Its name in metrics.
    pub(super) const fn reason(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Denied(denied) => denied.reason(),
            Self::Stream(_) => "stream",
        }
    }
}

/// Whether a parameter says that its publisher is a backup.
pub(super) fn is_backup(value: Option<&str>) -> bool {
    value.is_some_and(|value| matches!(value, "1" | "true"))
}

/// What can be said of it at once: the name and the secret.
pub(super) fn check(auth: &Auth, asked: &Asked<'_>) -> Result<StreamKey, Refused> {
    let key = StreamKey::parse(asked.app, asked.name, control_api::RESERVED_APPS)?;
    auth.check(&key, asked.remote.ip(), asked.pass)?;
    Ok(key)
}

/// Whatever there is to ask; hooks and the control plane may take seconds.
pub(super) async fn admit(
    origin: &Origin,
    auth: &Auth,
    asked: Asked<'_>,
    opening: &Opening,
) -> Result<Publication, Refused> {
    let key = check(auth, &asked)?;
    let publisher = Publisher {
        protocol: asked.protocol,
        remote_addr: asked.remote.to_string(),
        backup: asked.backup,
        query: without_secrets(asked.query, MAX_QUERY_BYTES),
        trace: opening.context(),
        line: asked.line,
    };
    Ok(origin.admit(&key, publisher).await?)
}
