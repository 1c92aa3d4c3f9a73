//! A clip that is encoded once and then sent by hand as often as wanted, at next to no cost.

use tokio::sync::OnceCell;

use super::ffmpeg::{self, Media, Version};
use super::flv::{self, Tag};

/// Pictures a second.
pub const FRAME_RATE: u32 = 25;
/// Milliseconds from one picture to the next.
pub const FRAME_MS: u32 = 1000 / FRAME_RATE;
/// Seconds until it begins again.
pub const SECONDS: u32 = 4;

/// Two configurations and four seconds of media, a keyframe a second; small, so that what is kept of it
/// does not matter beside what is measured.
#[derive(Debug, Clone)]
pub struct Clip {
    /// Decoder configurations: picture, sound.
    pub configurations: Vec<Tag>,
    /// Media, ordered by time from 0 on, without configurations.
    pub frames: Vec<Tag>,
}

impl Clip {
    /// The clip at 160x90.
    pub async fn small() -> Self {
        static CLIP: OnceCell<Clip> = OnceCell::const_new();
        CLIP.get_or_init(|| encode("160x90", &[])).await.clone()
    }

    /// The same at 320x180.
    pub async fn large() -> Self {
        static CLIP: OnceCell<Clip> = OnceCell::const_new();
        CLIP.get_or_init(|| encode("320x180", &[])).await.clone()
    }

    /// The clip at 160x90 with sound that says of itself to be HE-AAC of 48 kHz: AAC-LC of 24 kHz, to which a
    /// decoder adds the upper half (SBR). The frames bring nothing for it, as they may.
    pub async fn he_aac() -> Self {
        let mut clip = encode("160x90", &["-ar", "24000"]).await;
        let sound = clip.configurations.iter_mut().find(|tag| tag.kind == flv::AUDIO).unwrap();
        sound.body.truncate(2);
        // AudioSpecificConfig (ISO/IEC 14496-3 §1.6.2.1): SBR, 24 kHz, one channel, 48 kHz, LC, no flags.
        sound.body.extend([0b0010_1011, 0b0000_1001, 0b1000_1000, 0]);
        clip
    }

    /// The clip over and over, with timestamps that go on.
    pub fn forever(&self) -> impl Iterator<Item = Tag> + Send + use<> {
        let frames = self.frames.clone();
        (0u32..).flat_map(move |round| {
            let start = round.wrapping_mul(SECONDS * 1000);
            let again = frames.clone();
            again.into_iter().map(move |tag| Tag { timestamp: tag.timestamp.wrapping_add(start), ..tag })
        })
    }
}

async fn encode(size: &str, sound: &[&str]) -> Clip {
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("clip.flv");
    let video = &[
        "-c:v", "libx264", "-preset", "veryfast", "-bf", "0", "-g", "25", "-b:v", "40k", "-pix_fmt",
        "yuv420p",
    ];
    let audio = [&["-c:a", "aac", "-b:a", "24k"], sound].concat();
    let media = Media { video: Some(video), audio: Some(&audio), size };
    ffmpeg::encode(Version::Five, media, SECONDS, &file).await;
    let all = flv::tags(&std::fs::read(&file).unwrap());
    let (configurations, media): (Vec<Tag>, Vec<Tag>) =
        all.into_iter().filter(|tag| tag.kind != flv::SCRIPT).partition(Tag::is_configuration);
    // The last sound may reach a little into the next round, and libx264 ends its stream with a tag of its own.
    let end = SECONDS * 1000;
    let frames: Vec<Tag> =
        media.into_iter().filter(|tag| tag.timestamp < end && tag.body.len() > 5).collect();
    assert_eq!(configurations.len(), 2);
    assert_eq!(frames.iter().filter(|tag| tag.is_keyframe()).count(), usize::try_from(SECONDS).unwrap());
    Clip { configurations, frames }
}
