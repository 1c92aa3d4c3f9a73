//! What is known of a stream, as the API shows it.

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Where a stream is in its life.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum StreamState {
    /// A publisher is sending.
    Live,
    /// The publisher dropped and may return within the grace period; viewers stay.
    Interrupted,
}

/// A live stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct StreamInfo {
    /// First part of its path.
    pub app: String,
    /// Second part of its path.
    pub name: String,
    /// Where it is in its life.
    pub state: StreamState,
    /// The publish lease's epoch; grows with every publish.
    pub epoch: u64,
    /// When its first publisher began, in milliseconds since 1970 (UTC).
    pub started_at_ms: u64,
    /// Who publishes, or published last.
    pub publisher: PublisherInfo,
    /// Its tracks; empty until the first sequence header.
    pub tracks: Vec<TrackInfo>,
    /// Bits per second that came in over the last seconds.
    pub bitrate_bps: u64,
    /// Video frames per second that came in over the last seconds.
    pub frame_rate: f64,
    /// Time between the last two keyframes in milliseconds, once two were seen.
    pub keyframe_interval_ms: Option<u64>,
    /// Bytes of media that came in since `started_at_ms`.
    pub bytes_in: u64,
    /// Who watches.
    pub viewers: Viewers,
    /// The LL-HLS packager.
    pub hls: HlsState,
    /// Ties the stream's timestamps to the wall clock: measures latency.
    pub clock: Option<MediaClock>,
}

/// Who publishes a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct PublisherInfo {
    /// Protocol it came by: `rtmp`, `srt`.
    pub protocol: String,
    /// Its address; the API tells it to operators only.
    pub remote_addr: Option<String>,
    /// Name and version of the encoder, as it says.
    pub encoder: Option<String>,
    /// What is known of its line, where the protocol tells: of SRT.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub line: Option<LineInfo>,
}

/// What a publisher's line does. Counts are of packets since it began.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct LineInfo {
    /// Round-trip time in microseconds.
    pub rtt_us: u64,
    /// How long packets wait for those that come late, in milliseconds, as both sides agreed.
    pub latency_ms: u64,
    /// Media that was received and waits, in milliseconds.
    pub buffer_ms: u64,
    /// Received.
    pub received_packets: u64,
    /// Found missing; most of them come when they are sent again.
    pub lost_packets: u64,
    /// Received that were sent again.
    pub retransmitted_packets: u64,
    /// Missing for good: they did not come in time.
    pub dropped_packets: u64,
    /// Not decrypted.
    pub undecrypted_packets: u64,
    /// Gaps in the MPEG-TS that came.
    pub continuity_errors: u64,
}

/// A track of a stream.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct TrackInfo {
    /// `v0`, `a0`, `a1`, …
    pub id: String,
    /// `H.264`, `AAC`, …
    pub codec: String,
    /// RFC 6381 `codecs` string.
    pub rfc6381: String,
    /// Pixels, of video.
    pub width: Option<u32>,
    /// Pixels, of video.
    pub height: Option<u32>,
    /// Hz, of audio.
    pub sample_rate: Option<u32>,
    /// Of audio.
    pub channels: Option<u8>,
}

/// Viewers by protocol.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Viewers {
    /// HTTP-FLV.
    pub flv: u64,
    /// WebSocket-FLV.
    pub ws_flv: u64,
    /// RTMP play.
    pub rtmp: u64,
    /// LL-HLS: clients that asked for a playlist in the last seconds.
    pub hls: u64,
    /// MPEG-TS over HTTP.
    pub ts: u64,
    /// SRT play.
    pub srt: u64,
}

impl Viewers {
    /// All of them.
    pub fn total(&self) -> u64 {
        self.flv + self.ws_flv + self.rtmp + self.hls + self.ts + self.srt
    }
}

/// The LL-HLS packager of a stream.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct HlsState {
    /// A playlist can be had.
    pub ready: bool,
    /// Why not, or what a viewer will notice; for people.
    pub problem: Option<String>,
}

/// A moment at which a frame came in, in both clocks.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct MediaClock {
    /// The frame's timestamp in milliseconds, as FLV and RTMP carry it.
    pub media_ms: i64,
    /// The wall clock then, in milliseconds since 1970 (UTC).
    pub wall_ms: u64,
}

/// Totals over all streams.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, ToSchema)]
pub struct ClusterStats {
    /// Streams that are live or in grace.
    pub streams: u64,
    /// Publishers connected.
    pub publishers: u64,
    /// Viewers by protocol.
    pub viewers: Viewers,
    /// Bits per second coming in.
    pub bitrate_in_bps: u64,
    /// Bits per second going out.
    pub bitrate_out_bps: u64,
    /// Seconds since the process started.
    pub uptime_s: u64,
    /// Resident memory in bytes.
    pub memory_bytes: u64,
    /// CPU seconds used, user and system.
    pub cpu_seconds: f64,
}
