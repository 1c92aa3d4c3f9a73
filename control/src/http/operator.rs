//! Who asks: the operator, who proves it with the token (RFC 6750 §2.1), or anybody.

use std::sync::Arc;

use axum::extract::{FromRequestParts, OptionalFromRequestParts};
use http::header;
use http::request::Parts;

use super::Context;
use super::problem::Problem;
use crate::token::Refused;

/// The request carries the operator's token. As an `Option` it is `None` when the request carries no
/// credential; a wrong one is refused in either case.
pub(super) struct Operator;

impl FromRequestParts<Arc<Context>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Self, Problem> {
        authenticate(parts, context)?.ok_or_else(|| Refused::Missing.into())
    }
}

impl OptionalFromRequestParts<Arc<Context>> for Operator {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, context: &Arc<Context>) -> Result<Option<Self>, Problem> {
        Ok(authenticate(parts, context)?)
    }
}

fn authenticate(parts: &Parts, context: &Context) -> Result<Option<Operator>, Refused> {
    let Some(credentials) = parts.headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let (scheme, token) = credentials.as_bytes().split_at_checked("Bearer ".len()).ok_or(Refused::Wrong)?;
    if scheme.eq_ignore_ascii_case(b"Bearer ") && context.token.matches(token.trim_ascii()) {
        Ok(Some(Operator))
    } else {
        Err(Refused::Wrong)
    }
}
