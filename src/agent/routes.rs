//! Where the streams are that an edge pulls, as the control plane tells it.
//!
//! An edge finds streams by asking the origins, and needs none of this to serve them. What it learns here is what no origin
//! can tell it: that a stream has a newer epoch elsewhere, whose frames alone are for viewers from then on.

use std::collections::HashSet;
use std::time::Duration;

use control_api::rpc;
use control_api::rpc::stream_service_client::StreamServiceClient;
use edge::{Edge, Origins};
use media_core::hub::{Epoch, StreamKey};
use tokio::sync::{mpsc, watch};
use tokio_stream::wrappers::ReceiverStream;
use tonic::Status;

use super::Line;
use super::leases::name;

/// How often it is looked which streams are pulled.
const LOOK: Duration = Duration::from_millis(250);

/// Requests that wait to be sent: a replica that takes none for so long is lost.
const MAX_WAITING: usize = 16;

/// Follows the streams of an edge, by whichever replica; never ends.
pub(super) async fn follow(edge: Edge, origins: Option<Origins>, mut line: watch::Receiver<Option<Line>>) {
    loop {
        let now = line.borrow_and_update().clone();
        let Some(now) = now else {
            if line.changed().await.is_err() {
                return;
            }
            continue;
        };
        let followed = tokio::select! {
            followed = follow_by(&edge, origins.as_ref(), &now) => followed,
            // Another replica, or none.
            changed = line.changed() => match changed {
                Ok(()) => continue,
                Err(_) => return,
            },
        };
        if let Err(status) = followed {
            tracing::debug!(%status, "the control plane does not tell where streams are");
        }
        tokio::time::sleep(LOOK).await;
    }
}

async fn follow_by(edge: &Edge, origins: Option<&Origins>, line: &Line) -> Result<(), Status> {
    let mut client = StreamServiceClient::new(line.channel());
    let (ask, asking) = mpsc::channel(MAX_WAITING);
    // The call is answered once something was asked.
    let nothing = rpc::WatchRequest::default();
    ask.try_send(nothing).map_err(|_| Status::internal("no room for a request"))?;
    let mut locations = client.watch(line.request(ReceiverStream::new(asking))).await?.into_inner();
    let mut followed: HashSet<StreamKey> = HashSet::new();
    let mut ticks = tokio::time::interval(LOOK);
    loop {
        tokio::select! {
            location = locations.message() => match location? {
                Some(location) => take(edge, origins, &location),
                None => return Ok(()),
            },
            _ = ticks.tick() => {
                let pulled: HashSet<StreamKey> = edge.pulled().into_iter().collect();
                let request = rpc::WatchRequest {
                    add: pulled.difference(&followed).map(name).collect(),
                    remove: followed.difference(&pulled).map(name).collect(),
                };
                if request.add.is_empty() && request.remove.is_empty() {
                    continue;
                }
                ask.try_send(request).map_err(|_| Status::unavailable("it takes no requests"))?;
                followed = pulled;
            }
        }
    }
}

fn take(edge: &Edge, origins: Option<&Origins>, location: &rpc::Location) {
    let Some(key) = location.key.as_ref() else { return };
    let Ok(key) = StreamKey::parse(&key.app, &key.name, control_api::RESERVED_APPS) else { return };
    // Where nobody publishes, the last one's viewers wait for whoever comes back.
    if location.state() != rpc::State::Live {
        return;
    }
    tracing::debug!(stream = %key, epoch = location.epoch, node = location.node, "a stream is there");
    if let Some(origins) = origins
        && !location.relay.is_empty()
    {
        origins.point(key.as_str(), &location.relay);
    }
    edge.moved(&key, Epoch(location.epoch));
}
