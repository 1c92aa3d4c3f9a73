//! What the access log says of a request: begun with it, written when its response has ended, however that was.

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use http::header::{HOST, REFERER, USER_AGENT};
use http::{HeaderMap, HeaderName, Request, Version};
use serde::Serialize;
use tokio::sync::watch;

use super::grant::split;
use super::log::Log;
use crate::fanout::Over;
use crate::shard::Leave;

/// Bytes of any text that a client made up.
const MAX_TEXT_BYTES: usize = 512;

/// A line, as it is written.
#[derive(Debug, Clone, Serialize)]
pub(super) struct Line {
    /// When the request came: milliseconds since 1970.
    time_ms: u64,
    peer: SocketAddr,
    method: Box<str>,
    host: Box<str>,
    /// Without query and grant.
    path: Box<str>,
    protocol: &'static str,
    tls: bool,
    kind: &'static str,
    stream: Option<Box<str>>,
    session: Box<str>,
    /// 0: nothing was answered.
    status: u16,
    /// Bytes to the wire: of HTTP/1 and RTMP all that the socket took, of HTTP/2 and HTTP/3 those of the body.
    bytes: u64,
    duration_ms: u64,
    end: &'static str,
    user_agent: Option<Box<str>>,
    referer: Option<Box<str>>,
}

/// How a connection stands, when one of its responses breaks off.
#[derive(Debug, Clone)]
pub(crate) struct Standing {
    pub(crate) stalled: Arc<AtomicBool>,
    /// Whether the server drains. Its listener has gone if nobody is left to say so.
    pub(crate) drain: Option<watch::Receiver<bool>>,
}

impl Standing {
    /// Why a response broke off.
    fn broke_off(&self) -> &'static str {
        if self.stalled.load(Ordering::Relaxed) {
            "stalled"
        } else if self.drain.as_ref().is_some_and(|drain| *drain.borrow() || drain.has_changed().is_err()) {
            "drained"
        } else {
            "client_closed"
        }
    }
}

/// Whose request it is.
pub(crate) struct Who {
    pub(crate) peer: SocketAddr,
    pub(crate) tls: bool,
    pub(crate) standing: Standing,
}

/// A line in the making. It is written when this is dropped.
pub(crate) struct Record {
    log: Arc<Log>,
    /// `None` once it was written.
    line: Option<Box<Line>>,
    began: Instant,
    standing: Standing,
    /// How often a viewer that stays is written, and when it is next.
    every: Option<Duration>,
    next: Instant,
}

impl Record {
    /// Of an HTTP request.
    pub(super) fn http<B>(log: &Arc<Log>, every: Option<Duration>, who: Who, request: &Request<B>) -> Self {
        let text = |name: HeaderName| header(request.headers(), &name);
        let line = Line {
            time_ms: now_ms(),
            peer: who.peer,
            method: bounded(request.method().as_str()),
            host: request.uri().host().map(bounded).or_else(|| text(HOST)).unwrap_or_default(),
            path: bounded(&without_grants(split(request.uri().path()).1)),
            protocol: match request.version() {
                Version::HTTP_3 => "h3",
                Version::HTTP_2 => "h2",
                _ => "http/1.1",
            },
            tls: who.tls,
            kind: "unknown",
            stream: None,
            session: Box::default(),
            status: 0,
            bytes: 0,
            duration_ms: 0,
            end: "",
            user_agent: text(USER_AGENT),
            referer: text(REFERER).map(|page| without_secrets(&page)),
        };
        Self::new(log, every, who.standing, line)
    }

