//! What an origin does for conferences: it drops the sound of those who are muted, and tells how loud the others are.

use std::collections::HashSet;
use std::time::Duration;

use control_api::rpc;
use control_api::rpc::node_service_client::NodeServiceClient;
use media_core::hub::StreamKey;
use origin::Origin;
use tokio::sync::watch;
use tokio::time::{MissedTickBehavior, interval};

use super::Line;

/// How often levels are told: fast enough to show who speaks.
const EVERY: Duration = Duration::from_millis(250);

/// The conferences of the cluster, as app/name.
pub(super) type Names = HashSet<String>;

fn key(path: &str) -> Option<StreamKey> {
    let (app, name) = path.split_once('/')?;
    StreamKey::parse(app, name, control_api::RESERVED_APPS).ok()
}

/// Whether a stream is a member's.
fn is_of(names: &Names, key: &StreamKey) -> bool {
    let conference = key.as_str().split_once(control_api::MEMBER_SEPARATOR).map(|(conference, _)| conference);
    conference.is_some_and(|conference| names.contains(conference))
}

/// Does what it is told.
pub(super) fn obey(told: rpc::Conferences, origin: &Origin, names: &watch::Sender<Names>) {
    origin.mute(told.muted.iter().filter_map(|path| key(path)).collect());
    names.send_replace(told.names.into_iter().collect());
}

/// Tells how loud members are, while there are any; never ends.
pub(super) async fn tell(
    origin: Origin,
    mut names: watch::Receiver<Names>,
    line: watch::Receiver<Option<Line>>,
) {
    let mut ticks = interval(EVERY);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        // In a cluster without conferences this costs nothing.
        if names.wait_for(|names| !names.is_empty()).await.is_err() {
            return;
        }
        ticks.tick().await;
        let levels = {
            let names = names.borrow();
            origin.audio_levels(|key| is_of(&names, key))
        };
        let line = line.borrow().clone();
        let (Some(line), false) = (line, levels.is_empty()) else { continue };
        let level = |(key, level): (StreamKey, u8)| rpc::Level {
            stream: key.as_str().to_owned(),
            level: level.into(),
        };
        let report = rpc::LevelReport { levels: levels.into_iter().map(level).collect(), at_ms: 0 };
        let mut client = NodeServiceClient::new(line.channel());
        // What is late is worth nothing, and what fails is told anew; a replica that does not know of it need not.
        let _ = tokio::time::timeout(EVERY, client.levels(line.request(report))).await;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_member_s_stream_is_told_from_others() {
        let names = Names::from(["live/room".to_owned()]);
        for (path, expected) in [
            ("live/room~ann", true),
            ("live/room", false),
            ("live/other~ann", false),
            ("show/room~ann", false),
        ] {
            assert_eq!(is_of(&names, &key(path).unwrap()), expected, "{path}");
        }
        assert!(key("live").is_none() && key("api/a").is_none());
    }
}
