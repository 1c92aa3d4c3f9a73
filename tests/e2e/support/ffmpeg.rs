//! ffmpeg as publisher and as player, ffprobe as judge.

use std::path::PathBuf;

use serde_json::Value;
use tokio::process::Command;

use super::process::Process;
use super::{tool, within};

/// Which ffmpeg.
#[derive(Debug, Clone, Copy)]
pub enum Version {
    /// Debian 12's 5.1.
    Five,
    /// The static 9, which speaks Enhanced RTMP.
    Nine,
}

impl Version {
    fn path(self) -> PathBuf {
        match self {
            Self::Five => PathBuf::from("ffmpeg"),
            Self::Nine => tool("ffmpeg9"),
        }
    }

    fn name(self) -> &'static str {
        match self {
            Self::Five => "ffmpeg 5",
            Self::Nine => "ffmpeg 9",
        }
    }
}

/// A small picture that is cheap to encode.
pub const H264: &[&str] =
    &["-c:v", "libx264", "-preset", "ultrafast", "-tune", "zerolatency", "-g", "25", "-pix_fmt", "yuv420p"];
/// The usual sound.
pub const AAC: &[&str] = &["-c:a", "aac", "-b:a", "64k"];

/// What is published: a moving test picture, a tone, or both.
#[derive(Debug, Clone, Copy)]
pub struct Media<'a> {
    /// Encoder options of the picture.
    pub video: Option<&'a [&'a str]>,
    /// Encoder options of the sound.
    pub audio: Option<&'a [&'a str]>,
    /// Pixels.
    pub size: &'a str,
}

impl Default for Media<'_> {
    fn default() -> Self {
        Self { video: Some(H264), audio: Some(AAC), size: "320x180" }
    }
}

impl Media<'_> {
    fn arguments(&self, pace: &[&str]) -> Vec<String> {
        let mut arguments: Vec<String> = Vec::new();
        let mut add = |more: &[&str]| arguments.extend(more.iter().map(|a| (*a).to_owned()));
        if self.video.is_some() {
            add(pace);
            add(&["-f", "lavfi", "-i", &format!("testsrc2=size={}:rate=25", self.size)]);
        }
        if self.audio.is_some() {
            add(pace);
            add(&["-f", "lavfi", "-i", "sine=frequency=440:sample_rate=48000"]);
        }
        add(self.video.unwrap_or_default());
        add(self.audio.unwrap_or_default());
        arguments
    }
}

fn ffmpeg(version: Version, level: &str) -> Command {
    let mut command = Command::new(version.path());
    command.args(["-hide_banner", "-nostats", "-threads", "1", "-loglevel", level]);
    command
}

/// Publishes in real time to an RTMP address until it is dropped, killed or told to quit.
pub fn publish(version: Version, url: &str, media: Media<'_>) -> Process {
    let mut command = ffmpeg(version, "info");
    command.args(media.arguments(&["-re"])).args(["-f", "flv", url]);
    Process::spawn(&format!("{} to {url}", version.name()), command)
}

/// The same by SRT, as MPEG-TS.
pub fn publish_srt(url: &str, media: Media<'_>) -> Process {
    let mut command = ffmpeg(Version::Five, "info");
    command.args(media.arguments(&["-re"])).args(["-f", "mpegts", url]);
    Process::spawn(&format!("ffmpeg 5 to {url}"), command)
}

/// Sends a file in real time, by SRT.
pub fn send_srt(file: &std::path::Path, url: &str) -> Process {
    let mut command = ffmpeg(Version::Five, "error");
    command.arg("-re").arg("-i").arg(file).args(["-c", "copy", "-f", "mpegts", url]);
    Process::spawn(&format!("ffmpeg 5 to {url}"), command)
}

/// Ends a publisher the way a person does.
pub async fn quit(mut publisher: Process) {
    publisher.write("q").await;
    publisher.exit().await;
}

/// Encodes `seconds` of media to a file, as fast as can be.
pub async fn encode(version: Version, media: Media<'_>, seconds: u32, file: &std::path::Path) {
    let mut command = ffmpeg(version, "error");
    command.args(media.arguments(&[])).args(["-t", &seconds.to_string(), "-y"]).arg(file);
    let (status, output) = Process::spawn("an encoder", command).finish().await;
    assert!(status.success(), "{output}");
}

/// A packet as a player got it; times in seconds.
#[derive(Debug, Clone, Copy)]
pub struct Packet {
    /// Decoding time.
    pub dts: f64,
    /// Presentation time.
    pub pts: f64,
    /// How long it lasts, where that is known.
    pub duration: f64,
    /// Decoding can start here.
    pub key: bool,
}

/// One track as a player got it.
#[derive(Debug, Clone, Default)]
pub struct Track {
    /// `h264`, `aac`, …
    pub codec: String,
    /// `320x180`; empty for sound.
    pub size: String,
    /// Hz; 0 for pictures.
    pub sample_rate: u32,
    /// All packets.
    pub packets: Vec<Packet>,
}

impl Track {
    /// From the first packet's decoding time to the end of the last, in seconds.
    pub fn span(&self) -> f64 {
        let (first, last) = (self.packets.first().unwrap(), self.packets.last().unwrap());
        last.dts - first.dts + last.duration
    }

    /// Decoding times strictly rise, presentation never precedes decoding, and nothing is missing:
    /// no step is longer than `max_step` seconds.
    #[track_caller]
    pub fn assert_monotonic(&self, max_step: f64) {
        for pair in self.packets.windows(2) {
            let step = pair[1].dts - pair[0].dts;
            assert!(step > 0.0, "{}: {:?} is followed by {:?}", self.codec, pair[0], pair[1]);
            assert!(step <= max_step, "{}: a gap of {step} s after {:?}", self.codec, pair[0]);
        }
        for packet in &self.packets {
            assert!(packet.pts >= packet.dts - 1e-6, "{}: {packet:?}", self.codec);
        }
    }
}