    /// Of a player that comes by that protocol for that stream.
    pub(super) fn player(
        log: &Arc<Log>,
        every: Option<Duration>,
        who: Who,
        (protocol, stream): (&'static str, &str),
        agent: Option<&str>,
    ) -> Self {
        let line = Line {
            time_ms: now_ms(),
            peer: who.peer,
            method: "play".into(),
            host: Box::default(),
            path: bounded(&format!("/{stream}")),
            protocol,
            tls: who.tls,
            kind: protocol,
            stream: None,
            session: Box::default(),
            status: 0,
            bytes: 0,
            duration_ms: 0,
            end: "",
            user_agent: agent.map(bounded),
            referer: None,
        };
        Self::new(log, every, who.standing, line)
    }

    fn new(log: &Arc<Log>, every: Option<Duration>, standing: Standing, line: Line) -> Self {
        let began = Instant::now();
        let next = began + every.unwrap_or_default();
        Self { log: Arc::clone(log), line: Some(Box::new(line)), began, standing, every, next }
    }

    fn set(&mut self, change: impl FnOnce(&mut Line)) {
        if let Some(line) = &mut self.line {
            change(line);
        }
    }

    /// What was asked for.
    pub(crate) fn asked(&mut self, kind: &'static str, stream: Option<&str>) {
        self.set(|line| {
            line.kind = kind;
            line.stream = stream.map(Into::into);
        });
    }

    /// Whose session it is: as its grant says, or that number.
    pub(crate) fn session(&mut self, named: Option<&str>, number: u64) {
        self.set(|line| line.session = named.map_or_else(|| format!("{number:016x}").into(), Into::into));
    }

    pub(crate) fn status(&mut self, status: u16) {
        self.set(|line| line.status = status);
    }

    /// How often it is to be told how many bytes there were.
    pub(crate) fn every_ms(&self) -> u64 {
        self.every.map_or(u64::MAX, |every| u64::try_from(every.as_millis()).unwrap_or(u64::MAX))
    }

    /// So many bytes by now: says so now and then of a viewer that stays.
    pub(crate) fn so_far(&mut self, bytes: u64) {
        let Some(every) = self.every else { return };
        let now = Instant::now();
        if now < self.next {
            return;
        }
        self.next = now + every;
        let began = self.began;
        if let Some(line) = &mut self.line {
            (line.bytes, line.duration_ms, line.end) = (bytes, since_ms(began), "goes_on");
            self.log.write(line.clone());
        }
    }

    /// It ended so, after so many bytes.
    pub(crate) fn end(mut self, bytes: u64, end: &'static str) {
        self.write(bytes, end);
    }

    /// It broke off, after so many bytes.
    pub(crate) fn broke_off(mut self, bytes: u64) {
        let end = self.standing.broke_off();
        self.write(bytes, end);
    }

    /// Its viewer left the shard.
    pub(crate) fn left(self, bytes: u64, why: Leave) {
        let end = match why {
            Leave::Gone => return self.broke_off(bytes),
            Leave::Done | Leave::Over(Over::Ended) => "finished",
            Leave::Over(Over::Lagged) => "lagged",
            Leave::Over(Over::Stalled) => "stalled",
            Leave::Over(Over::Paused) => "paused",
            Leave::Over(Over::Expired) => "expired",
            Leave::Cut => "drained",
            Leave::Fault => "fault",
        };
        self.end(bytes, end);
    }

    fn write(&mut self, bytes: u64, end: &'static str) {
        if let Some(mut line) = self.line.take() {
            (line.bytes, line.duration_ms, line.end) = (bytes, since_ms(self.began), end);
            self.log.write(line);
        }
    }
}

impl Drop for Record {
    fn drop(&mut self) {
        let end = self.standing.broke_off();
        self.write(0, end);
    }
}

fn now_ms() -> u64 {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(now.as_millis()).unwrap_or(u64::MAX)
}

fn since_ms(began: Instant) -> u64 {
    u64::try_from(began.elapsed().as_millis()).unwrap_or(u64::MAX)
}

fn header(headers: &HeaderMap, name: &HeaderName) -> Option<Box<str>> {
    headers.get(name).map(|value| bounded(&String::from_utf8_lossy(value.as_bytes())))
}

fn bounded(text: &str) -> Box<str> {
    let end = (0..=text.len().min(MAX_TEXT_BYTES)).rev().find(|end| text.is_char_boundary(*end));
    text.get(..end.unwrap_or_default()).unwrap_or_default().into()
}

/// A path that a grant was put into otherwise than it has to be: what is no grant to us may be one elsewhere.
fn without_grants(path: &str) -> Cow<'_, str> {
    let is_grant =
        |part: &str| part.starts_with('~') || part.get(..3).is_some_and(|s| s.eq_ignore_ascii_case("%7e"));
    if !path.split('/').any(is_grant) {
        return path.into();
    }
    let parts: Vec<&str> = path.split('/').map(|part| if is_grant(part) { "~" } else { part }).collect();
    parts.join("/").into()
}

/// A page's address may have a grant where ours have.
fn without_secrets(page: &str) -> Box<str> {
    let page = page.split(['?', '#']).next().unwrap_or_default();
    without_grants(page).into()
}

/// Any line.
#[cfg(test)]
pub(super) fn line(path: &str) -> Box<Line> {
    Box::new(Line {
        time_ms: 1,
        peer: SocketAddr::from(([127, 0, 0, 1], 9)),
        method: "GET".into(),
        host: "edge".into(),
        path: path.into(),
        protocol: "h2",
        tls: true,
        kind: "flv",
        stream: Some("live/a".into()),
        session: "s".into(),
        status: 200,
        bytes: 7,
        duration_ms: 3,
        end: "finished",
        user_agent: None,
        referer: None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_have_bounds_and_no_grants() {
        assert_eq!(bounded(&"ä".repeat(400)).len(), MAX_TEXT_BYTES);
        assert_eq!(&*bounded("short"), "short");
        assert_eq!(without_grants("/live/a.flv"), "/live/a.flv");
        assert_eq!(without_grants("/%7Esecret/live/a.flv"), "/~/live/a.flv");
        assert_eq!(without_grants("//~secret/live/%7esecret"), "//~/live/~");
        let page = without_secrets;
        assert_eq!(&*page("https://a.example/watch?token=secret#x"), "https://a.example/watch");
        assert_eq!(
            &*page("https://a.example/~secret/live/a/index.m3u8"),
            "https://a.example/~/live/a/index.m3u8"
        );
    }
}
