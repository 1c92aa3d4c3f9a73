//! First path segments: what the control plane serves must not be the name of an app.

use super::Finding;
use super::source::Source;

const RULE: &str = "a page's or API's first path segment is in control_api::RESERVED_APPS";

/// Calls and attributes in the control plane's code whose first literal is a path.
const PATHS: &[&str] = &[".route(", ".nest(", ".nest_service(", ".route_service(", "path = "];

/// Every route of the control plane whose first segment is not reserved.
pub fn check(source: &Source, reserved: &[&str]) -> Vec<Finding> {
    if !source.path.starts_with("control/src/") {
        return Vec::new();
    }
    PATHS
        .iter()
        .flat_map(|call| source.code.match_indices(call))
        .filter(|(at, _)| !source.is_test(*at))
        .filter_map(|(at, call)| {
            let path = literal(&source.text[at + call.len()..])?;
            let first = path.strip_prefix('/')?.split('/').next()?;
            // The start page, and files like /favicon.ico: a media path has two segments.
            let is_media_path = path.matches('/').count() > 1 || !first.contains('.');
            // One whose first segment is any app's is about streams.
            let is_of_streams = first.starts_with('{');
            (!first.is_empty() && is_media_path && !is_of_streams && !reserved.contains(&first))
                .then(|| Finding::new(source, at, RULE, format!("`{path}`")))
        })
        .collect()
}

/// The string literal that stands here.
fn literal(text: &str) -> Option<&str> {
    text.trim_start().strip_prefix('"')?.split('"').next()
}

#[test]
fn an_unreserved_route_is_found() {
    let bad = [
        "Router::new().route(\"/novel\", get(f))",
        "Router::new().nest(\n    \"/novel/a\", x)",
        "#[utoipa::path(get, path = \"/novel/{id}\")]",
    ];
    for text in bad {
        assert_eq!(check(&Source::new("control/src/http.rs", text), &["api"]).len(), 1, "{text}");
    }
}

#[test]
fn reserved_routes_are_left_alone() {
    let good = ".route(\"/api/v1/streams\", get(f)).route(\"/\", get(g)).route(\"/favicon.ico\", get(h)).route(PATH, x).route(\"/{app}/{file}\", y)";
    assert_eq!(check(&Source::new("control/src/http.rs", good), &["api"]), []);
    assert_eq!(check(&Source::new("edge/src/http.rs", ".route(\"/novel\")"), &["api"]), []);
}
