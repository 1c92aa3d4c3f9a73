//! WHEP over HTTP: who may watch by WebRTC, and what they are answered.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response, StatusCode};
use http_body_util::BodyExt;
use media_core::hub::StreamKey;
use rtc::resource::{Asker, Welcome, read, serve, share};

use super::Shared;
use super::handler::Admitted;
use super::intake::limited;
use super::problem::{denied, full, problem};
use crate::guard::Record;
use crate::upstream::Body;
use crate::whep::Watching;

/// Answers a request for a stream's endpoint, or for a session of it.
pub(super) async fn answer(
    shared: &Shared,
    admitted: &Admitted,
    (key, session): (&StreamKey, Option<&str>),
    request: Request<Body>,
    record: &mut Option<Record>,
) -> Response<Body> {
    let Some(whep) = shared.whep.get() else {
        return problem(StatusCode::NOT_FOUND, "WebRTC is not served here (`rtc.enabled`)");
    };
    let (head, body) = request.into_parts();
    let query = head.uri.query().map(ToOwned::to_owned);
    let patience = Duration::from_millis(shared.config.body_timeout_ms);
    let body = read(limited(body, patience)).await;
    let request = Request::from_parts(head, body);
    let watch = |offer| watch(shared, admitted, key, (query, offer), record);
    // Whoever has to show a grant is told of servers in the answer, which needs one.
    let asker = Asker { address: admitted.peer.ip(), may: !shared.guard.asks_for_grants() };
    let mut response = serve(&whep.server, asker, session, request, watch).await;
    share(response.headers_mut());
    response.map(full)
}

/// Lets somebody watch.
async fn watch(
    shared: &Shared,
    admitted: &Admitted,
    key: &StreamKey,
    (query, offer): (Option<String>, String),
    record: &mut Option<Record>,
) -> Result<Welcome, Response<Bytes>> {
    let Some(whep) = shared.whep.get() else { return Err(Response::default()) };
    // What is wrong with an offer is said before anything is asked upstream.
    whep.server.check(&offer).map_err(|refused| rtc::resource::refusal(&refused))?;
    let seat = match shared.guard.seat(shared.hls.all_viewers()) {
        Ok(seat) => seat,
        Err(denial) => return Err(whole(denied(denial)).await),
    };
    let session = match admitted.enter(shared, key, "webrtc", query.as_deref()).await {
        Ok(session) => session,
        Err(response) => return Err(whole(response).await),
    };
    let seat = seat.of(session);
    let joined = whep.join(&shared.feeds, key, shared.hls.viewers(key)).await;
    let joined = joined.map_err(|error| {
        whep.server.count_refused(error.reason());
        error.response()
    })?;
    if let Some(record) = record {
        record.status(StatusCode::CREATED.as_u16());
    }
    let metrics = Arc::clone(&shared.metrics);
    let watching = Watching { seat, until: admitted.until, record: record.take(), metrics };
    whep.accept(key, joined, &offer, watching)
}

/// A response whose body is there at once.
async fn whole(response: Response<Body>) -> Response<Bytes> {
    let (head, body) = response.into_parts();
    let bytes = body.collect().await.map(|body| body.to_bytes()).unwrap_or_default();
    Response::from_parts(head, bytes)
}
