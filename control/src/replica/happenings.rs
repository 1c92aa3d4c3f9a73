//! What hooks are asked and told, in their terms.

use std::collections::BTreeMap;

use control_api::rpc::{self, policy::Ask};
use futures_util::future::join_all;
use futures_util::{StreamExt as _, stream};
use tokio::sync::broadcast;
use tokio::sync::broadcast::error::RecvError;

use crate::hooks::{self, Entered, Event, EventId, EventKind, Happening, Hooks, OnError, StreamName};
use crate::nodes::Caller;
use crate::streams::{News, Wanted, What};

/// Events that are written at the same time.
pub(crate) const AT_ONCE: usize = 256;

/// Parameters of a client's URL that are told, and bytes of each; more is left out.
const MAX_PARAMS: usize = 32;
const MAX_PARAM_BYTES: usize = 512;

/// Parameters that are secrets, or for weir itself.
const OWN_PARAMS: [&str; 4] = ["key", "token", "backup", "latency"];

/// What nodes are to ask, as the endpoints want it.
pub(crate) fn policy(config: &hooks::Config) -> rpc::Policy {
    let listening = |kind| config.endpoints.iter().filter(move |endpoint| endpoint.events.contains(&kind));
    let ask = |kind| {
        let mut ask = Ask::Not;
        for endpoint in listening(kind) {
            ask = match endpoint.on_error {
                OnError::Allow if ask == Ask::Not => Ask::OrAllow,
                OnError::Allow => ask,
                OnError::Refuse => Ask::OrRefuse,
            };
        }
        ask
    };
    rpc::Policy {
        publish: ask(EventKind::OnPublish).into(),
        play: ask(EventKind::OnPlay).into(),
        left: listening(EventKind::OnStop).next().is_some(),
    }
}

/// Somebody wants to publish.
pub(crate) fn publishing(caller: &Caller, wanted: &Wanted) -> Event {
    let stream = name(&wanted.key);
    let mut event = Event::new(Happening::OnPublish, stream, wanted.epoch, caller.name.clone());
    event.protocol = text(&wanted.protocol);
    event.remote_addr = text(&wanted.remote_addr);
    event.params = params(&wanted.query);
    event
}

/// Somebody wants to watch, or has left.
pub(crate) fn watching(happening: Happening, caller: &Caller, session: &rpc::Session, epoch: u64) -> Event {
    let stream = session.key.as_ref().map(name).unwrap_or_else(|| name(&rpc::StreamKey::default()));
    let mut event = Event::new(happening, stream, epoch, caller.name.clone());
    event.protocol = text(&session.protocol);
    event.remote_addr = text(&session.remote_addr);
    event.session = text(if session.name.is_empty() { &session.id } else { &session.name });
    event.params = params(&session.query);
    // Told twice, it is the same.
    event.id = EventId::of(&[event.kind().name(), &caller.name, &session.id]);
    event
}

/// Tells what happens to streams, as far as this replica made it happen, in that order; ends with the news.
pub(crate) async fn tell_of_streams(hooks: Hooks, news: broadcast::Receiver<News>) {
    // One after the other, or they would be entered in the order in which their waits happen to be woken.
    let entered = stream::unfold((hooks.clone(), news), |(hooks, mut news)| async move {
        loop {
            match news.recv().await {
                Ok(said) => {
                    if let Some(event) = event(&said) {
                        let entered = hooks.enter(&event).await;
                        return Some(((event, entered), (hooks, news)));
                    }
                }
                Err(RecvError::Lagged(missed)) => {
                    tracing::error!(missed, "hooks are not told of all that happened to streams");
                }
                Err(RecvError::Closed) => return None,
            }
        }
    });
    let on_disk = |(event, entered): (Event, Result<Entered, hooks::Error>)| {
        let hooks = hooks.clone();
        async move {
            let told = async { entered?.on_disk().await };
            if let Err(error) = told.await {
                hooks.is_lost(&error);
                let stream = format!("{}/{}", event.stream.app, event.stream.name);
                tracing::error!(event = event.kind().name(), stream, %error, "hooks are not told");
            }
        }
    };
    // The disk is waited for by many at once.
    entered.map(on_disk).buffered(AT_ONCE).for_each(|()| async {}).await;
}

/// Tells of viewers who have left; of what became of each, in their order. What was not told may be told again, and is
/// counted by whoever does not do that.
pub(crate) async fn tell_of_viewers(hooks: &Hooks, events: &[Event]) -> Vec<Result<(), hooks::Error>> {
    // What is written to disk is waited for by all at once.
    join_all(events.iter().map(|event| async { hooks.enter(event).await?.on_disk().await })).await
}

