//! Who is let in, and who is told why not: what can be said at once, before the handshake is done.

use std::net::SocketAddr;

use media_core::hub::StreamKey;
use srt::stream_id::{Mode, StreamId};
use srt::{Decision, Reject, Request, Terms};

use super::Inner;
use crate::auth::Pass;
use crate::ingest::admission::{self, Asked, Refused};

/// What publishers come by, as it is said of them.
pub(super) const PROTOCOL: &str = "srt";

/// A refusal: its name in metrics, what the caller is told, and what the log says.
struct No(&'static str, Reject, String);

/// What a publisher asks for.
pub(super) fn asked<'a>(id: &'a StreamId, query: &'a str, remote: SocketAddr) -> Asked<'a> {
    Asked {
        protocol: PROTOCOL,
        app: &id.app,
        name: &id.name,
        remote,
        pass: Pass { key: id.param("key"), grant: id.param("token") },
        backup: admission::is_backup(id.param("backup")),
        query,
        line: None,
    }
}

impl Inner {
    /// Whether a caller is let in, and how. libsrt asks, in the thread of the port: nothing here waits.
    pub(super) fn decide(&self, request: Request<'_>) -> Decision {
        self.may(request).map_err(|No(reason, reject, why)| {
            self.metrics.refused.with_label_values(&[reason]).inc();
            // Callers can come at any rate, with names that they make up.
            tracing::debug!(remote = %request.peer, code = reject.code(), "SRT caller refused: {why}");
            reject
        })
    }

    fn may(&self, request: Request<'_>) -> Result<Terms, No> {
        let remote = request.peer;
        if self.origin.is_draining() {
            return Err(No("draining", Reject::DOWN, "the server is shutting down".to_owned()));
        }
        let config = self.config.load();
        let limits =
            self.limits.look(remote.ip(), config.max_connections, config.max_connections_per_address);
        limits.map_err(|exceeded| {
            No("limit", Reject::OVERLOAD, format!("too many connections ({})", exceeded.name()))
        })?;
        let id = StreamId::parse(request.stream_id)
            .map_err(|error| No("stream_id", Reject::BAD_REQUEST, error.to_string()))?;
        let key = match id.mode {
            Mode::Publish => self.may_publish(&id, remote)?,
            Mode::Request => self.may_play(&id, remote)?,
        };
        Ok(Terms { passphrase: self.passphrases.load().of(key.as_str()).cloned(), latency: None })
    }

    fn may_publish(&self, id: &StreamId, remote: SocketAddr) -> Result<StreamKey, No> {
        let asked = asked(id, "", remote);
        let backup = asked.backup;
        let key = admission::check(&self.auth, &asked).map_err(|refused| {
            let reject = match refused {
                Refused::Name(_) => Reject::BAD_REQUEST,
                Refused::Denied(_) => Reject::UNAUTHORIZED,
                Refused::Stream(_) => Reject::CONFLICT,
            };
            No(refused.reason(), reject, refused.to_string())
        })?;
        if !backup && self.origin.is_taken(&key) {
            return Err(No("stream", Reject::CONFLICT, format!("{key} is published already")));
        }
        Ok(key)
    }

    fn may_play(&self, id: &StreamId, remote: SocketAddr) -> Result<StreamKey, No> {
        let Some(players) = &self.players else {
            let why = "this server takes streams in, and plays none".to_owned();
            return Err(No("mode", Reject::BAD_MODE, why));
        };
        let key = StreamKey::parse(&id.app, &id.name, control_api::RESERVED_APPS)
            .map_err(|error| No("name", Reject::BAD_REQUEST, error.to_string()))?;
        players.may(remote, id).map_err(|reject| No("play", reject, format!("{key} may not be played")))?;
        Ok(key)
    }
}
