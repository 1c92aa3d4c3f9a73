//! The pages: built from `control/web` into the binary, and how browsers may use and keep them.

use std::borrow::Cow;
use std::collections::HashMap;
use std::io::Write as _;
use std::sync::{Arc, OnceLock};

use axum::Router;
use axum::extract::{Path, State};
use axum::response::{Html, IntoResponse as _, Response};
use axum::routing::get;
use brotli::enc::BrotliEncoderParams;
use bytes::Bytes;
use control_api::{accepts_brotli, accepts_gzip};
use flate2::Compression;
use flate2::write::GzEncoder;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use rust_embed::RustEmbed;

use crate::http::problem::Problem;

/// What the pages may load and do. The players feed MediaSource through `blob:` URLs; everything else
/// comes from the server itself.
const CONTENT_SECURITY_POLICY: HeaderValue = HeaderValue::from_static(
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self'; media-src 'self' blob:; \
     connect-src 'self'; base-uri 'none'; form-action 'none'; frame-ancestors 'self'",
);

/// Files under `assets/` carry a hash of their content in their name.
const IMMUTABLE: HeaderValue = HeaderValue::from_static("public, max-age=31536000, immutable");

/// The page names the files of its own build, so it is asked for anew each time (cheaply, by ETag).
const REVALIDATE: HeaderValue = HeaderValue::from_static("no-cache");

const NOT_BUILT: &str = "<!doctype html><title>weir</title><p>The pages are not part of this build. \
    Run <code>make web</code> and build again; the API is at <a href=\"/api/v1/streams\">/api/v1</a>.";

#[derive(RustEmbed)]
#[folder = "web/dist/"]
#[allow_missing = true]
struct Built;

/// The files of the pages, by path.
pub(crate) struct Pages(HashMap<String, File>);

/// A file of the pages.
struct File {
    body: Bytes,
    /// Made when first asked for; `None` if that gains nothing.
    gzip: OnceLock<Option<Bytes>>,
    /// The same.
    brotli: OnceLock<Option<Bytes>>,
    content_type: HeaderValue,
    etag: HeaderValue,
}

impl Pages {
    /// Those that are part of this build.
    pub(crate) fn built() -> Self {
        let files = Built::iter().filter_map(|path| {
            let file = Built::get(&path)?;
            let body = match file.data {
                Cow::Borrowed(data) => Bytes::from_static(data),
                Cow::Owned(data) => data.into(),
            };
            let file = File::new(body, file.metadata.mimetype(), &file.metadata.sha256_hash())?;
            Some((path.into_owned(), file))
        });
        Self(files.collect())
    }

    /// The routes of the pages.
    pub(crate) fn router(self) -> Router {
        Router::new()
            .route("/", get(index))
            .route("/studio", get(index))
            .route("/watch/{app}/{name}", get(index))
            .route("/assets/{*file}", get(asset))
            .with_state(Arc::new(self))
    }
}

impl File {
    fn new(body: Bytes, mime: &str, hash: &[u8; 32]) -> Option<Self> {
        let content_type =
            if mime.starts_with("text/") { format!("{mime}; charset=utf-8") } else { mime.to_owned() };
        let tag: String = hash.iter().take(16).map(|byte| format!("{byte:02x}")).collect();
        Some(Self {
            body,
            gzip: OnceLock::new(),
            brotli: OnceLock::new(),
            content_type: HeaderValue::from_str(&content_type).ok()?,
            etag: HeaderValue::from_str(&format!("\"{tag}\"")).ok()?,
        })
    }

    /// The body compressed, if that is worth it.
    fn gzip(&self) -> Option<Bytes> {
        let make = || {
            let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
            encoder.write_all(&self.body).ok()?;
            encoder.finish().ok()
        };
        self.gzip.get_or_init(|| self.if_smaller(make()?)).clone()
    }

    /// The same by Brotli.
    fn brotli(&self) -> Option<Bytes> {
        let make = || {
            // The highest would take a second for the largest script, while its first reader waits.
            let params = BrotliEncoderParams { quality: 9, ..BrotliEncoderParams::default() };
            let mut out = Vec::new();
            brotli::BrotliCompress(&mut self.body.as_ref(), &mut out, &params).ok()?;
            Some(out)
        };
        self.brotli.get_or_init(|| self.if_smaller(make()?)).clone()
    }

