//! Most requests: for a part or segment that is in memory, by the path that it is kept by. They are answered where they are
//! read, with headers that were put together before; what is out of the ordinary goes the way of all others.

use http::header::ORIGIN;
use http::{Method, Request, Response, Version};

use super::Shared;
use super::connection::Connection;
use super::problem::denied;
use crate::guard::{self, Asker};
use crate::places::network;
use crate::upstream::{Body, VIA};

/// The answer to a request of HTTP/1, if nothing has to be asked, waited for or logged for it.
pub(super) fn at_once<B>(
    shared: &Shared,
    connection: &Connection,
    request: &Request<B>,
) -> Option<Response<Body>> {
    let guard = &shared.guard;
    let ordinary = request.version() < Version::HTTP_2
        && matches!(*request.method(), Method::GET | Method::HEAD)
        && !request.headers().contains_key(VIA)
        && !guard.keeps_log()
        && !guard.asks_for_grants();
    if !ordinary {
        return None;
    }
    let (_, path) = guard::split(request.uri().path());
    let mut response = shared.hls.at_once(path, request)?;
    let headers = request.headers();
    if !shared.config.relay_key.as_ref().is_some_and(|key| key.is_borne_by(headers)) {
        let Asker { peer, by_proxy } = guard.asker(connection.peer, headers);
        let may = if by_proxy { guard.may_connect(peer.ip()) } else { Ok(()) };
        let may = may.and_then(|()| guard.may_ask(network(peer.ip())));
        let may = may.and_then(|()| guard.may_show(headers, false));
        if let Err(denial) = may {
            response = denied(denial);
        }
    }
    guard.share(headers.get(ORIGIN), response.headers_mut());
    shared.metrics.responded(response.status());
    Some(response)
}
