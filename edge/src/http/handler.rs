//! From a request to its response.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use bytes::Bytes;
use control_api::grant::Claims;
use control_api::trace::TRACEPARENT;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_EXPOSE_HEADERS,
    ACCESS_CONTROL_MAX_AGE, ALLOW, CONTENT_LENGTH, HeaderMap, HeaderValue, ORIGIN, USER_AGENT,
};
use http::{Method, Request, Response, StatusCode, Version};
use http_body::Body as _;
use media_core::hub::StreamKey;
use media_core::relay::Place;

use super::connection::{Connection, Departure, Notes};
use super::intake::limited;
use super::problem::{ALLOWED, denied, full, moved, problem, refusal};
use super::progress::Progress;
use super::route::{BadPath, Container, Route, route};
use super::watched::watched;
use super::websocket::WebSocket;
use super::{Shared, live, websocket, whep};
use crate::audience::Client;
use crate::fanout::{Format, Start};
use crate::guard::{self, Asker, Guard, Record, Shown};
use crate::places::network;
use crate::sessions::{Arriving, Hold};
use crate::shard::{Latency, Protocol};
use crate::sound::Wanted;
use crate::traced::{Asking, until_first};
use crate::upstream::{Body, VIA, ask, doubt};

/// What becomes of a request is noted in the access log, and in a span.
type Noted<'a> = (&'a mut Option<Record>, &'a mut Option<Box<Asking>>);

/// What is known of a request that is served.
pub(super) struct Admitted {
    pub(super) peer: SocketAddr,
    /// When its grant expires.
    pub(super) until: Option<Instant>,
    /// A viewer that asks for a playlist, and whether it has before.
    watching: Option<(Client, bool)>,
    /// What its grant says.
    claims: Option<Arc<Claims>>,
}

impl Admitted {
    fn at(peer: SocketAddr) -> Self {
        Self { peer, until: None, watching: None, claims: None }
    }

    /// Begins a session of theirs, or says why there is none.
    pub(super) async fn enter(
        &self,
        shared: &Shared,
        key: &StreamKey,
        protocol: &'static str,
        query: Option<&str>,
    ) -> Result<Hold, Response<Body>> {
        let name = self.claims.as_ref().and_then(|claims| claims.sid.as_deref());
        let arriving = Arriving { key, protocol, address: self.peer.ip(), name, query };
        let entered = shared.sessions.enter(arriving).await;
        entered.map_err(|turned_away| {
            shared.guard.turned_away();
            problem(StatusCode::FORBIDDEN, &turned_away.0)
        })
    }
}

/// Answers a request, whose progress is noted.
pub(super) async fn handle(
    shared: &Shared,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    mut request: Request<Body>,
) -> Response<Body> {
    let is_edge = shared.config.relay_key.as_ref().is_some_and(|key| key.is_borne_by(request.headers()));
    if !is_edge {
        // Those who share a question share its way, too: viewers have no say in it.
        doubt(request.headers_mut());
    }
    let (before, path) = guard::split(request.uri().path());
    let route = match route(path) {
        // Pages have no viewers.
        Ok(Route::Pages) if before.is_some() => Ok(Route::Unknown),
        route => route,
    };
    let asker = shared.guard.asker(connection.peer, request.headers());
    let mut record = shared.guard.record(|| connection.who(asker.peer), &request);
    let kind = (request.version(), request.method() == Method::HEAD);
    // Whose pages may read theirs is for pages to say.
    let shared_with =
        (!matches!(route, Ok(Route::Pages | Route::Whip))).then(|| request.headers().get(ORIGIN).cloned());
    if let Some(record) = &mut record {
        describe(shared, asker.peer, &route, request.headers(), record);
    }
    let mut asking = if is_edge { None } else { asking(shared, &route, &request) };
    let admitted = if is_edge {
        // Its viewers are asked there.
        Ok(Admitted::at(asker.peer))
    } else {
        admit(shared, asker, &route, before, &request, record.as_mut())
    };
    let mut response = match admitted {
        Err(denied) => *denied,
        Ok(admitted) => {
            let notes = (&mut record, &mut asking);
            answer(shared, connection, Arc::clone(&progress), (route, admitted), request, notes).await
        }
    };
    if let Some(asking) = asking {
        let relay = shared.feeds.trace(asking.stream());
        drop(asking.answered(response.status(), relay.as_ref()));
    }
    if kind.1 {
        response = without_body(response);
    }
    // What HTTP/1.1 does not take stalls the socket.
    if kind.0 >= Version::HTTP_2 {
        response = response.map(|body| watched(body, Arc::clone(&progress)));
    }
    if let Some(origin) = shared_with {
        shared.guard.share(origin.as_ref(), response.headers_mut());
    }
    shared.metrics.responded(response.status());
    match record {
        None => response,
        Some(mut record) => {
            record.status(response.status().as_u16());
            connection.note(record, &progress, response, kind).await
        }
    }
}

