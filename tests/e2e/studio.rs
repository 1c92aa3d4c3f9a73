//! The studio: a browser publishes with nothing installed, and browsers watch what it sends by each protocol.

use crate::support::browser::Page;
use crate::support::say;
use crate::support::turn::{self, Load};
use crate::support::weir::Weir;

#[tokio::test]
async fn a_browser_publishes_by_the_studio_and_others_watch_by_each_protocol() {
    let _turn = turn::take(Load::Alone).await;
    let weir = Weir::start().await;
    let mut studio = Page::open(&weir.url("/studio?name=a"));
    let sent = studio
        .until("the studio is live", |report| {
            // Chromium begins with little, and sends all once it is told what the line takes.
            report.text("phase") == "live" && report.number("height") == 720.0
        })
        .await;
    assert_eq!(sent.text("codec"), "video/H264", "{sent:?}");
    weir.until_live("live/a", 2).await;
    let stream = weir.stream("live/a").await.unwrap();
    assert_eq!(stream["publisher"]["protocol"], "whip", "{stream}");
    for via in ["rtc", "flv", "hls"] {
        let mut page = Page::open(&weir.url(&format!("/watch/live/a?via={via}")));
        let report = page
            .until("it plays, with a latency", |report| {
                report.text("state") == "live"
                    && report.number("total_frames") > 75.0
                    && report.number("latency_ms").is_finite()
            })
            .await;
        assert_eq!((report.text("via"), report.number("height")), (via, 720.0), "{report:?}");
        assert!(report.number("latency_ms") >= 0.0, "{report:?}");
        say(&format!("studio → /watch by {via}: {:.0} ms old", report.number("latency_ms")));
    }
    drop(studio);
    weir.until_gone("live/a").await;
}

#[tokio::test]
async fn the_studio_says_why_it_may_not_publish() {
    let _turn = turn::take(Load::Encoder).await;
    let keys = "[origin.auth]\nmode = \"keys\"\nkeys = [{ streams = \"live/*\", key = \"SECRET\" }]\n";
    let weir = Weir::with(keys, &[]).await;
    let mut studio = Page::open(&weir.url("/studio?name=a"));
    let report = studio.until("a refusal", |report| !report.text("why").is_empty()).await;
    assert_eq!(report.text("phase"), "idle", "{report:?}");
    assert!(report.text("why").contains("key"), "{report:?}");
}