    fn if_smaller(&self, compressed: Vec<u8>) -> Option<Bytes> {
        (compressed.len() < self.body.len() / 10 * 9).then(|| compressed.into())
    }

    /// The body as the client takes it, and how it is coded.
    fn coded(&self, request: &HeaderMap) -> Option<(&'static str, Bytes)> {
        let brotli = || accepts_brotli(request).then(|| self.brotli()).flatten();
        let gzip = || accepts_gzip(request).then(|| self.gzip()).flatten();
        brotli().map(|body| ("br", body)).or_else(|| gzip().map(|body| ("gzip", body)))
    }

    fn answer(&self, request: &HeaderMap, cache_control: HeaderValue) -> Response {
        let headers = [
            (header::CACHE_CONTROL, cache_control),
            (header::ETAG, self.etag.clone()),
            (header::VARY, HeaderValue::from_static("accept-encoding")),
            (header::CONTENT_SECURITY_POLICY, CONTENT_SECURITY_POLICY),
            (header::REFERRER_POLICY, HeaderValue::from_static("no-referrer")),
        ];
        if matches_etag(request, &self.etag) {
            return (StatusCode::NOT_MODIFIED, headers).into_response();
        }
        let content_type = [(header::CONTENT_TYPE, self.content_type.clone())];
        match self.coded(request) {
            Some((coding, body)) => {
                let coding = [(header::CONTENT_ENCODING, HeaderValue::from_static(coding))];
                (headers, content_type, coding, body).into_response()
            }
            None => (headers, content_type, self.body.clone()).into_response(),
        }
    }
}

/// The one page: which view it shows, it reads from its address by itself.
async fn index(State(pages): State<Arc<Pages>>, request: HeaderMap) -> Response {
    match pages.0.get("index.html") {
        Some(file) => file.answer(&request, REVALIDATE),
        None => (StatusCode::SERVICE_UNAVAILABLE, Html(NOT_BUILT)).into_response(),
    }
}

async fn asset(State(pages): State<Arc<Pages>>, Path(file): Path<String>, request: HeaderMap) -> Response {
    match pages.0.get(&format!("assets/{file}")) {
        Some(file) => file.answer(&request, IMMUTABLE),
        None => Problem::not_found().into_response(),
    }
}

