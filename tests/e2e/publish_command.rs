//! `weir publish` and `weir --demo`: a moving picture without an encoder.

use std::path::PathBuf;

use crate::support::ffmpeg::{self, Media, Version};
use crate::support::flv::{VIDEO, Viewer};
use crate::support::process::Process;
use crate::support::turn::{self, Load};
use crate::support::weir::{self, Weir};

async fn file(folder: &tempfile::TempDir, name: &str, seconds: u32) -> PathBuf {
    let path = folder.path().join(name);
    ffmpeg::encode(Version::Five, Media::default(), seconds, &path).await;
    path
}

fn publish(folder: &tempfile::TempDir, arguments: &[&str]) -> Process {
    let mut command = weir::command(folder);
    command.arg("publish").args(arguments);
    Process::spawn("weir publish", command)
}

async fn sends_in_real_time(name: &str) {
    let _turn = turn::take(Load::Encoder).await;
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, name, 8).await;
    let weir = Weir::start().await;
    let started = std::time::Instant::now();
    let publisher = publish(&folder, &[path.to_str().unwrap(), &weir.rtmp_url("live/a")]);
    let info = weir.until_live("live/a", 2).await;
    assert_eq!(info["tracks"][0]["codec"], "H.264");
    assert_eq!(info["tracks"][0]["width"], 320);
    assert_eq!(info["tracks"][1]["codec"], "AAC");
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    let mut last = viewer.next_frame(VIDEO).await.timestamp;
    for _ in 0..100 {
        let next = viewer.next_frame(VIDEO).await.timestamp;
        assert!((39..=41).contains(&(next - last)), "{last} is followed by {next}");
        last = next;
    }
    let (status, output) = publisher.finish().await;
    assert!(status.success(), "{output}");
    // Eight seconds of media: in less time they cannot have been sent in real time.
    let took = started.elapsed().as_secs_f64();
    assert!(took > 7.0, "{took} s: {output}");
    assert_progress(&output);
}

/// `00:00:04.9  732 kbit/s  125 frames  0 dropped`, somewhere in the output.
fn assert_progress(output: &str) {
    let line = output.lines().find(|line| line.contains("kbit/s")).unwrap_or_else(|| panic!("{output}"));
    let words: Vec<&str> = line.split_whitespace().collect();
    let [time, kbit_s, "kbit/s", frames, "frames", "0", "dropped"] = words[..] else { panic!("{line}") };
    let seconds = time.split(':').fold(0.0, |sum, part| sum * 60.0 + part.parse::<f64>().unwrap());
    assert!(seconds > 0.0 && kbit_s.parse::<u32>().unwrap() > 0, "{line}");
    // The frames of a picture are counted; there are 25 a second.
    let frames = frames.parse::<f64>().unwrap();
    assert!((frames - 25.0 * seconds).abs() < 5.0, "{line}");
}

#[tokio::test]
async fn an_mp4_file_is_sent_in_real_time() {
    sends_in_real_time("clip.mp4").await;
}

#[tokio::test]
async fn an_flv_file_is_sent_in_real_time() {
    sends_in_real_time("clip.flv").await;
}

#[tokio::test]
async fn a_loop_goes_on_without_a_gap_in_time() {
    let _turn = turn::take(Load::Encoder).await;
    let folder = tempfile::tempdir().unwrap();
    let path = file(&folder, "clip.mp4", 3).await;
    let weir = Weir::start().await;
    let publisher = publish(&folder, &[path.to_str().unwrap(), &weir.rtmp_url("live/a"), "--loop"]);
    weir.until_live("live/a", 2).await;
    let mut viewer = Viewer::open(&weir.url("/live/a.flv")).await;
    let mut last = viewer.next_frame(VIDEO).await.timestamp;
    // Ten seconds: at least three times past the end of the file.
    for _ in 0..250 {
        let next = viewer.next_frame(VIDEO).await.timestamp;
        assert!((35..=70).contains(&(next - last)), "{last} is followed by {next}");
        last = next;
    }
    publisher.signal("INT").await;
    let (_, output) = publisher.finish().await;
    assert!(!output.contains("panicked"), "{output}");
}

#[tokio::test]
async fn what_cannot_be_sent_is_said_and_has_its_exit_code() {
    let _turn = turn::take(Load::Encoder).await;
    let folder = tempfile::tempdir().unwrap();
    let clip = file(&folder, "clip.flv", 1).await;
    let text = folder.path().join("text.mp4");
    std::fs::write(&text, "this is no clip").unwrap();
    let weir = Weir::configured(
        "[origin.auth]\nmode = \"keys\"\nkeys = [{ streams = \"live/*\", key = \"right\" }]\n",
    )
    .await;
    let (clip, text) = (clip.to_str().unwrap(), text.to_str().unwrap());
    let nobody = "rtmp://127.0.0.1:9/live/a";
    let wrong_key = weir.rtmp_url("live/a?key=wrong");
    let cases = [
        (vec!["nowhere.mp4", nobody], 1, "nowhere.mp4"),
        (vec![text, nobody], 1, "text.mp4"),
        (vec![clip], 2, "RTMP_URL"),
        (vec![clip, "http://127.0.0.1/live/a"], 2, "rtmp"),
        (vec![clip, nobody], 3, "127.0.0.1:9"),
        (vec![clip, wrong_key.as_str()], 4, "key"),
    ];
    for (arguments, code, word) in cases {
        let (status, output) = publish(&folder, &arguments).finish().await;
        assert_eq!(status.code(), Some(code), "{arguments:?}: {output}");
        assert!(output.contains(word), "{arguments:?}: {output}");
    }
}

#[tokio::test]
async fn the_demo_shows_a_moving_picture() {
    let _turn = turn::take(Load::Light).await;
    let weir = Weir::with("", &["--demo"]).await;
    weir.process.line("/watch/live/demo").await;
    weir.until_live("live/demo", 2).await;
    let report = ffmpeg::probe(&weir.url("/live/demo.flv"), 3).await;
    report.track("h264").assert_monotonic(0.1);
    report.track("aac").assert_monotonic(0.1);
    let (status, log) = weir.stop().await;
    assert!(status.success(), "{log}");
}
