//! RTMP.

use reqwest::Url;

use super::flv::Order;
use super::player::{CONNECT, End, STALL};
use super::seen::{Count, Seen};
use crate::support::flv::Tag;
use crate::support::rtmp::Client;

/// Plays until the stream is lost.
pub(super) async fn play(seen: &Seen, node: &str, url: &str) -> End {
    let url = Url::parse(url).unwrap();
    let server = format!("{}:{}", url.host_str().unwrap(), url.port().unwrap()).parse().unwrap();
    let (app, name) = url.path().trim_start_matches('/').split_once('/').unwrap();
    let name = url.query().map_or_else(|| name.to_owned(), |query| format!("{name}?{query}"));
    let mut client = match tokio::time::timeout(CONNECT, Client::open(server, app)).await {
        Ok(Ok(client)) => client,
        Ok(Err(error)) => return End::refused(error),
        Err(_) => return End::refused("no connection in time"),
    };
    match tokio::time::timeout(STALL, client.play(&name)).await {
        Ok(Some(status)) if status.says("NetStream.Play.Reset") || status.says("NetStream.Play.Start") => {}
        Ok(status) => {
            let said = status.map(|status| String::from_utf8_lossy(&status.body).into_owned());
            return End::refused(said.unwrap_or_else(|| "hung up".to_owned()));
        }
        Err(_) => return End::of(Count::Stalled, "no answer"),
    }
    seen.connected(node);
    let mut order = Order::default();
    loop {
        match tokio::time::timeout(STALL, client.receiver.message()).await {
            Ok(Some(message)) if message.says("NetStream.Play.UnpublishNotify") => {
                return End::of(Count::Ended, "unpublished");
            }
            Ok(Some(message)) => {
                let tag = Tag { kind: message.kind, timestamp: message.timestamp, body: message.body };
                order.take(seen, &tag);
            }
            Ok(None) if client.receiver.broke_off() => return End::of(Count::Truncated, "within a message"),
            Ok(None) => return End::of(Count::Closed, "between two messages"),
            Err(_) => return End::of(Count::Stalled, "nothing came"),
        }
    }
}