/// What a player got.
#[derive(Debug, Clone, Default)]
pub struct Report {
    /// Its tracks.
    pub tracks: Vec<Track>,
}

impl Report {
    /// The one track of this codec.
    #[track_caller]
    pub fn track(&self, codec: &str) -> &Track {
        let mut tracks = self.tracks.iter().filter(|track| track.codec == codec);
        let track = tracks.next().unwrap_or_else(|| panic!("no {codec} in {:?}", self.codecs()));
        assert!(tracks.next().is_none(), "more than one {codec}");
        track
    }

    /// Codecs, in the order of the tracks.
    pub fn codecs(&self) -> Vec<&str> {
        self.tracks.iter().map(|track| track.codec.as_str()).collect()
    }
}

/// Lets ffprobe 5 read `seconds` of an address. It must find nothing to complain of.
pub async fn probe(url: &str, seconds: u32) -> Report {
    let mut command = Command::new("ffprobe");
    command.args(["-hide_banner", "-loglevel", "warning", "-of", "json", "-show_streams", "-show_packets"]);
    command.args(["-read_intervals", &format!("%+{seconds}"), url]);
    let output = within(&format!("ffprobe of {url}"), command.kill_on_drop(true).output()).await.unwrap();
    let complaints = complaints(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{url}: {complaints}");
    let json: Value = serde_json::from_slice(&output.stdout).unwrap();
    let text = |value: &Value| value.as_str().unwrap_or_default().to_owned();
    let number = |value: &Value| text(value).parse::<f64>().unwrap_or_default();
    let mut tracks: Vec<Track> = Vec::new();
    for stream in json["streams"].as_array().unwrap() {
        tracks.push(Track {
            codec: text(&stream["codec_name"]),
            size: stream["width"]
                .as_u64()
                .map_or(String::new(), |width| format!("{width}x{}", stream["height"])),
            sample_rate: text(&stream["sample_rate"]).parse().unwrap_or_default(),
            packets: Vec::new(),
        });
    }
    for packet in json["packets"].as_array().unwrap() {
        let index = usize::try_from(packet["stream_index"].as_u64().unwrap()).unwrap();
        tracks[index].packets.push(Packet {
            dts: number(&packet["dts_time"]),
            pts: number(&packet["pts_time"]),
            duration: number(&packet["duration_time"]),
            key: text(&packet["flags"]).contains('K'),
        });
    }
    Report { tracks }
}

/// What ffmpeg had to say, but for what it says of every live stream of fragmented MP4: it reads the
/// initialization section again before each segment (RFC 8216 §4.3.2.5 lets it) and remarks on that.
fn complaints(stderr: &[u8]) -> String {
    let text = String::from_utf8_lossy(stderr);
    let of_note =
        |line: &&str| !line.contains("duplicated MOOV Atom") && !line.contains("Last message repeated");
    text.lines().filter(of_note).collect::<Vec<_>>().join("\n")
}

/// Lets ffmpeg play `seconds` of an address and list the packets it got. It must find nothing to
/// complain of.
pub async fn play(version: Version, url: &str, seconds: u32) -> Report {
    let mut command = ffmpeg(version, "warning");
    command.args(["-i", url, "-t", &seconds.to_string(), "-map", "0", "-c", "copy", "-f", "framecrc", "-"]);
    let output = within(&format!("ffmpeg of {url}"), command.kill_on_drop(true).output()).await.unwrap();
    let complaints = complaints(&output.stderr);
    assert!(output.status.success() && complaints.is_empty(), "{url}: {complaints}");
    framecrc(&String::from_utf8_lossy(&output.stdout))
}

/// Reads ffmpeg's `framecrc` format: `#key index: value` lines, then `index, dts, pts, duration, size, …`.
fn framecrc(text: &str) -> Report {
    let mut tracks: Vec<Track> = Vec::new();
    let mut time_bases: Vec<f64> = Vec::new();
    for line in text.lines() {
        if let Some((key, index, value)) = line.strip_prefix('#').and_then(header_line) {
            if tracks.len() <= index {
                tracks.resize_with(index + 1, Track::default);
                time_bases.resize(index + 1, 0.0);
            }
            match key {
                "tb" => {
                    let (num, den) = value.split_once('/').unwrap();
                    time_bases[index] = num.parse::<f64>().unwrap() / den.parse::<f64>().unwrap();
                }
                "codec_id" => tracks[index].codec = value.to_owned(),
                "dimensions" => tracks[index].size = value.to_owned(),
                "sample_rate" => tracks[index].sample_rate = value.parse().unwrap(),
                _ => {}
            }
        } else if !line.starts_with('#') {
            let fields: Vec<&str> = line.split(',').map(str::trim).collect();
            let index: usize = fields[0].parse().unwrap();
            let seconds = |field: &str| field.parse::<f64>().unwrap() * time_bases[index];
            tracks[index].packets.push(Packet {
                dts: seconds(fields[1]),
                pts: seconds(fields[2]),
                duration: seconds(fields[3]),
                key: !fields[4..].iter().any(|field| field.starts_with("F=0x0")),
            });
        }
    }
    Report { tracks }
}

/// `tb 0: 1/25` is `("tb", 0, "1/25")`.
fn header_line(line: &str) -> Option<(&str, usize, &str)> {
    let (head, value) = line.split_once(": ")?;
    let (key, index) = head.split_once(' ')?;
    Some((key, index.parse().ok()?, value))
}
