//! The pages: built from `control/web` into the binary, and how browsers may use and keep them.

use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{LazyLock, OnceLock};

use axum::Router;
use axum::extract::Path;
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use bytes::Bytes;
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderName, HeaderValue, StatusCode, header};
use rust_embed::RustEmbed;

use crate::http::problem::Problem;

/// What the pages may load and do. The players feed MediaSource through `blob:` URLs and demultiplex
/// in workers made from blobs; everything else comes from the server itself.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; worker-src 'self' blob:; style-src 'self'; img-src 'self' data:; \
     font-src 'self'; media-src 'self' blob:; connect-src 'self'; manifest-src 'self'; base-uri 'none'; \
     form-action 'none'; frame-ancestors 'self'",
);

/// Files under `assets/` carry a hash of their content in their name.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The page names the files of its own build, so it is asked for anew each time (cheaply, by ETag).
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

/// A smaller file gains nothing from gzip.
const MIN_GZIP_BYTES: usize = 512;

const NOT_BUILT: &str = "<!doctype html><title>weir</title><p>The pages are not part of this build. \
    Run <code>make web</code> and build again; the API is at <a href=\"/api/v1/streams\">/api/v1</a>.";

#[derive(RustEmbed)]
#[folder = "web/dist/"]
#[allow_missing = true]
struct Built;

/// A file of the pages.
struct File {
    body: Bytes,
    /// Made when first asked for; empty if it is no smaller.
    gzip: OnceLock<Option<Bytes>>,
    content_type: HeaderValue,
    etag: HeaderValue,
}

static FILES: LazyLock<HashMap<String, File>> = LazyLock::new(|| {
    Built::iter().filter_map(|path| Some((path.to_string(), File::new(&Built::get(&path)?)?))).collect()
});

impl File {
    fn new(file: &rust_embed::EmbeddedFile) -> Option<Self> {
        let body = match &file.data {
            std::borrow::Cow::Borrowed(data) => Bytes::from_static(data),
            std::borrow::Cow::Owned(data) => Bytes::copy_from_slice(data),
        };
        let mime = file.metadata.mimetype();
        let text = mime.starts_with("text/") || mime == "application/javascript";
        let content_type = if text { format!("{mime}; charset=utf-8") } else { mime.to_owned() };
        let tag: String = file.metadata.sha256_hash().iter().take(16).map(|b| format!("{b:02x}")).collect();
        Some(Self {
            body,
            gzip: OnceLock::new(),
            content_type: HeaderValue::from_str(&content_type).ok()?,
            etag: HeaderValue::from_str(&format!("\"{tag}\"")).ok()?,
        })
    }

    /// The body compressed, if that is worth it.
    fn gzip(&self) -> Option<Bytes> {
        self.gzip
            .get_or_init(|| {
                let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
                encoder.write_all(&self.body).ok()?;
                let gzip = encoder.finish().ok()?;
                (self.body.len() >= MIN_GZIP_BYTES && gzip.len() < self.body.len() / 10 * 9)
                    .then(|| gzip.into())
            })
            .clone()
    }

    fn answer(&self, request: &HeaderMap, cache_control: HeaderValue) -> Response {
        let headers = [
            (header::CACHE_CONTROL, cache_control),
            (header::ETAG, self.etag.clone()),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
        ];
        if matches_etag(request, &self.etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.content_type.clone())];
        match self.gzip().filter(|_| accepts_gzip(request)) {
            Some(gzip) => {
                let coding = [(header::CONTENT_ENCODING, HeaderValue::from_static("gzip"))];
                (headers, content_type, coding, gzip).into_response()
            }
            None => (headers, content_type, self.body.clone()).into_response(),
        }
    }
}

/// The routes of the pages.
pub(crate) fn router<S: Clone + Send + Sync + 'static>() -> Router<S> {
    Router::new()
        .route("/", get(index))
        .route("/watch/{app}/{name}", get(index))
        .route("/assets/{*file}", get(asset))
}

/// The one page: which view it shows is read from its address by the page itself.
async fn index(request: HeaderMap) -> Response {
    let page: [(HeaderName, HeaderValue); 2] = [
        (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
        (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
    ];
    match FILES.get("index.html") {
        Some(file) => (page, file.answer(&request, REVALIDATE)).into_response(),
        None => (StatusCode::SERVICE_UNAVAILABLE, page, Html(NOT_BUILT)).into_response(),
    }
}

async fn asset(Path(file): Path<String>, request: HeaderMap) -> Response {
    match FILES.get(&format!("assets/{file}")) {
        // Workers take their policy from their own answer.
        Some(file) => {
            let policy = [(header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY)];
            (policy, file.answer(&request, IMMUTABLE)).into_response()
        }
        None => Problem::not_found().into_response(),
    }
}

fn matches_etag(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let tags = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|list| list.split(','));
    // Weak comparison (RFC 9110 §13.1.2): proxies that compress make the tag weak.
    tags.any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/").as_bytes() == etag.as_bytes())
}

/// Whether gzip is among the codings the client names (RFC 9110 §12.5.3).
fn accepts_gzip(request: &HeaderMap) -> bool {
    let lists = request.get_all(header::ACCEPT_ENCODING).iter().filter_map(|value| value.to_str().ok());
    let mut codings = lists.flat_map(|list| list.split(','));
    codings.any(|coding| {
        let mut parts = coding.split(';').map(str::trim);
        let named = parts.next().is_some_and(|name| name.eq_ignore_ascii_case("gzip") || name == "*");
        let refused = parts.any(|parameter| {
            let weight = parameter.strip_prefix("q=").or_else(|| parameter.strip_prefix("Q="));
            weight.is_some_and(|q| q.trim().parse::<f32>().is_ok_and(|q| q <= 0.0))
        });
        named && !refused
    })
}
