//! Who may publish, whatever protocol it comes by: its stream's name, its key or grant, and whether the origin takes it.

use std::net::SocketAddr;

use control_api::grant::without_secrets;
use media_core::hub::{KeyError, StreamKey};

use crate::auth::{Auth, Denied, Pass};
use crate::opening::Opening;
use crate::{Origin, Publication, PublishError, Publisher};

/// Bytes of a publisher's query that whoever decides about it is told.
const MAX_QUERY_BYTES: usize = 2 << 10;

/// What somebody asks who wants to publish.
#[derive(Debug)]
pub(super) struct Asking<'a> {
    /// What it comes by.
    pub(super) protocol: &'static str,
    pub(super) app: &'a str,
    pub(super) name: &'a str,
    pub(super) remote: SocketAddr,
    pub(super) pass: Pass<'a>,
    /// It waits while another publisher has the stream.
    pub(super) backup: bool,
    /// What stood behind the name, with keys and grants.
    pub(super) query: &'a str,
}

/// Why somebody may not publish.
#[derive(Debug, thiserror::Error)]
pub(super) enum Refused {
    /// Its stream can't have that name.
    #[error(transparent)]
    Name(#[from] KeyError),
    /// Its key or grant does not let it.
    #[error(transparent)]
    Denied(#[from] Denied),
    /// The origin does not take it.
    #[error(transparent)]
    Publish(#[from] PublishError),
}

impl Refused {
    /// Its name in metrics.
    pub(super) fn reason(&self) -> &'static str {
        match self {
            Self::Name(_) => "name",
            Self::Denied(denied) => denied.reason(),
            Self::Publish(_) => "stream",
        }
    }
}

/// The stream that is asked for, if whoever asks may publish it.
pub(super) fn check(auth: &Auth, asking: &Asking<'_>) -> Result<StreamKey, Refused> {
    let key = StreamKey::parse(asking.app, asking.name, control_api::RESERVED_APPS)?;
    auth.check(&key, asking.remote.ip(), asking.pass)?;
    Ok(key)
}

/// The right to publish a stream that [`check`] let somebody have.
pub(super) async fn admit(
    origin: &Origin,
    key: &StreamKey,
    asking: &Asking<'_>,
    opening: &Opening,
) -> Result<Publication, Refused> {
    let publisher = Publisher {
        protocol: asking.protocol,
        remote_addr: asking.remote.to_string(),
        backup: asking.backup,
        query: without_secrets(asking.query, MAX_QUERY_BYTES),
        trace: opening.context(),
    };
    Ok(origin.admit(key, publisher).await?)
}
