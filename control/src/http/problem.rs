//! The one place where errors meet HTTP: each becomes a problem document (RFC 9457).

use std::any::Any;
use std::fmt;

use axum::extract::rejection::{JsonRejection, PathRejection, QueryRejection};
use axum::response::{IntoResponse, Response};
use control_api::ClusterError;
use http::{HeaderValue, StatusCode, header};
use serde::Serialize;
use utoipa::ToSchema;

use super::streams::CursorError;
use crate::conferences::{ConferenceError, FollowError, Refused as NotDone};
use crate::keys::KeysError;
use crate::nodes::SessionsError;
use crate::registry::RegistryError;
use crate::remotes::OrderError;
use crate::token::Refused;

/// How a caller learns which credential is asked for (RFC 6750 §3).
const CHALLENGE: HeaderValue = HeaderValue::from_static("Bearer realm=\"weir\"");

/// The same, when one was presented and is wrong.
const CHALLENGE_INVALID: HeaderValue =
    HeaderValue::from_static("Bearer realm=\"weir\", error=\"invalid_token\"");

/// A problem document (RFC 9457).
#[derive(Debug, Clone, Serialize, ToSchema)]
pub(crate) struct Problem {
    /// Always `about:blank`: `title` is the status code's name, and `code` tells problems apart.
    #[serde(rename = "type")]
    kind: &'static str,
    /// The name of the status code.
    title: &'static str,
    /// The HTTP status code.
    status: u16,
    /// Tells problems apart, for programs: `no_such_stream`.
    code: &'static str,
    /// What is wrong with this request, for people.
    detail: String,
    #[serde(skip)]
    challenge: Option<HeaderValue>,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.detail)
    }
}

impl Problem {
    fn new(status: StatusCode, code: &'static str, detail: impl Into<String>) -> Self {
        Self {
            kind: "about:blank",
            title: status.canonical_reason().unwrap_or("Error"),
            status: status.as_u16(),
            code,
            detail: detail.into(),
            challenge: None,
        }
    }

    /// No route is for this path.
    pub(crate) fn not_found() -> Self {
        Self::new(StatusCode::NOT_FOUND, "not_found", "Nothing is here.")
    }

    /// No node of that name is there.
    pub(super) fn no_such_node(name: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_node", format!("No node {name:?} is there."))
    }

    /// Nothing of that kind was ordered under that name.
    pub(super) fn no_such_order(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_order", format!("Nothing is ordered as {id:?}."))
    }

    /// No conference has that path.
    pub(super) fn no_such_conference(path: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_conference", format!("There is no conference {path:?}."))
    }

    /// No member has that id.
    pub(super) fn no_such_member(id: &str) -> Self {
        Self::new(StatusCode::NOT_FOUND, "no_such_member", format!("There is no member {id:?}."))
    }

    /// This process is asked for what only one that coordinates a cluster knows.
    pub(super) fn no_cluster() -> Self {
        let detail = "This process coordinates no cluster: ask one that runs `weir control`.";
        Self::new(StatusCode::NOT_FOUND, "no_cluster", detail)
    }

    /// There is nobody to send somebody to.
    pub(super) fn no_node(role: &str) -> Self {
        let detail = format!("No {role} is there that takes anybody.");
        Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_node", detail)
    }

    /// A query parameter is malformed.
    pub(super) fn bad_query(detail: &str) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_query", detail)
    }

    /// The path has no such method.
    pub(super) fn method_not_allowed() -> Self {
        Self::new(
            StatusCode::METHOD_NOT_ALLOWED,
            "method_not_allowed",
            "This path does not have this method.",
        )
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let status = StatusCode::from_u16(self.status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
        let mut response = (status, axum::Json(&self)).into_response();
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        response
    }
}

impl From<ClusterError> for Problem {
    fn from(error: ClusterError) -> Self {
        match error {
            ClusterError::NoSuchStream { .. } => {
                Self::new(StatusCode::NOT_FOUND, "no_such_stream", error.to_string())
            }
            ClusterError::Unavailable(_) => {
                tracing::warn!(%error, "a request cannot be answered");
                let detail = "The state of the cluster cannot be changed at the moment; try again.";
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "unavailable", detail)
            }
            // Not every error's text is meant for callers; the log has it.
            other => {
                tracing::error!(error = %other, "the cluster failed a request");
                Self::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed.")
            }
        }
    }
}

impl From<KeysError> for Problem {
    fn from(error: KeysError) -> Self {
        match error {
            KeysError::Bad(what) => Self::new(StatusCode::BAD_REQUEST, "bad_grant", what),
            KeysError::None => Self::new(StatusCode::SERVICE_UNAVAILABLE, "no_key", error.to_string()),
            KeysError::TooMany => Self::new(StatusCode::CONFLICT, "too_many_keys", error.to_string()),
            KeysError::Registry(error) => error.into(),
            other => ClusterError::Unavailable(other.to_string()).into(),
        }
    }
}

