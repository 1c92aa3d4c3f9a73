//! HTTP: the routes of the API and of the pages, and what is common to all answers.

mod conferences;
mod events;
mod info;
mod keys;
mod nodes;
mod operator;
mod play;
pub(crate) mod problem;
mod remotes;
mod sessions;
mod stats;
mod streams;

use std::any::Any;
use std::sync::Arc;

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse as _, Response};
use axum::routing::get;
use axum::{Json, Router};
use control_api::Cluster;
use http::{HeaderValue, Method, header};
use tower_http::catch_panic::CatchPanicLayer;
use tower_http::compression::CompressionLayer;
use tower_http::cors::{self, CorsLayer};
use tower_http::set_header::SetResponseHeaderLayer;
use utoipa::OpenApi;
use utoipa::openapi::security::{Http, HttpAuthScheme, SecurityScheme};
use utoipa_axum::router::OpenApiRouter;
use utoipa_axum::routes;

use crate::pages::Pages;
use crate::replica::Replica;
use crate::{Config, Metrics, Token};
use problem::Problem;

/// The route label of requests that no route is for.
const NO_ROUTE: &str = "none";

/// What the handlers share.
pub(crate) struct Context {
    pub(crate) config: Config,
    pub(crate) cluster: Arc<dyn Cluster>,
    /// Of a process that coordinates a cluster.
    pub(crate) replica: Option<Replica>,
    /// Players that ask here are sent to an edge.
    pub(crate) redirects: bool,
    pub(crate) token: Token,
    pub(crate) metrics: Metrics,
}

#[derive(OpenApi)]
#[openapi(
    info(title = "weir", description = "What is live, who watches, and what an operator can do about it."),
    components(schemas(Problem)),
    tags(
        (name = "streams", description = "What is live"),
        (name = "remotes", description = "Streams that are fetched, and sent on"),
        (name = "conferences", description = "Sessions of several who speak"),
        (name = "nodes", description = "Who is in the cluster"),
        (name = "grants", description = "Who may watch and publish"),
        (name = "routing", description = "Where to watch and where to publish"),
        (name = "system", description = "The process and its totals"),
    ),
    modifiers(&BearerToken),
)]
struct Document;

/// Declares the operator's token to the OpenAPI document.
struct BearerToken;

impl utoipa::Modify for BearerToken {
    fn modify(&self, document: &mut utoipa::openapi::OpenApi) {
        let mut scheme = Http::new(HttpAuthScheme::Bearer);
        scheme.description = Some("The operator's token: `operator.token` in the data folder.".to_owned());
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("operator", SecurityScheme::Http(scheme));
    }
}

pub(crate) fn router(context: Context) -> Router {
    let context = Arc::new(context);
    let mut router = Router::new().merge(api(&context));
    if context.config.pages {
        router = router.merge(Pages::built().router());
    }
    if context.redirects {
        let redirects = Router::new()
            .route("/{app}/{file}", get(play::redirect))
            .route("/{app}/{name}/index.m3u8", get(play::redirect_hls))
            .layer(CorsLayer::new().allow_origin(cors::Any).allow_methods([Method::GET, Method::HEAD]))
            .with_state(Arc::clone(&context));
        router = router.merge(redirects);
    }
    router
        .fallback(|| async { Problem::not_found() })
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(CatchPanicLayer::custom(|panic: Box<dyn Any + Send>| problem::of_panic(&*panic)))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::X_CONTENT_TYPE_OPTIONS,
            HeaderValue::from_static("nosniff"),
        ))
        .layer(middleware::from_fn_with_state(context, count))
}

fn api(context: &Arc<Context>) -> Router {
    let (router, document) = OpenApiRouter::with_openapi(Document::openapi())
        .routes(routes!(streams::list))
        .routes(routes!(streams::one, streams::kick))
        .routes(routes!(stats::stats))
        .routes(routes!(info::info))
        .routes(routes!(nodes::list))
        .routes(routes!(nodes::drain))
        .routes(routes!(nodes::reload))
        .routes(routes!(sessions::list))
        .routes(routes!(remotes::pulls, remotes::pull))
        .routes(routes!(remotes::end_pull))
        .routes(routes!(remotes::pushes, remotes::push))
        .routes(routes!(remotes::end_push))
        .routes(routes!(conferences::list, conferences::create))
        .routes(routes!(conferences::one, conferences::end))
        .routes(routes!(conferences::join))
        .routes(routes!(conferences::change, conferences::leave))
        .routes(routes!(events::events))
        .routes(routes!(keys::list))
        .routes(routes!(keys::rotate))
        .routes(routes!(keys::sign))
        .routes(routes!(play::play))
        .routes(routes!(play::publish))
        .split_for_parts();
    let document = Arc::new(document);
    router
        .route("/api/v1/openapi.json", get(move || async move { Json(document).into_response() }))
        // Before the layers, so that they see OPTIONS.
        .method_not_allowed_fallback(|| async { Problem::method_not_allowed() })
        .layer(CompressionLayer::new())
        .layer(CorsLayer::new().allow_origin(cors::Any).allow_methods([Method::GET, Method::HEAD]))
        .layer(SetResponseHeaderLayer::if_not_present(
            header::CACHE_CONTROL,
            HeaderValue::from_static("no-store"),
        ))
        .with_state(Arc::clone(context))
}

async fn count(State(context): State<Arc<Context>>, request: Request, next: Next) -> Response {
    let route = request.extensions().get::<MatchedPath>().cloned();
    let response = next.run(request).await;
    let route = route.as_ref().map_or(NO_ROUTE, MatchedPath::as_str);
    context.metrics.answered(route, response.status());
    response
}

#[cfg(test)]
mod tests;
