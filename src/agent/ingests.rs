//! Where publishers are passed on to who come to an edge.

use std::hash::{DefaultHasher, Hash, Hasher};

use async_trait::async_trait;
use control_api::rpc;
use control_api::rpc::stream_service_client::StreamServiceClient;
use media_core::hub::StreamKey;
use tokio::sync::watch;
use tokio::time::timeout;

use super::leases::name;
use super::{CALL_TIMEOUT, Line};

/// Asks the control plane; without it, an origin that is known from before.
#[derive(Debug)]
pub(super) struct Ingests {
    pub(super) line: watch::Receiver<Option<Line>>,
    /// Where the cluster's origins take publishers, as they were told last.
    pub(super) known: watch::Receiver<Vec<String>>,
}

#[async_trait]
impl edge::Ingests for Ingests {
    async fn ingests(&self, key: &StreamKey, backup: bool) -> Vec<String> {
        let line = self.line.borrow().clone();
        if let Some(line) = line {
            let mut client = StreamServiceClient::new(line.channel());
            let request = line.request(rpc::IngestRequest { key: Some(name(key)), backup });
            match timeout(CALL_TIMEOUT, client.ingest(request)).await {
                Ok(Ok(answer)) => return answer.into_inner().rtmp,
                Ok(Err(status)) => {
                    tracing::debug!(stream = %key, %status, "no origin is named for a publisher");
                }
                Err(_) => {}
            }
        }
        let mut known = self.known.borrow().clone();
        // The same for a stream at each edge.
        known.sort_by_cached_key(|url| {
            let mut hasher = DefaultHasher::new();
            (key.as_str(), url).hash(&mut hasher);
            hasher.finish()
        });
        if backup && known.len() > 1 {
            known.rotate_left(1);
        }
        known
    }
}
