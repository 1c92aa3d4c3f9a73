//! From a request to its response.

use std::sync::Arc;

use bytes::Bytes;
use http::header::{
    ACCESS_CONTROL_ALLOW_HEADERS, ACCESS_CONTROL_ALLOW_METHODS, ACCESS_CONTROL_ALLOW_ORIGIN,
    ACCESS_CONTROL_EXPOSE_HEADERS, ACCESS_CONTROL_MAX_AGE, ALLOW, HeaderMap, HeaderValue,
};
use http::{Method, Request, Response, StatusCode, Version};
use media_core::hub::StreamKey;

use super::connection::{Connection, Departure, Progress};
use super::problem::{ALLOWED, full, moved, not_allowed, problem, refusal};
use super::route::{BadPath, Route, route};
use super::watched::watched;
use super::websocket::WebSocket;
use super::{Shared, live, websocket};
use crate::fanout::Format;
use crate::guard::{self, Shown};
use crate::shard::{Latency, Protocol};
use crate::upstream::{Body, ask};

/// Answers a request, whose progress is noted.
pub(super) async fn handle(
    shared: &Shared,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    request: Request<Body>,
) -> Response<Body> {
    let response = match admit(shared, connection, &request) {
        Err(refused) => *refused,
        Ok(route) => answer(shared, connection, progress, route, request).await,
    };
    shared.metrics.responded(response.status());
    response
}

/// What is asked for, or the answer to somebody who may not.
fn admit(
    shared: &Shared,
    connection: &Connection,
    request: &Request<Body>,
) -> Result<Result<Route, BadPath>, Box<Response<Body>>> {
    let (before, path) = guard::split(request.uri().path());
    let route = match route(path) {
        // Pages have no viewers.
        Ok(Route::Pages) if before.is_some() => Ok(Route::Unknown),
        route => route,
    };
    let key = match &route {
        Ok(Route::Flv(key)) => key,
        Ok(Route::Hls(file)) => &file.key,
        _ => return Ok(route),
    };
    if !shared.guard.asks_for_grants() || !matches!(*request.method(), Method::GET | Method::HEAD) {
        return Ok(route);
    }
    let shown = Shown::find(before, request.headers(), request.uri());
    let grant = shown.as_ref().map(Shown::text);
    if let Err(refused) = shared.guard.may_play(key, grant, connection.peer.ip()) {
        return Err(Box::new(not_allowed(refused)));
    }
    match (&route, shown) {
        (Ok(Route::Hls(file)), Some(shown)) if file.playlist => {
            match shown.kept_at(&file.path, request.uri()) {
                Some(to) => Err(Box::new(moved(&to))),
                None => Ok(route),
            }
        }
        _ => Ok(route),
    }
}

async fn answer(
    shared: &Shared,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    route: Result<Route, BadPath>,
    request: Request<Body>,
) -> Response<Body> {
    let version = request.version();
    match route {
        Ok(Route::Flv(key)) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            flv(shared, connection, progress, &key, request).await
        }
        route => {
            let response = file(shared, connection, route, request).await;
            // What HTTP/1.1 does not take stalls the socket.
            if version >= Version::HTTP_2 { response.map(|body| watched(body, progress)) } else { response }
        }
    }
}

/// What is no live stream.
async fn file(
    shared: &Shared,
    connection: &Connection,
    route: Result<Route, BadPath>,
    request: Request<Body>,
) -> Response<Body> {
    match route {
        Err(bad) => problem(StatusCode::BAD_REQUEST, &bad.to_string()),
        Ok(Route::Pages) => pages(shared, connection, request).await,
        Ok(Route::Unknown) => problem(StatusCode::NOT_FOUND, "there is nothing at this path"),
        Ok(Route::Hls(file)) if matches!(*request.method(), Method::GET | Method::HEAD) => {
            let mut response = shared.hls.serve(&file, &request.map(drop), connection.peer).await;
            allow_all_origins(response.headers_mut());
            response
        }
        Ok(Route::Flv(_) | Route::Hls(_)) => other_method(request.method()),
    }
}

async fn flv(
    shared: &Shared,
    connection: &Arc<Connection>,
    progress: Arc<Progress>,
    key: &StreamKey,
    request: Request<Body>,
) -> Response<Body> {
    let mut asked = request.uri().query().unwrap_or_default().split('&');
    let latency = match Latency::parse(asked.find_map(|pair| pair.strip_prefix("latency=")), shared.latency) {
        Ok(latency) => latency,
        Err(error) => return problem(StatusCode::BAD_REQUEST, &error.to_string()),
    };
    let is_head = request.method() == Method::HEAD;
    let accepted = if !is_head && websocket::is_upgrade(request.headers()) {
        match websocket::handshake(request.version(), request.headers()) {
            Ok(accepted) => Some(accepted),
            Err(bad) => return bad.response(),
        }
    } else {
        None
    };
    let format = match (request.version(), &accepted) {
        (_, Some(_)) => Format::WsFlv,
        (Version::HTTP_11, None) if !is_head => Format::ChunkedFlv,
        _ => Format::Flv,
    };
    let viewer = match shared.feeds.join(key, format, latency.start).await {
        Ok(viewer) => viewer,
        Err(error) => return refusal(error),
    };
    let (mut head, protocol): (_, Box<dyn Protocol>) = match accepted {
        Some(accepted) => (accepted, Box::new(WebSocket::default())),
        None => {
            let mut head = Response::new(());
            live::headers(head.headers_mut());
            allow_all_origins(head.headers_mut());
            if is_head {
                return head.map(|()| full(Bytes::new()));
            }
            if request.version() >= Version::HTTP_2 {
                return head.map(|()| live::body(viewer, connection, progress));
            }
            (head, Box::new(live::Plain::new(format == Format::ChunkedFlv)))
        }
    };
    shared.metrics.responded(head.status());
    connection.advertise(head.headers_mut());
    connection.take_out(Departure {
        head: live::head_bytes(&head, format),
        viewer,
        protocol,
        window: latency.window,
    });
    // The connection is taken out of HTTP's hands before this is asked again.
    std::future::pending().await
}

async fn pages(shared: &Shared, connection: &Connection, mut request: Request<Body>) -> Response<Body> {
    let Some(pages) = &shared.pages else {
        return problem(StatusCode::NOT_FOUND, "there are no pages here");
    };
    request.extensions_mut().insert(connection.peer);
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
    allow_all_origins(headers);
    headers.insert(ALLOW, ALLOWED);
    headers.insert(ACCESS_CONTROL_ALLOW_METHODS, ALLOWED);
    headers.insert(ACCESS_CONTROL_ALLOW_HEADERS, HeaderValue::from_static("Authorization, Range"));
    headers.insert(ACCESS_CONTROL_MAX_AGE, HeaderValue::from_static("86400"));
    response
}

/// Media may be played by anybody's page.
fn allow_all_origins(headers: &mut HeaderMap) {
    headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
    headers.insert(
        ACCESS_CONTROL_EXPOSE_HEADERS,
        HeaderValue::from_static("Age, Content-Length, Content-Range, Date"),
    );
}