/// A viewer who is traced. Of an HLS player it is the multivariant playlist that is: what it asks for behind that is in its
/// turn, and no beginning.
fn asking(shared: &Shared, route: &Result<Route, BadPath>, request: &Request<Body>) -> Option<Box<Asking>> {
    let (key, protocol) = match route {
        Ok(Route::Live(Container::Flv, key)) if websocket::is_upgrade(request.headers()) => (key, "ws_flv"),
        Ok(Route::Live(container, key)) => (key, container.name()),
        Ok(Route::Hls(file)) if file.is_multivariant() => (&file.key, "hls"),
        _ => return None,
    };
    if *request.method() != Method::GET {
        return None;
    }
    Asking::new(shared.feeds.tracer(), protocol, key, Some(request.headers()))
}

/// The answer to HEAD, whatever that is: its length, and none of its body. hyper sees to that over HTTP/1.1 alone.
fn without_body(response: Response<Body>) -> Response<Body> {
    let (mut head, body) = response.into_parts();
    if let Some(len) = body.size_hint().exact().filter(|len| *len > 0) {
        head.headers.entry(CONTENT_LENGTH).or_insert_with(|| HeaderValue::from(len));
    }
    Response::from_parts(head, full(Bytes::new()))
}

/// What the access log says of a request, but whose session it is if a grant says so.
fn describe(
    shared: &Shared,
    peer: SocketAddr,
    route: &Result<Route, BadPath>,
    headers: &HeaderMap,
    record: &mut Record,
) {
    let (kind, key) = match route {
        Ok(Route::Live(Container::Flv, key)) if websocket::is_upgrade(headers) => ("websocket", Some(key)),
        Ok(Route::Live(container, key)) => (container.name(), Some(key)),
        Ok(Route::Hls(file)) if file.playlist => ("playlist", Some(&file.key)),
        Ok(Route::Hls(file)) => ("media", Some(&file.key)),
        Ok(Route::Relay(key)) => ("relay", Some(key)),
        Ok(Route::Whep(key, None)) => ("webrtc", Some(key)),
        Ok(Route::Whep(key, Some(_))) => ("webrtc_session", Some(key)),
        Ok(Route::Pages | Route::Whip) => ("page", None),
        Ok(Route::Unknown) | Err(_) => ("unknown", None),
    };
    let stream = key.map(StreamKey::as_str);
    record.asked(kind, stream);
    let hls = matches!(kind, "playlist" | "media");
    let number = shared.guard.session(peer.ip(), agent(headers), stream.unwrap_or_default(), hls);
    record.session(None, number);
}

/// What a client calls itself.
fn agent(headers: &HeaderMap) -> &[u8] {
    headers.get(USER_AGENT).map_or(&[][..], HeaderValue::as_bytes)
}

/// Whether a viewer's request is served at all; else what is answered instead. `before` is the grant before its path.
fn admit(
    shared: &Shared,
    Asker { peer, by_proxy }: Asker,
    route: &Result<Route, BadPath>,
    before: Option<&str>,
    request: &Request<Body>,
    record: Option<&mut Record>,
) -> Result<Admitted, Box<Response<Body>>> {
    let guard = &shared.guard;
    let mut admitted = Admitted::at(peer);
    let denied = |denial| Box::new(denied(denial));
    if by_proxy {
        guard.may_connect(peer.ip()).map_err(denied)?;
    }
    guard.may_ask(network(peer.ip())).map_err(denied)?;
    let (key, file) = match route {
        Ok(Route::Live(_, key)) => (key, None),
        Ok(Route::Hls(file)) => (&file.key, Some(file)),
        // Whoever knows a session's name may end it.
        Ok(Route::Whep(key, None)) => (key, None),
        _ => return Ok(admitted),
    };
    let watches = match route {
        Ok(Route::Whep(..)) => *request.method() == Method::POST,
        _ => matches!(*request.method(), Method::GET | Method::HEAD),
    };
    if !watches {
        return Ok(admitted);
    }
    let headers = request.headers();
    guard.may_show(headers, file.is_none() && websocket::is_upgrade(headers)).map_err(denied)?;
    if guard.asks_for_grants() {
        let shown = Shown::find(before, headers, request.uri());
        let grant = shown.as_ref().map(Shown::text);
        let claims = guard.may_play(key, grant, peer.ip()).map_err(denied)?;
        admitted.until = claims.as_deref().and_then(Guard::until);
        let named = claims.as_ref().and_then(|claims| claims.sid.as_deref());
        if let (Some(record), Some(sid)) = (record, named) {
            record.session(Some(sid), 0);
        }
        admitted.claims = claims;
        if let (Some(file), Some(shown)) = (file.filter(|file| file.playlist), shown)
            && let Some(to) = shown.kept_at(&file.path, request.uri())
        {
            return Err(Box::new(moved(&to)));
        }
    }
    if file.is_some_and(|file| file.playlist) {
        let session = admitted.claims.as_ref().and_then(|claims| claims.sid.as_deref());
        let client = shared.hls.audience().client(peer.ip(), session, agent(headers));
        let room = || shared.feeds.room(key);
        let watches = guard.may_watch(shared.hls.audience(), key, client, room).map_err(denied)?;
        admitted.watching = Some((client, watches));
    }
    Ok(admitted)
}