fn event(News { what, record }: &News) -> Option<Event> {
    let happening = match what {
        // It was asked before.
        What::Published => return None,
        What::Dropped => Happening::OnDrop,
        What::Resumed => Happening::OnResume,
        What::Ended => Happening::OnUnpublish,
    };
    let stream = StreamName { app: record.app.clone(), name: record.name.clone() };
    let mut event = Event::new(happening, stream, record.epoch, record.node.clone());
    event.protocol = text(&record.protocol);
    event.remote_addr = text(&record.remote_addr);
    Some(event)
}

fn name(key: &rpc::StreamKey) -> StreamName {
    StreamName { app: key.app.clone(), name: key.name.clone() }
}

fn text(text: &str) -> Option<String> {
    Some(text.to_owned()).filter(|text| !text.is_empty())
}

fn params(query: &str) -> BTreeMap<String, String> {
    url::form_urlencoded::parse(query.as_bytes())
        .filter(|(key, value)| {
            !OWN_PARAMS.contains(&&**key) && key.len() <= MAX_PARAM_BYTES && value.len() <= MAX_PARAM_BYTES
        })
        .take(MAX_PARAMS)
        .map(|(key, value)| (key.into_owned(), value.into_owned()))
        .collect()
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use control_api::Secret;

    use super::*;
    use crate::hooks::Endpoint;
    use crate::streams::{Record, State};

    #[test]
    fn the_strictest_endpoint_decides_what_nodes_do_without_an_answer() {
        let endpoint = |url: &str, on_error, events: &[EventKind]| Endpoint {
            on_error,
            events: events.to_vec(),
            ..Endpoint::new(url, Secret::new("0123456789abcdef"))
        };
        let mut config = hooks::Config::default();
        assert_eq!(policy(&config), rpc::Policy::default());
        config.endpoints.push(endpoint("https://a.example", OnError::Allow, &[EventKind::OnPublish]));
        let told = policy(&config);
        assert_eq!((told.publish(), told.play(), told.left), (Ask::OrAllow, Ask::Not, false));
        let all = [EventKind::OnPublish, EventKind::OnPlay, EventKind::OnStop];
        config.endpoints.insert(0, endpoint("https://b.example", OnError::Refuse, &all));
        let told = policy(&config);
        assert_eq!((told.publish(), told.play(), told.left), (Ask::OrRefuse, Ask::OrRefuse, true));
    }

    #[test]
    fn parameters_are_told_without_secrets_and_bounded() {
        let told = params("lang=de&token=secret&key=secret&sign=a%26b&backup=1");
        let expected = [("lang", "de"), ("sign", "a&b")];
        assert_eq!(told, expected.map(|(k, v)| (k.to_owned(), v.to_owned())).into());
        let many: String = (0..100).map(|n| format!("p{n}=1&")).collect();
        assert_eq!(params(&many).len(), MAX_PARAMS);
        assert!(params(&format!("a={}", "x".repeat(MAX_PARAM_BYTES + 1))).is_empty());
    }

    #[tokio::test]
    async fn what_happens_to_a_stream_is_told_in_its_order_however_much_happens_at_once() {
        const MANY: u64 = 600;
        let (told, mut epochs) = tokio::sync::mpsc::channel(1_000);
        let listening = axum::routing::post(move |axum::Json(event): axum::Json<Event>| async move {
            told.send((event.epoch, event.kind())).await.unwrap();
        });
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}/", listener.local_addr().unwrap());
        tokio::spawn(
            axum::serve(listener, axum::Router::new().route("/", listening).into_make_service())
                .into_future(),
        );
        let config = hooks::Config {
            endpoints: vec![Endpoint::new(url, Secret::new("0123456789abcdef"))],
            allow_private: vec!["127.0.0.1".to_owned()],
            ..hooks::Config::default()
        };
        let folder = tempfile::tempdir().unwrap();
        let hooks = Hooks::open(&config, folder.path(), &prometheus::Registry::new()).unwrap();
        let (news, taken) = broadcast::channel(1_024);
        let happened = |epoch| {
            let what = if epoch % 2 == 0 { What::Dropped } else { What::Resumed };
            News { what, record: Arc::new(record(epoch)) }
        };
        for epoch in 0..MANY {
            news.send(happened(epoch)).unwrap();
        }
        drop(news);
        tell_of_streams(hooks.clone(), taken).await;
        for epoch in 0..MANY {
            let kind = if epoch % 2 == 0 { EventKind::OnDrop } else { EventKind::OnResume };
            assert_eq!(epochs.recv().await, Some((epoch, kind)));
        }
    }

    fn record(epoch: u64) -> Record {
        Record {
            app: "live".to_owned(),
            name: "a".to_owned(),
            epoch,
            proposed: epoch,
            state: State::Live,
            node: "origin-1".to_owned(),
            instance: 1,
            started_at_ms: 0,
            protocol: "rtmp".to_owned(),
            remote_addr: String::new(),
            backup: false,
            standbys: Vec::new(),
        }
    }
}
