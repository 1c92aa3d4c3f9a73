//! WHIP in (RFC 9725): `POST /{app}/{name}/whip` publishes by WebRTC, `…/whip/{session}` is its session.
//!
//! HTTP comes by whoever serves pages and the API here; media comes by the process' [`rtc::Server`].

mod path;
mod publishing;

use std::borrow::Cow;
use std::net::SocketAddr;
use std::sync::Arc;

use bytes::Bytes;
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use http::header::{ACCESS_CONTROL_ALLOW_ORIGIN, WWW_AUTHENTICATE};
use http::request::Parts;
use http::{HeaderValue, Method, Request, Response, StatusCode};
use percent_encoding::percent_decode_str;
use rtc::resource::{Asker, Welcome, bearer, problem, read, refusal, serve, share};
use tokio::runtime::Handle;
use tower::{ServiceExt, service_fn};

use super::admission::{self, Asked, Refused};
use crate::auth::{Auth, Pass};
use crate::http::{Body, Pages, full};
use crate::opening::Opening;
use crate::{Origin, PublishError};
use publishing::Publishing;

pub use path::is_whip;

/// What publishers come by, as it is said of them.
const PROTOCOL: &str = "whip";

/// The WHIP endpoints of an origin. Clones are the same.
#[derive(Clone)]
pub struct Whip {
    origin: Origin,
    auth: Arc<Auth>,
    server: rtc::Server,
}

impl Whip {
    /// Endpoints that ask `auth`, with media by `server`.
    pub fn new(origin: Origin, auth: Arc<Auth>, server: rtc::Server) -> Self {
        Self { origin, auth, server }
    }

    /// Answers what is for WHIP, and leaves the rest to `pages`.
    pub fn before(self, pages: Pages) -> Pages {
        Pages::new(service_fn(move |request: Request<Body>| -> BoxFuture<'static, _> {
            if !is_whip(request.uri().path()) {
                return pages.clone().oneshot(request).boxed();
            }
            let (head, body) = request.into_parts();
            let (whip, body) = (self.clone(), read(body));
            async move { Ok(whip.answer(head, body.await).await.map(full)) }.boxed()
        }))
    }

    async fn answer(&self, head: Parts, body: Option<Bytes>) -> Response<Bytes> {
        let mut response = self.route(head, body).await;
        let headers = response.headers_mut();
        share(headers);
        // Whoever publishes shows a key: pages of any site may carry it, and none has it by itself.
        headers.insert(ACCESS_CONTROL_ALLOW_ORIGIN, HeaderValue::from_static("*"));
        response
    }

    async fn route(&self, head: Parts, body: Option<Bytes>) -> Response<Bytes> {
        let raw = head.uri.path().to_owned();
        let Some(path) = path::parse(&raw) else {
            return problem(StatusCode::NOT_FOUND, "there is nothing at this path");
        };
        let decode = |text| percent_decode_str(text).decode_utf8().ok().map(Cow::into_owned);
        let (Some(app), Some(name)) = (decode(path.app), decode(path.name)) else {
            return problem(StatusCode::BAD_REQUEST, "the path is not UTF-8");
        };
        let (query, headers) = (head.uri.query().unwrap_or_default().to_owned(), head.headers.clone());
        let Some(remote) = head.extensions.get::<SocketAddr>().copied() else {
            return problem(StatusCode::INTERNAL_SERVER_ERROR, "nobody knows where this comes from");
        };
        let parameters = Parameters::of(&query, bearer(&headers));
        let asked = Asked {
            protocol: PROTOCOL,
            app: &app,
            name: &name,
            remote,
            pass: Pass { key: parameters.key.as_deref(), grant: parameters.grant.as_deref() },
            backup: parameters.backup,
            query: &query,
            line: None,
        };
        // Whether servers are told of without an offer: only the answer to one is worth a line in the log.
        let may = head.method == Method::OPTIONS && admission::check(&self.auth, &asked).is_ok();
        let asker = Asker { address: remote.ip(), may };
        let request = Request::from_parts(head, body);
        let publish = |offer| self.publish(offer, asked, path.endpoint);
        serve(&self.server, asker, path.session, request, publish).await
    }

    async fn publish(
        &self,
        offer: String,
        asked: Asked<'_>,
        endpoint: &str,
    ) -> Result<Welcome, Response<Bytes>> {
        let mut opening = Opening::new(self.origin.tracer(), PROTOCOL, asked.app, asked.name);
        let (remote, stream) = (asked.remote, (asked.app, asked.name));
        let checked = admission::check(&self.auth, &asked).map_err(|error| refused(remote, stream, &error));
        let key = match checked {
            Ok(key) => key,
            Err((why, response)) => {
                opening.refused(&why);
                return Err(*response);
            }
        };
        // Before the stream is taken from anybody.
        let prepared = match self.server.prepare_publish(&offer) {
            Ok(prepared) => prepared,
            Err(error) => {
                tracing::info!(stream = %key, %remote, "publisher refused: {error}");
                opening.refused(&error.to_string());
                return Err(refusal(&error));
            }
        };
        let admitted = admission::take(&self.origin, &key, asked, &opening).await;
        let publication = match admitted {
            Ok(publication) => publication,
            Err(error) => {
                let (why, response) = refused(remote, stream, &error);
                opening.refused(&why);
                return Err(*response);
            }
        };
        opening.admitted(publication.epoch());
        let sink = Publishing::new(publication, opening, Handle::current());
        let accepted = prepared.publish(Box::new(sink)).map_err(|error| refusal(&error))?;
        Ok(Welcome { accepted, endpoint: endpoint.to_owned(), warning: None })
    }
}