async fn answer(
    shared: &Shared,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    (route, admitted): (Result<Route, BadPath>, Admitted),
    request: Request<Body>,
    notes: Noted<'_>,
) -> Response<Body> {
    if let Err(error) = shared.via.check(request.headers()) {
        return problem(StatusCode::LOOP_DETECTED, &error.to_string());
    }
    match route {
        Ok(Route::Live(container, key)) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            live_stream(shared, connection, progress, (container, &key, &admitted), request, notes).await
        }
        Ok(Route::Whep(key, session)) => {
            whep::answer(shared, &admitted, (&key, session.as_deref()), request, notes.0).await
        }
        Ok(Route::Relay(key)) if *request.method() == Method::GET => {
            relay(shared, connection, progress, &key, &request.map(drop)).await
        }
        route => file(shared, &admitted, route, request).await,
    }
}

/// What is no live stream.
async fn file(
    shared: &Shared,
    admitted: &Admitted,
    route: Result<Route, BadPath>,
    request: Request<Body>,
) -> Response<Body> {
    match route {
        Err(bad) => problem(StatusCode::BAD_REQUEST, &bad.to_string()),
        Ok(Route::Pages | Route::Whip) => pages(shared, admitted.peer, request).await,
        Ok(Route::Unknown) => problem(StatusCode::NOT_FOUND, "there is nothing at this path"),
        Ok(Route::Hls(file)) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let request = request.map(drop);
            let session = match admitted.watching {
                Some((_, false)) => {
                    match admitted.enter(shared, &file.key, "hls", request.uri().query()).await {
                        Ok(session) => Some(session),
                        Err(response) => return response,
                    }
                }
                _ => None,
            };
            let has_way = request.headers().contains_key(VIA);
            let via = has_way.then(|| shared.via.passed_on(request.headers())).flatten();
            let mut response = shared.hls.serve(&file, &request, admitted.peer.ip(), via.as_ref()).await;
            if let Some((client, _)) = admitted.watching
                && matches!(response.status(), StatusCode::OK | StatusCode::NOT_MODIFIED)
            {
                let room = || shared.feeds.room(&file.key);
                shared.guard.watches(shared.hls.audience(), &file.key, (client, session), room);
            }
            expose(response.headers_mut());
            response
        }
        Ok(Route::Relay(_)) => problem(StatusCode::METHOD_NOT_ALLOWED, "a relay can be read with GET only"),
        Ok(Route::Live(..) | Route::Hls(_) | Route::Whep(..)) => other_method(request.method()),
    }
}

