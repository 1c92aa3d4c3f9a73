//! What a server session tells its application.

use std::borrow::Cow;
use std::sync::Arc;

use percent_encoding::percent_decode_str;

use crate::rtmp::{Connect, Message};

/// Something happened.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Event {
    /// The client said who it is.
    Connected(Arc<Connect>),
    /// The client wants to publish: accept or refuse it.
    Publish(Box<Request>),
    /// The client wants to play: accept or refuse it.
    Play(Box<Request>),
    /// Media of the accepted publisher.
    Media(Message),
    /// The publisher ended its stream, or withdrew its request.
    Unpublished,
    /// The player wants no more, or withdrew its request.
    Stopped,
    /// The player paused (true) or goes on (false).
    Paused(bool),
}

/// A wish to publish or to play.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    /// The message stream it is about: what accepting and refusing take, and what messages carry.
    pub id: u32,
    /// First part of the stream's path.
    pub app: String,
    /// Second part of the stream's path, without query. Not checked in any way.
    pub name: String,
    /// Query strings of the name and of the app or `tcUrl`, the name's first; without `?`.
    pub query: String,
    /// What the client said when it connected.
    pub connect: Arc<Connect>,
}

impl Request {
    pub(super) fn new(id: u32, connect: &Arc<Connect>, name: &str) -> Self {
        let (name, name_query) = crate::rtmp::connect::split_query(name);
        let queries = [name_query, connect.query.as_str()];
        let query = queries.into_iter().filter(|q| !q.is_empty()).collect::<Vec<_>>().join("&");
        Self { id, app: connect.app.clone(), name: name.to_owned(), query, connect: Arc::clone(connect) }
    }

    /// The first query parameter of that name, percent-decoded; `+` stands for itself.
    pub fn param(&self, key: &str) -> Option<Cow<'_, str>> {
        let mut pairs = self.query.split('&').filter_map(|pair| pair.split_once('='));
        pairs.find(|(k, _)| *k == key).map(|(_, v)| percent_decode_str(v).decode_utf8_lossy())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_names_query_comes_before_the_apps() {
        let connect = Connect { app: "live".into(), query: "key=app&x=1".into(), ..Connect::default() };
        let request = Request::new(1, &Arc::new(connect), "a?key=n%2Fa+me&y");
        assert_eq!((request.app.as_str(), request.name.as_str()), ("live", "a"));
        assert_eq!(request.param("key").as_deref(), Some("n/a+me"));
        assert_eq!(request.param("x").as_deref(), Some("1"));
        assert_eq!(request.param("y"), None);
    }
}