fn matches_etag(request: &HeaderMap, etag: &HeaderValue) -> bool {
    let tags = request.get_all(header::IF_NONE_MATCH).iter().filter_map(|value| value.to_str().ok());
    let mut tags = tags.flat_map(|list| list.split(','));
    // Weak comparison (RFC 9110 §13.1.2): proxies that compress make the tag weak.
    tags.any(|tag| tag.trim() == "*" || tag.trim().trim_start_matches("W/").as_bytes() == etag.as_bytes())
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use flate2::read::GzDecoder;
    use http::Request;
    use http_body_util::BodyExt as _;
    use std::io::Read as _;
    use tower::ServiceExt as _;

    use super::*;

    const SCRIPT: &str = "assets/index-Dk3J0a.js";

    /// A build of a page, a script that compresses well and a picture that does not.
    fn pages() -> Pages {
        let script = "console.log('weir');\n".repeat(500);
        let mut seed = 1u32;
        let noise = std::iter::repeat_with(|| {
            seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
            seed.to_be_bytes()[0]
        });
        let picture: Vec<u8> = noise.take(2000).collect();
        let file = |body: Bytes, mime, hash| File::new(body, mime, &[hash; 32]).unwrap();
        Pages(HashMap::from([
            ("index.html".to_owned(), file(Bytes::from_static(b"<!doctype html>"), "text/html", 1)),
            (SCRIPT.to_owned(), file(script.into(), "text/javascript", 2)),
            ("assets/logo-Aa.png".to_owned(), file(picture.into(), "image/png", 3)),
        ]))
    }

    async fn get(pages: Pages, path: &str, headers: &[(&str, &str)]) -> (StatusCode, HeaderMap, Bytes) {
        let mut request = Request::get(path);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let response = pages.router().oneshot(request.body(Body::empty()).unwrap()).await.unwrap();
        let (head, body) = response.into_parts();
        (head.status, head.headers, body.collect().await.unwrap().to_bytes())
    }

    #[tokio::test]
    async fn the_page_answers_at_the_root_and_at_every_watch_address() {
        for path in ["/", "/?via=flv", "/studio", "/watch/live/demo", "/watch/live/a%20b?via=hls"] {
            let (status, headers, body) = get(pages(), path, &[]).await;
            assert_eq!(status, StatusCode::OK, "{path}");
            assert_eq!(headers["content-type"], "text/html; charset=utf-8");
            assert_eq!(headers["cache-control"], "no-cache");
            assert_eq!(body, "<!doctype html>");
            let policy = headers["content-security-policy"].to_str().unwrap();
            for rule in ["default-src 'none'", "script-src 'self';", "media-src 'self' blob:"] {
                assert!(policy.contains(rule), "{rule} in {policy}");
            }
            assert!(!policy.contains("unsafe"), "{policy}");
        }
    }

    #[tokio::test]
    async fn other_paths_are_not_the_page() {
        for path in [
            "/watch",
            "/watch/live",
            "/watch/a/b/c",
            "/index.html",
            "/assets/none.js",
            "/assets/../index.html",
        ] {
            assert_eq!(get(pages(), path, &[]).await.0, StatusCode::NOT_FOUND, "{path}");
        }
    }

    #[tokio::test]
    async fn assets_may_be_kept_for_ever() {
        let (status, headers, body) = get(pages(), &format!("/{SCRIPT}"), &[]).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(headers["content-type"], "text/javascript; charset=utf-8");
        assert_eq!(headers["cache-control"], "public, max-age=31536000, immutable");
        assert_eq!(headers["vary"], "accept-encoding");
        assert!(!headers.contains_key("content-encoding"));
        assert_eq!(body.len(), 10_500);
    }

    #[tokio::test]
    async fn each_gets_the_smallest_coding_that_it_accepts() {
        for (accept, coding) in [
            ("gzip", "gzip"),
            ("br;q=0, GZIP;q=0.5", "gzip"),
            ("gzip, deflate, br, zstd", "br"),
            ("*", "br"),
            ("br", "br"),
            ("gzip;q=0", ""),
            ("gzip; q=0.000, br", "br"),
            ("identity", ""),
        ] {
            let (_, headers, body) =
                get(pages(), &format!("/{SCRIPT}"), &[("accept-encoding", accept)]).await;
            assert_eq!(
                headers.get("content-encoding").map_or("", |value| value.to_str().unwrap()),
                coding,
                "{accept}"
            );
            let mut text = Vec::new();
            match coding {
                "gzip" => drop(GzDecoder::new(&*body).read_to_end(&mut text).unwrap()),
                "br" => brotli::BrotliDecompress(&mut &*body, &mut text).unwrap(),
                _ => text.extend_from_slice(&body),
            }
            assert_eq!(text.len(), 10_500);
            assert!(coding.is_empty() || body.len() < 1000, "{accept}");
        }
    }

    #[tokio::test]
    async fn what_does_not_compress_is_sent_as_it_is() {
        let (_, headers, body) = get(pages(), "/assets/logo-Aa.png", &[("accept-encoding", "gzip")]).await;
        assert_eq!(headers["content-type"], "image/png");
        assert!(!headers.contains_key("content-encoding"));
        assert_eq!(body.len(), 2000);
    }

    #[tokio::test]
    async fn a_page_the_browser_has_is_not_sent_again() {
        let (_, headers, _) = get(pages(), "/", &[]).await;
        let etag = headers["etag"].to_str().unwrap().to_owned();
        for tags in [etag.clone(), format!("W/{etag}"), format!("\"x\", {etag}"), "*".to_owned()] {
            let (status, headers, body) = get(pages(), "/", &[("if-none-match", &tags)]).await;
            assert_eq!(status, StatusCode::NOT_MODIFIED, "{tags}");
            assert_eq!(headers["etag"].to_str().unwrap(), etag);
            assert!(body.is_empty());
        }
        assert_eq!(get(pages(), "/", &[("if-none-match", "\"x\"")]).await.0, StatusCode::OK);
    }

    #[tokio::test]
    async fn a_build_without_pages_says_how_to_get_them() {
        let (status, _, body) = get(Pages(HashMap::new()), "/", &[]).await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert!(body.windows(8).any(|window| window == b"make web"));
    }
}
