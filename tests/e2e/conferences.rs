//! Conferences: three members publish by WHIP, each receives the others from an edge by WHEP, all follow what happens, and a
//! replica of the control plane that is killed is missed by none of them.

use reqwest::{Client, Method, Response};
use serde_json::{Value, json};

use crate::support::browser::{Page, Report};
use crate::support::cluster::{Cluster, Control, Settings};
use crate::support::ffmpeg::{self, Media};
use crate::support::turn::{self, Load};
use crate::support::{say, until, within};
use crate::webrtc::offer;

const ROOM: &str = "/api/v1/conferences/live/room";
const OPUS: &[&str] = &["-c:a", "libopus", "-b:a", "64k", "-ac", "2"];

async fn ask(control: &Control, method: Method, path: &str, body: Value) -> (u16, Value) {
    let request = Client::new().request(method, control.url(path)).bearer_auth(control.token());
    let request = if body.is_null() { request } else { request.json(&body) };
    let answer = within(path, request.send()).await.unwrap();
    let status = answer.status().as_u16();
    (status, answer.json().await.unwrap_or_default())
}

/// Somebody who follows the conference, with a grant, as EventSource does.
struct Follower {
    answer: Response,
    text: String,
    last: String,
}

impl Follower {
    async fn at(control: &Control, events: &str, last: Option<&str>) -> Self {
        let mut request = Client::new().get(control.url(events));
        if let Some(last) = last {
            request = request.header("last-event-id", last);
        }
        let answer = within("events", request.send()).await.unwrap();
        assert_eq!(answer.status(), 200);
        assert_eq!(answer.headers()["content-type"], "text/event-stream");
        Self { answer, text: String::new(), last: String::new() }
    }

    /// The next event, and whom it is about; `None`: it was the last.
    async fn next(&mut self) -> Option<String> {
        loop {
            if let Some((event, rest)) = self.text.split_once("\n\n") {
                let field =
                    |name: &str| event.lines().find_map(|line| line.strip_prefix(name)).map(str::to_owned);
                let (id, kind, data) = (field("id: "), field("event: "), field("data: "));
                self.text = rest.to_owned();
                let (Some(kind), Some(data)) = (kind, data) else { continue };
                self.last = id.unwrap_or_else(|| self.last.clone());
                let data: Value = serde_json::from_str(&data).unwrap();
                return Some(format!("{kind} {}", data["member"].as_str().unwrap_or("-")));
            }
            let chunk = within("an event", self.answer.chunk()).await.ok().flatten()?;
            self.text.push_str(std::str::from_utf8(&chunk).unwrap());
        }
    }

    /// The next events beside those of who speaks, in any order where several things happen at once.
    async fn are(&mut self, expected: &[&str]) {
        let mut found = Vec::new();
        while found.len() < expected.len() {
            let event = self.next().await.expect("an event");
            if !event.starts_with("speaker") {
                found.push(event);
            }
        }
        found.sort();
        assert_eq!(found, expected);
    }

    async fn until(&mut self, expected: &str) {
        within(expected, async { while self.next().await.expect("an event") != expected {} }).await;
    }
}

fn whip(welcome: &Value) -> String {
    let text = |key: &str| welcome[key].as_str().unwrap().to_owned();
    format!("{}?token={}", text("whip"), text("publish_grant"))
}