impl From<OrderError> for Problem {
    fn from(error: OrderError) -> Self {
        match error {
            OrderError::Bad(bad) => Self::new(StatusCode::BAD_REQUEST, "bad_order", bad.to_string()),
            OrderError::Taken(_) => Self::new(StatusCode::CONFLICT, "pulled_already", error.to_string()),
            OrderError::TooMany => Self::new(StatusCode::CONFLICT, "too_many_orders", error.to_string()),
            OrderError::Registry(error) => error.into(),
            OrderError::Random(_) => ClusterError::Unavailable(error.to_string()).into(),
        }
    }
}

impl From<ConferenceError> for Problem {
    fn from(error: ConferenceError) -> Self {
        let said = error.to_string();
        let (status, code) = match error {
            ConferenceError::Registry(error) => return error.into(),
            ConferenceError::Contended => return ClusterError::Unavailable(said).into(),
            ConferenceError::None(path) => return Self::no_such_conference(&path),
            ConferenceError::Taken(_) => (StatusCode::CONFLICT, "conference_exists"),
            ConferenceError::TooMany(_) => (StatusCode::CONFLICT, "too_many_conferences"),
            ConferenceError::Refused(refused) => match refused {
                NotDone::NoMember(id) => return Self::no_such_member(&id),
                NotDone::Name | NotDone::Id | NotDone::Speakers => {
                    (StatusCode::BAD_REQUEST, "bad_conference")
                }
                NotDone::Full(_) | NotDone::TooMany => (StatusCode::CONFLICT, "conference_full"),
                NotDone::Taken(_) => (StatusCode::CONFLICT, "other_role"),
            },
        };
        Self::new(status, code, said)
    }
}

impl From<FollowError> for Problem {
    fn from(error: FollowError) -> Self {
        match error {
            FollowError::None(path) => Self::no_such_conference(&path),
            FollowError::Full => {
                Self::new(StatusCode::SERVICE_UNAVAILABLE, "too_many_followers", error.to_string())
            }
        }
    }
}

impl From<control_api::grant::Refused> for Problem {
    fn from(refused: control_api::grant::Refused) -> Self {
        let said = refused.to_string();
        if refused.is_forbidden() {
            return Self::new(StatusCode::FORBIDDEN, "grant_refused", said);
        }
        let problem = Self::new(StatusCode::UNAUTHORIZED, "grant_refused", said);
        let challenge =
            if refused == control_api::grant::Refused::Missing { CHALLENGE } else { CHALLENGE_INVALID };
        Self { challenge: Some(challenge), ..problem }
    }
}

impl From<SessionsError> for Problem {
    fn from(error: SessionsError) -> Self {
        match error {
            SessionsError::TooMany(_) => {
                Self::new(StatusCode::BAD_REQUEST, "too_many_nodes", error.to_string())
            }
            SessionsError::Busy => Self::new(StatusCode::SERVICE_UNAVAILABLE, "busy", error.to_string()),
        }
    }
}

impl From<RegistryError> for Problem {
    fn from(error: RegistryError) -> Self {
        ClusterError::Unavailable(error.to_string()).into()
    }
}

impl From<Refused> for Problem {
    fn from(refused: Refused) -> Self {
        let (code, challenge) = match refused {
            Refused::Missing => ("token_missing", CHALLENGE),
            Refused::Wrong => ("token_wrong", CHALLENGE_INVALID),
        };
        let problem = Self::new(StatusCode::UNAUTHORIZED, code, refused.to_string());
        Self { challenge: Some(challenge), ..problem }
    }
}

impl From<CursorError> for Problem {
    fn from(error: CursorError) -> Self {
        Self::new(StatusCode::BAD_REQUEST, "bad_query", error.to_string())
    }
}

impl From<QueryRejection> for Problem {
    fn from(rejection: QueryRejection) -> Self {
        Self::new(rejection.status(), "bad_query", rejection.body_text())
    }
}

impl From<PathRejection> for Problem {
    fn from(rejection: PathRejection) -> Self {
        Self::new(rejection.status(), "bad_path", rejection.body_text())
    }
}

impl From<JsonRejection> for Problem {
    fn from(rejection: JsonRejection) -> Self {
        Self::new(rejection.status(), "bad_json", rejection.body_text())
    }
}

/// What is left of a handler that panicked.
pub(super) fn of_panic(panic: &(dyn Any + Send)) -> Response {
    let text = panic.downcast_ref::<String>().map(String::as_str);
    let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
    tracing::error!(panic = text.unwrap_or("of no text"), "a request's handler panicked");
    Problem::new(StatusCode::INTERNAL_SERVER_ERROR, "internal", "The server failed.").into_response()
}
