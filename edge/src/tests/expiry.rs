//! Viewers whose grant expires while they watch.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bytes::{Buf, Bytes};
use control_api::grant::Claims;
use http::Request;
use http_body_util::{BodyExt, Empty};
use serde_json::Value;
use tokio::io::AsyncReadExt;

use super::client::Player;
use super::guarded::{access, claims, with};
use super::h3::Client;
use super::limits::metric;
use super::origin::Origin;
use super::secure::Secure;
use super::studio::{Studio, opening};
use super::{guarded, rtmp};
use crate::Config;

/// How long after its `exp` a grant holds, for clocks that differ, and how long viewers have for coming in.
const LEEWAY_S: u64 = 10;
const TO_COME_S: u64 = 5;

#[tokio::test]
async fn a_viewer_whose_grant_expires_is_let_go_by_every_protocol_and_the_others_stay() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let folder = tempfile::tempdir().unwrap();
    let log = folder.path().join("access.jsonl");
    let mut config = Config::default();
    config.access_log.path = log.to_str().unwrap().to_owned();
    let secure = Secure::guarded(&origin, config, access(), None).await;
    let server = &secure.server;
    let mut studio = Studio::new();
    relay.send(opening(&studio.picture(true, 100))).await;

    let now_s = SystemTime::now().duration_since(UNIX_EPOCH).unwrap().as_secs();
    let short = with(&Claims { exp: now_s + TO_COME_S - LEEWAY_S, ..claims() });
    let path = format!("/live/a.flv?token={short}");
    let mut stays = Player::new(server.get(&format!("/live/a.flv?token={}", guarded::good())).await);
    assert_eq!(stays.number().await, Some(0));
    let flv = Player::new(server.get(&path).await);
    let websocket = server.request(http::Method::GET, &path, &guarded::WEBSOCKET).await;
    assert_eq!(websocket.status(), 101);
    let mut player = rtmp::Player::connect(&server.edge, &format!("a?token={short}")).await;
    assert_eq!(player.number().await, 0);
    let request = Request::get(format!("http://edge{path}")).body(Empty::<Bytes>::new()).unwrap();
    let mut over_http2 = server.http2().await.send_request(request).await.unwrap();
    assert_eq!(over_http2.status(), 200);
    let mut http3 = Client::connect(&secure).await;
    let (head, mut over_http3) = http3.get(&path).await;
    assert_eq!(head.status(), 200);

    // A stream that goes on: what is not of a shard sees that its time is over when there is more for it.
    let publish = async {
        for n in 1_u64.. {
            relay.send(studio.picture(n % 25 == 0, 100).bytes).await;
            assert_eq!(stays.number().await, Some(n));
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let ends = async {
        flv.breaks_off().await;
        let mut said = Vec::new();
        let upgraded = hyper::upgrade::on(websocket).await.unwrap();
        let mut upgraded = hyper_util::rt::TokioIo::new(upgraded);
        upgraded.read_to_end(&mut said).await.unwrap();
        // 1008 (RFC 6455 §7.4.1).
        let close = [&[0x88, 2 + 21, 0x03, 0xf0], &b"the grant has expired"[..]].concat();
        assert!(said.ends_with(&close), "{:x?}", said.get(said.len().saturating_sub(40)..));
        assert!(player.heard("The grant has expired.").await);
        while over_http2.body_mut().frame().await.expect("no regular end").is_ok() {}
        while let Ok(data) = over_http3.recv_data().await {
            assert!(data.expect("no regular end").has_remaining());
        }
    };
    tokio::select! {
        () = publish => unreachable!("it goes on for ever"),
        () = ends => {}
    }
    assert_eq!(metric(server, r#"weir_edge_viewer_drops_total{reason="expired"}"#), "5");
    assert_eq!(server.get(&path).await.status(), 401, "nor may it come again");
    // A player is waited for until it hangs up, so that it gets what was said.
    drop(player);
    let expired = loop {
        server.edge.shared.guard.flush_log().await;
        let lines = std::fs::read_to_string(&log).unwrap();
        let lines = lines.lines().map(|line| serde_json::from_str::<Value>(line).unwrap());
        let expired: Vec<Value> = lines.filter(|line| line["end"] == "expired").collect();
        if expired.len() == 5 {
            break expired;
        }
        tokio::task::yield_now().await;
    };
    let protocols: std::collections::BTreeSet<_> =
        expired.iter().map(|line| line["protocol"].as_str().unwrap()).collect();
    assert_eq!(protocols, ["h2", "h3", "http/1.1", "rtmp"].into());
    let served = |line: &Value| line["status"] == 200 || line["status"] == 101;
    assert!(expired.iter().all(|line| served(line) && line["bytes"].as_u64().unwrap() > 100), "{expired:?}");
}
