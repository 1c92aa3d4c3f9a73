//! The pages in a real browser: a player that plays for a minute without a stall, and goes on by itself
//! when the publisher comes back.

use crate::support::browser::{Page, Report};
use crate::support::clip::Clip;
use crate::support::flv::Viewer;
use crate::support::rtmp::Publication;
use crate::support::say;
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;

/// Seconds of playing without a stall.
const SECONDS: f64 = 60.0;
/// Seconds that it must play on after the publisher came back.
const SECONDS_AFTER: f64 = 10.0;

/// The value below which this share of the sorted values lies.
fn percentile(sorted: &[f64], share: f64) -> f64 {
    let index = (sorted.len() as f64 * share).ceil() as usize;
    sorted[index.clamp(1, sorted.len()) - 1]
}

/// Reports until the player's clock has moved on by `seconds`.
async fn play(page: &mut Page, what: &str, seconds: f64) -> Vec<Report> {
    let first = page.until(what, |report| report.text("state") == "live").await;
    let start = first.number("current_time");
    let mut reports = vec![first];
    let last = page
        .until(what, |report| {
            reports.push(report.clone());
            report.number("current_time") >= start + seconds
        })
        .await;
    reports.push(last);
    reports
}

async fn plays_and_survives(via: &str) -> Vec<f64> {
    let _turn = turn::take(Load::Alone).await;
    let clip = Clip::large().await;
    let weir = Weir::start().await;
    let first = Publication::start(weir.rtmp, "live/a", &clip).await;
    weir.until_live("live/a", 2).await;
    weir.until_hls("live/a").await;
    let mut page = Page::open(&weir.url(&format!("/watch/live/a?via={via}")));

    let reports = play(&mut page, &format!("a minute of {via}"), SECONDS).await;
    let (begin, end) = (&reports[0], &reports[reports.len() - 1]);
    assert_eq!(end.text("via"), via);
    assert_eq!(end.number("stalls"), begin.number("stalls"), "{via} stalled: {end:?}");
    assert_eq!(end.number("fatal_errors"), 0.0, "{end:?}");
    assert_eq!((end.number("width"), end.number("height")), (320.0, 180.0));
    assert!(end.number("total_frames") > SECONDS * 20.0, "{end:?}");

    let mut latencies: Vec<f64> =
        reports.iter().map(|r| r.number("latency_ms")).filter(|ms| ms.is_finite()).collect();
    latencies.sort_unstable_by(f64::total_cmp);
    assert!(latencies.len() > 100, "{} latencies", latencies.len());
    say(&format!(
        "{via}: {SECONDS} s, no stall; latency p50 {} ms, p99 {} ms, max {} ms over {} readings; {} of {} frames dropped",
        percentile(&latencies, 0.5),
        percentile(&latencies, 0.99),
        percentile(&latencies, 1.0),
        latencies.len(),
        end.number("dropped_frames"),
        end.number("total_frames"),
    ));

    // It really is watched that way.
    let protocol = if via == "ws" { "ws_flv" } else { via };
    let viewers = weir.stream("live/a").await.unwrap()["viewers"].clone();
    assert_eq!(viewers[protocol], 1, "{via}: {viewers}");

    drop(first);
    weir.until_stream("live/a", "interrupted", |info| info["state"] == "interrupted").await;
    let _second = Publication::start(weir.rtmp, "live/a", &clip).await;
    weir.until_live("live/a", 2).await;
    let frames = end.number("total_frames");
    let after = page
        .until("the picture after the publisher came back", |report| {
            report.text("state") == "live" && report.number("total_frames") > frames + SECONDS_AFTER * 25.0
        })
        .await;
    assert_eq!(after.number("loads"), 1.0, "the page was loaded again");
    assert_eq!(after.number("errors"), 0.0, "the page has an error");
    assert_eq!(after.number("fatal_errors"), 0.0, "{after:?}");
    say(&format!("{via}: goes on after a re-publish, latency {} ms", after.number("latency_ms")));
    latencies
}

#[tokio::test]
async fn hls_js_plays_a_minute_and_survives_a_re_publish() {
    let latencies = plays_and_survives("hls").await;
    assert!(percentile(&latencies, 0.5) <= 1500.0);
    assert!(percentile(&latencies, 0.99) <= 2500.0);
}

#[tokio::test]
async fn mpegts_js_plays_a_minute_and_survives_a_re_publish() {
    plays_and_survives("flv").await;
}

#[tokio::test]
async fn mpegts_js_plays_a_minute_by_websocket_and_survives_a_re_publish() {
    plays_and_survives("ws").await;
}

#[tokio::test]
async fn the_start_page_lists_what_is_live() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let mut page = Page::open(&weir.url("/"));
    let empty = page.report().await;
    assert!(empty.streams().is_empty(), "{empty:?}");
    let _publication = Publication::start(weir.rtmp, "live/a", &Clip::large().await).await;
    weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    // Somebody has to take what is sent while the page is looked at.
    let watch = async { while viewer.next().await.is_some() {} };
    let look = page.until("the row of a stream that is watched", |report| {
        report.streams().first().is_some_and(|row| row.contains("1 viewer") && bitrate_bps(row) > Some(0.0))
    });
    let report = tokio::select! {
        () = watch => panic!("the stream ended"),
        report = look => report,
    };
    assert_eq!(report.streams().len(), 1, "{report:?}");
    let row = report.streams()[0];
    for text in
        ["live/a", "Live", "RTMP from", "H.264 320×180", " fps", "AAC 48 kHz", "HTTP\u{2011}FLV\u{a0}1"]
    {
        assert!(row.to_lowercase().contains(&text.to_lowercase()), "{text} is not in {row}");
    }
    // The row and the API are not of the same moment.
    let measured = weir.stream("live/a").await.unwrap()["bitrate_bps"].as_f64().unwrap();
    let shown = bitrate_bps(row).unwrap();
    assert!((measured / 3.0..measured * 3.0).contains(&shown), "{shown} is shown of {measured} bit/s");
    assert_eq!((report.number("loads"), report.number("errors")), (1.0, 0.0));
}

/// The bit rate in a row of the start page.
fn bitrate_bps(row: &str) -> Option<f64> {
    let (number, unit) = row.lines().find(|line| line.ends_with("bit/s"))?.split_once(' ')?;
    let scale = match unit {
        "bit/s" => 1.0,
        "kbit/s" => 1e3,
        "Mbit/s" => 1e6,
        _ => return None,
    };
    Some(number.parse::<f64>().ok()? * scale)
}

#[tokio::test]
async fn a_page_is_served_at_each_address() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::start().await;
    for path in ["/", "/watch/live/a"] {
        let page = weir.get(path).await;
        assert_eq!(page.status, 200, "{path}");
        assert!(page.headers["content-type"].to_str().unwrap().starts_with("text/html"), "{path}");
        assert!(page.text().contains("<div id=\"app\">"), "{path}");
    }
}