#[tokio::test]
async fn three_members_hear_each_other_and_a_replica_is_killed() {
    let _turn = turn::take(Load::Alone).await;
    let mut cluster = Cluster::start(Settings::default()).await;
    let one = &cluster.controls[0];
    let wanted = json!({ "app": "live", "name": "room", "max_speakers": 3 });
    assert_eq!(ask(one, Method::POST, "/api/v1/conferences", wanted.clone()).await.0, 201);
    assert_eq!(ask(one, Method::POST, "/api/v1/conferences", wanted).await.0, 409);
    let grant = json!({ "audience": "play", "stream": "live/room~*", "lasts_s": 600 });
    let grant = ask(one, Method::POST, "/api/v1/grants", grant).await.1["grant"].as_str().unwrap().to_owned();
    let events = format!("{ROOM}/events?token={grant}");
    let others = ask(
        one,
        Method::POST,
        "/api/v1/grants",
        json!({ "audience": "play", "stream": "live/b*", "lasts_s": 60 }),
    )
    .await
    .1;
    let others = format!("{ROOM}/events?token={}", others["grant"].as_str().unwrap());
    assert_eq!(reqwest::get(one.url(&others)).await.unwrap().status(), 403);
    assert_eq!(reqwest::get(one.url(&format!("{ROOM}/events"))).await.unwrap().status(), 401);
    until("the other replica knows the room", async || {
        (ask(&cluster.controls[1], Method::GET, ROOM, Value::Null).await.0 == 200).then_some(())
    })
    .await;

    let mut followers = Vec::new();
    for control in &cluster.controls {
        let mut follower = Follower::at(control, &events, None).await;
        follower.are(&["snapshot -"]).await;
        followers.push(follower);
    }
    let mut welcomes = Vec::new();
    for (id, control) in [("ann", 0), ("bob", 1), ("cid", 0)] {
        let wanted = json!({ "id": id, "role": "speaker" });
        let (status, welcome) =
            ask(&cluster.controls[control], Method::POST, &format!("{ROOM}/members"), wanted).await;
        assert_eq!(status, 201, "{welcome}");
        welcomes.push(welcome);
    }
    let wanted = json!({ "id": "dan", "role": "speaker" });
    assert_eq!(ask(one, Method::POST, &format!("{ROOM}/members"), wanted).await.0, 409);
    for follower in &mut followers {
        for id in ["ann", "bob", "cid"] {
            follower.are(&[&format!("joined {id}")]).await;
        }
    }

    // One by a browser, whose sound says how loud it is, two by ffmpeg.
    let mut ann = Page::webrtc_with(&whip(&welcomes[0]), "publish", &json!({ "tone": true }));
    ann.until("a browser publishes", |report| report.number("framesSent") > 25.0).await;
    let media = Media { audio: Some(OPUS), ..Media::default() };
    let [bob, cid] = [1, 2].map(|at: usize| ffmpeg::publish_whip(&whip(&welcomes[at]), media, &[]));
    for follower in &mut followers {
        follower.are(&["live ann", "live bob", "live cid"]).await;
    }
    // Who listens later is told who speaks, too.
    for control in &cluster.controls {
        Follower::at(control, &events, None).await.until("speaker ann").await;
    }
    say("three members are live, and ann is told to speak");

    let whep = |of: &str| welcomes[0]["whep"].as_str().unwrap().replace("{member}", of);
    for (from, to) in
        [("ann", "bob"), ("ann", "cid"), ("bob", "ann"), ("bob", "cid"), ("cid", "ann"), ("cid", "bob")]
    {
        let edge = &cluster.edges[usize::from(to == "cid")];
        let mut page = Page::webrtc(&edge.url(&format!("/live/room~{from}/whep")), "play");
        let report = page
            .until("pictures and sound", |report| {
                report.number("framesDecoded") > 10.0 && report.number("audioPackets") > 10.0
            })
            .await;
        assert_eq!(report.text("state"), "connected", "{from} to {to}");
    }
    say("each has received both others from an edge");

    // Muted where it comes in: pictures go on, sound does not.
    let mut page = Page::webrtc(&whep("ann"), "play");
    page.until("sound", |report| report.number("audioPackets") > 50.0).await;
    let mute = |muted: bool| json!({ "muted": muted });
    let member = format!("{ROOM}/members/ann");
    assert_eq!(ask(&cluster.controls[1], Method::PATCH, &member, mute(true)).await.0, 200);
    for follower in &mut followers {
        follower.are(&["muted ann"]).await;
        follower.until("speaker -").await;
    }
    let begin = page.report().await;
    let report = page
        .until("pictures without sound", |report| {
            report.number("framesDecoded") > begin.number("framesDecoded") + 50.0
        })
        .await;
    let power = |from: [f64; 2], to: &Report| {
        (to.number("audioEnergy") - from[0]) / (to.number("audioSeconds") - from[1])
    };
    let (loud, muted) = (
        power([0.0, 0.0], &begin),
        power([begin.number("audioEnergy"), begin.number("audioSeconds")], &report),
    );
    assert!(muted < loud / 5.0, "power {loud}, and {muted} while muted");
    // Of Opus silence goes on, so that nobody takes a stream of sound alone to have stalled.
    let (before, after) = (begin.number("audioPackets"), report.number("audioPackets"));
    assert!(after > before + 50.0, "{before} packets of sound, and {after} while muted");
    assert_eq!(ask(&cluster.controls[0], Method::PATCH, &member, mute(false)).await.0, 200);
    for follower in &mut followers {
        follower.are(&["unmuted ann"]).await;
    }
    let again = report.number("audioEnergy") + loud;
    page.until("sound again", |report| report.number("audioEnergy") > again).await;
    say(&format!("what is muted is not sent on: power {loud:.4}, and {muted:.4} while muted"));

    // A replica is killed: who followed it goes on at the other, where it was.
    let last = followers[0].last.clone();
    cluster.controls.remove(0).kill().await;
    while followers[0].next().await.is_some() {}
    let left = &cluster.controls[0];
    assert_eq!(ask(left, Method::DELETE, &format!("{ROOM}/members/bob"), Value::Null).await.0, 204);
    let mut back = Follower::at(left, &events, Some(&last)).await;
    for follower in [&mut back, &mut followers[1]] {
        follower.are(&["gone bob"]).await;
        follower.are(&["left bob"]).await;
    }
    // Its encoder does not hear that it was sent away, which is its own affair.
    until("bob's stream is over", async || left.stream("live/room~bob").await.is_none().then_some(())).await;
    drop(bob);
    // Its grant is worth nothing any more.
    let again =
        Client::new().post(whip(&welcomes[1])).header("content-type", "application/sdp").body(offer(""));
    assert_eq!(within("a refusal", again.send()).await.unwrap().status(), 409);
    assert_eq!(ask(left, Method::DELETE, ROOM, Value::Null).await.0, 204);
    for follower in [&mut back, &mut followers[1]] {
        follower.until("ended -").await;
        assert_eq!(follower.next().await, None);
    }
    // Its encoder does not hear that it was sent away, which is its own affair.
    until("cid's stream is over", async || left.stream("live/room~cid").await.is_none().then_some(())).await;
    drop(cid);
    say("a replica was killed, and all went on at the other");
}