async fn live_stream(
    shared: &Shared,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    (container, key, admitted): (Container, &StreamKey, &Admitted),
    request: Request<Body>,
    (record, asking): Noted<'_>,
) -> Response<Body> {
    let query = request.uri().query().unwrap_or_default();
    let asked = |name: &str| query.split('&').find_map(|pair| pair.strip_prefix(name)?.strip_prefix('='));
    let latency = match Latency::parse(asked("latency"), shared.feeds.latency(key)) {
        Ok(latency) => latency,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let sound = match Wanted::parse(asked("audio")) {
        Ok(sound) => sound,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let is_head = request.method() == Method::HEAD;
    let may_upgrade = !is_head && container == Container::Flv;
    let accepted = if may_upgrade && websocket::is_upgrade(request.headers()) {
        match websocket::handshake(request.version(), request.headers()) {
            Ok(accepted) => Some(accepted),
            Err(bad) => return bad.response(),
        }
    } else {
        None
    };
    let chunked = request.version() == Version::HTTP_11 && !is_head;
    let format = match (container, &accepted) {
        (_, Some(_)) => Format::WsFlv,
        (Container::Flv, None) if chunked => Format::ChunkedFlv,
        (Container::Flv, None) => Format::Flv,
        (Container::Ts, None) if chunked => Format::ChunkedTs,
        (Container::Ts, None) => Format::Ts,
    };
    let mut seat = match shared.guard.seat(shared.hls.all_viewers()) {
        Ok(seat) => seat,
        Err(denial) => return denied(denial),
    };
    if !is_head {
        let protocol = if accepted.is_some() { "ws-flv" } else { container.name() };
        match admitted.enter(shared, key, protocol, request.uri().query()).await {
            Ok(session) => seat = seat.of(session),
            Err(response) => return response,
        }
    }
    let until = admitted.until;
    let hls = shared.hls.viewers(key);
    let viewer = match shared.feeds.join(key, format, (latency.start, sound), hls).await {
        Ok(viewer) => viewer,
        Err(error) => return refusal(error),
    };
    let origin = request.headers().get(ORIGIN);
    let (mut head, protocol): (_, Box<dyn Protocol>) = match accepted {
        Some(accepted) => (accepted, Box::new(WebSocket::default())),
        None => {
            let mut head = Response::new(());
            live::headers(head.headers_mut(), container);
            expose(head.headers_mut());
            if is_head {
                return head.map(|()| full(Bytes::new()));
            }
            if request.version() >= Version::HTTP_2 {
                let window = latency.window.at_rest();
                let relay = viewer.trace();
                let play = asking.take().map(|asking| asking.answered(head.status(), relay.as_ref()));
                let body = live::body(viewer, Some(seat), until, connection, progress, window);
                return head.map(|()| until_first(body, play));
            }
            (head, Box::new(live::Plain::new(format.is_chunked())))
        }
    };
    shared.guard.share(origin, head.headers_mut());
    shared.metrics.responded(head.status());
    connection.advertise(head.headers_mut());
    let mut record = record.take();
    if let Some(record) = &mut record {
        record.status(head.status().as_u16());
    }
    let relay = viewer.trace();
    let play = asking.take().map(|asking| asking.answered(head.status(), relay.as_ref()));
    connection.take_out(Departure {
        head: live::head_bytes(&head, format),
        viewer,
        protocol,
        window: latency.window,
        until,
        seat,
        notes: Notes { record, play },
    });
    // The connection is taken out of HTTP's hands before this is asked again.
    std::future::pending().await
}

/// The stream for another edge, if edges may pull here. They are few: a task each is no burden.
async fn relay(
    shared: &Shared,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    key: &StreamKey,
    request: &Request<()>,
) -> Response<Body> {
    let headers = request.headers();
    let Some(secret) = &shared.config.relay_key else {
        return problem(
            StatusCode::NOT_FOUND,
            "edges can't pull from this server: it has no `edge.http.relay_key`",
        );
    };
    if !secret.is_borne_by(headers) {
        return problem(StatusCode::UNAUTHORIZED, "this is for edges, and needs their key");
    }
    if request.uri().query() == Some("keyframe") {
        shared.feeds.want_keyframe(key).await;
        let mut asked = Response::new(full(Bytes::new()));
        *asked.status_mut() = StatusCode::NO_CONTENT;
        return asked;
    }
    let start = match Place::of_query(request.uri().query()) {
        Ok(after) => after.map_or(Start::Gop, Start::After),
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let via = shared.via.passed_on(headers);
    match shared.feeds.relay(key, start, via).await {
        Ok(viewer) => {
            let mut head = Response::new(());
            live::headers(head.headers_mut(), Container::Flv);
            if let Some(trace) = viewer.trace().and_then(|trace| trace.header()) {
                head.headers_mut().insert(TRACEPARENT, trace);
            }
            head.map(|()| live::body(viewer, None, None, connection, progress, Duration::ZERO))
        }
        Err(error) => refusal(error),
    }
}

async fn pages(shared: &Shared, peer: SocketAddr, mut request: Request<Body>) -> Response<Body> {
    let Some(pages) = &shared.pages else {
        return problem(StatusCode::NOT_FOUND, "there are no pages here");
    };
    request.extensions_mut().insert(peer);
    let limit = Duration::from_millis(shared.config.body_timeout_ms);
    let request = request.map(|body| limited(body, limit));
    ask(pages, request).await.unwrap_or_else(|error| {
        tracing::warn!(error, "pages failed");
        problem(StatusCode::BAD_GATEWAY, "the pages can't be had at the moment")
    })
}

/// OPTIONS, which asks what is allowed; anything else is not.
fn other_method(method: &Method) -> Response<Body> {
    if *method != Method::OPTIONS {
        return problem(StatusCode::METHOD_NOT_ALLOWED, "media can be read with GET and HEAD only");
    }
    let mut response = Response::new(full(Bytes::new()));
    *response.status_mut() = StatusCode::NO_CONTENT;
    let headers = response.headers_mut();
    expose(headers);
    headers.insert(ALLOW, ALLOWED);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Authorization, Range"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// What pages may read of a response besides what they always may.
pub(super) fn expose(headers: &mut HeaderMap) {
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Age, Content-Length, Content-Range, Date"),
    );
}
