//! Viewers who know no Opus: AAC is made of it once for all of them.

use media_core::flv::{Demuxed, Demuxer, Tag, TagKind};
use media_core::frame::{Codec, Frame, Kind, Track};

use super::client::{Player, Server};
use super::origin::{Origin, Relay};
use super::studio::{Studio, opening};
use super::{key, until};
use crate::{Config, SoundConfig};

/// Time between packets of the studio's Opus, half of that between pictures.
const PACKET_MS: i64 = 20;

/// What a player makes of what it is sent.
#[derive(Default)]
struct Screen {
    demuxer: Demuxer,
    tracks: Vec<Track>,
    frames: Vec<Frame>,
    /// When pictures are shown, of which the studio's are no H.264 that could be read.
    pictures_ms: Vec<u32>,
}

impl Screen {
    fn take(&mut self, tag: Tag) {
        if tag.kind == TagKind::Video {
            if tag.body[1] != 0 {
                self.pictures_ms.push(tag.timestamp_ms);
            }
            return;
        }
        for item in self.demuxer.push(tag).unwrap() {
            match item {
                Demuxed::Tracks(tracks) => self.tracks = tracks,
                Demuxed::Frame(frame) => self.frames.push(frame),
                _ => {}
            }
        }
    }

    fn of(&self, kind: Kind) -> Vec<&Frame> {
        self.frames.iter().filter(|frame| frame.track.kind == kind).collect()
    }

    fn sound(&self) -> Option<Codec> {
        self.tracks.iter().find(|track| track.audio().is_some()).map(|track| track.codec)
    }
}

/// So many pictures, the first of them a keyframe, each behind two packets.
async fn show(relay: &Relay, studio: &mut Studio, pictures: usize) {
    for number in 0..pictures {
        let at = studio.now_ms;
        let picture = studio.picture(number == 0, 100);
        let next = std::mem::replace(&mut studio.now_ms, at);
        let first = studio.opus();
        studio.now_ms += PACKET_MS;
        let second = studio.opus();
        studio.now_ms = next;
        for encoded in [picture, first, second] {
            relay.send(encoded.bytes).await;
        }
    }
}

/// The number of streams that are transcoded into AAC.
fn at_work(server: &Server) -> f64 {
    let registry = prometheus::Registry::new();
    server.edge.register(&registry).unwrap();
    let text = prometheus::TextEncoder::new().encode_to_string(&registry.gather()).unwrap();
    let sample = r#"weir_edge_transcode_streams{into="aac"} "#;
    text.lines().find_map(|line| line.strip_prefix(sample)).map_or(0.0, |value| value.parse().unwrap())
}

#[tokio::test]
async fn who_asks_for_aac_gets_it_and_who_does_not_gets_opus() {
    let origin = Origin::default();
    let relay = origin.relay("a");
    let server = Server::start(&origin).await;
    let mut studio = Studio::with_opus();
    relay.send(opening(&studio.picture(true, 100))).await;
    let asked = ["/live/a.flv", "/live/a.flv?audio=aac", "/live/a.flv?latency=low&audio=aac"];
    let mut players = Vec::new();
    for path in asked {
        players.push((Player::new(server.get(path).await), Screen::default()));
    }
    until(|| server.edge.viewers(&key("a")).flv == 3).await;
    // What a ring is told of is there for all who have come, in the one that is written anew as well.
    until(|| at_work(&server) == 1.0).await;
    show(&relay, &mut studio, 100).await;
    drop(relay);
    for ((player, screen), path) in players.iter_mut().zip(asked) {
        while let Some(tag) = player.tag().await {
            screen.take(tag);
        }
        let aac = path.contains("aac");
        assert_eq!(screen.sound(), Some(if aac { Codec::Aac } else { Codec::Opus }), "{path}");
        let (pictures, sound) = (&screen.pictures_ms, screen.of(Kind::Audio));
        assert!(pictures.len() >= 100 && pictures.windows(2).all(|two| two[0] < two[1]), "{path}");
        assert!(sound.windows(2).all(|two| two[0].dts < two[1].dts), "{path}");
        // Four seconds less what codecs hold back; beginning where the sound did.
        let (count, first) = (sound.len(), sound[0].dts.0 / 90);
        assert_eq!(first, 40, "{path}");
        assert!(if aac { (180..=188).contains(&count) } else { count == 200 }, "{path}: {count}");
    }
    assert_eq!(origin.count("/relay/live/a"), 1);
    drop(players);
    until(|| at_work(&server) == 0.0).await;
}

#[tokio::test]
async fn beyond_the_bound_and_for_other_codecs_the_sound_is_as_it_was() {
    let origin = Origin::default();
    let (relay, other) = (origin.relay("a"), origin.relay("b"));
    let config = Config { sound: SoundConfig { max_streams: 0 }, ..Config::default() };
    let server = Server::with(&origin, config, None).await;
    let mut studio = Studio::with_opus();
    relay.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/a.flv?audio=aac").await);
    show(&relay, &mut studio, 10).await;
    drop(relay);
    let mut screen = Screen::default();
    while let Some(tag) = player.tag().await {
        screen.take(tag);
    }
    assert_eq!((screen.sound(), screen.of(Kind::Audio).len()), (Some(Codec::Opus), 20));
    // It has AAC.
    let mut studio = Studio::new();
    other.send(opening(&studio.picture(true, 100))).await;
    let mut player = Player::new(server.get("/live/b.flv?audio=aac").await);
    other.send(studio.sound(100).bytes).await;
    other.send(studio.picture(false, 100).bytes).await;
    for number in 0..3 {
        assert_eq!(player.number().await, Some(number));
    }
    assert_eq!(server.get("/live/b.flv?audio=mp3").await.status(), 400);
}
