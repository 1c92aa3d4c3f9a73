//! HTTP-FLV.

use reqwest::Url;

use super::http::{Connection, Lost};
use super::player::{End, STALL};
use super::seen::{Count, Seen};
use crate::support::flv::{AUDIO, Reader, Tag, VIDEO};

/// Plays until the stream is lost.
pub(super) async fn play(seen: &Seen, node: &str, url: &str) -> End {
    let url = Url::parse(url).unwrap();
    let mut connection = match Connection::open(&authority(&url)).await {
        Ok(connection) => connection,
        Err(error) => return End::refused(error),
    };
    match tokio::time::timeout(STALL, connection.get(&path(&url), None)).await {
        Ok(Ok(answer)) if answer.status == 200 => {}
        Ok(answer) => return End::refused(format!("{answer:?}")),
        Err(_) => return End::of(Count::Stalled, "no answer"),
    }
    seen.connected(node);
    let (mut reader, mut order) = (Reader::default(), Order::default());
    loop {
        match tokio::time::timeout(STALL, connection.chunk()).await {
            Ok(Ok(Some(chunk))) => {
                reader.push(&chunk);
                while let Some(tag) = reader.next() {
                    order.take(seen, &tag);
                }
            }
            Ok(Ok(None)) if reader.is_between() => return End::of(Count::Ended, "regularly"),
            Ok(Err(Lost::Closed)) if reader.is_between() => {
                return End::of(Count::Cut, "between two tags");
            }
            Ok(_) => return End::of(Count::Truncated, "within a tag"),
            Err(_) => return End::of(Count::Stalled, "nothing came"),
        }
    }
}

/// Host and port.
pub(super) fn authority(url: &Url) -> String {
    format!("{}:{}", url.host_str().unwrap(), url.port_or_known_default().unwrap())
}

/// What of a URL is asked for.
pub(super) fn path(url: &Url) -> String {
    url.query().map_or_else(|| url.path().to_owned(), |query| format!("{}?{query}", url.path()))
}

/// Tags or messages of one connection: neither sound nor picture goes back in time.
#[derive(Default)]
pub(super) struct Order {
    picture: Option<u32>,
    sound: Option<u32>,
}

impl Order {
    pub(super) fn take(&mut self, seen: &Seen, tag: &Tag) {
        if tag.is_configuration() {
            if tag.kind == VIDEO {
                seen.configuration(&tag.body);
            }
            return;
        }
        let last = match tag.kind {
            VIDEO => &mut self.picture,
            AUDIO => &mut self.sound,
            _ => return,
        };
        if last.is_some_and(|last| tag.timestamp < last) {
            seen.trouble(Count::Backwards, &format!("{last:?}, then {}", tag.timestamp));
        }
        *last = Some(tag.timestamp);
        if tag.kind == VIDEO {
            seen.frame();
        }
    }
}