/// What a publisher that may not publish is told, and the log.
fn refused(remote: SocketAddr, (app, name): (&str, &str), why: &Refused) -> (String, Box<Response<Bytes>>) {
    tracing::info!(%remote, ?app, ?name, reason = why.reason(), "publisher refused: {why}");
    let status = match why {
        Refused::Name(_) => StatusCode::BAD_REQUEST,
        Refused::Denied(_) => StatusCode::UNAUTHORIZED,
        Refused::Stream(PublishError::Draining) => StatusCode::SERVICE_UNAVAILABLE,
        Refused::Stream(_) => StatusCode::CONFLICT,
    };
    let text = why.to_string();
    let mut response = problem(status, &text);
    if status == StatusCode::UNAUTHORIZED {
        response.headers_mut().insert(WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
    }
    (text, Box::new(response))
}

/// What a publisher shows and wishes.
#[derive(Debug, Default, PartialEq, Eq)]
struct Parameters {
    key: Option<String>,
    grant: Option<String>,
    backup: bool,
}

impl Parameters {
    /// Of its query, and of the bearer token (RFC 9725 §4.8), which is a grant or a key: a grant has two dots.
    fn of(query: &str, bearer: Option<&str>) -> Self {
        let mut own = Self::default();
        for (name, value) in query.split('&').filter_map(|pair| pair.split_once('=')) {
            let value = percent_decode_str(value).decode_utf8_lossy().into_owned();
            match name {
                "key" => own.key = Some(value),
                "token" => own.grant = Some(value),
                "backup" => own.backup = matches!(value.as_str(), "1" | "true"),
                _ => {}
            }
        }
        match bearer {
            Some(token) if token.matches('.').count() == 2 => own.grant = Some(token.to_owned()),
            Some(token) => own.key = Some(token.to_owned()),
            None => {}
        }
        own
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bearer_token_is_a_grant_or_a_key() {
        let parameters = |query, bearer| Parameters::of(query, bearer);
        assert_eq!(parameters("", Some("a.b.c")).grant.as_deref(), Some("a.b.c"));
        assert_eq!(parameters("key=x", Some("secret")).key.as_deref(), Some("secret"));
        assert_eq!(
            parameters("key=a%20b&backup=1", None),
            Parameters { key: Some("a b".to_owned()), grant: None, backup: true }
        );
    }
}
