//! Viewers of an edge that has several origins.

use std::time::{Duration, Instant};

use http::Request;
use tower::service_fn;

use super::client::Server;
use super::origin::Origin;
use crate::upstream::{BoxError, Origins, Upstream};

const LONG: Duration = Duration::from_secs(20);

fn dead() -> Upstream {
    Upstream::new(service_fn(async |_: Request<()>| Err(BoxError::from("connection refused"))))
}

#[tokio::test]
async fn a_stream_that_a_dead_origin_may_have_is_no_absence_and_not_asked_for_each_time() {
    let origin = Origin::default();
    let origins = Origins::of(vec![("a", dead()), ("b", origin.upstream())], LONG, LONG);
    let server = Server::behind(origins.service()).await;
    let began = Instant::now();
    for path in ["/live/a.flv", "/live/a/main/media.m3u8"] {
        for _ in 0..50 {
            let response = server.get(path).await;
            assert_eq!(response.status(), 503, "{path}");
            assert_eq!(response.headers()["cache-control"], "no-store", "{path}");
        }
    }
    let most = 2 + began.elapsed().as_millis() / 250;
    let asked = origin.requests().len();
    assert!(asked as u128 <= most, "{asked} questions for 100 requests");
}
