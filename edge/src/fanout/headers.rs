//! What a decoder must be told before the first frame: the metadata and the sequence headers of a
//! track set.

use bytes::{Bytes, BytesMut};
use media_core::amf0::{self, Value};
use media_core::flv::TagKind;
use media_core::relay::{Mark, Tag};

/// Header tags of one track set at most: one metadata tag and one a track, of which Enhanced RTMP can
/// number 256 a kind, but nobody sends more than a few.
const MAX_HEADER_TAGS: usize = 64;

/// The headers of one track set.
#[derive(Debug, Default)]
pub(crate) struct Headers {
    version: u32,
    /// The values of the script tag.
    metadata: Vec<Value>,
    metadata_body: Bytes,
    sequence: Vec<Tag>,
}

impl Headers {
    /// Whether a further header tag may be kept.
    pub(crate) fn has_room(tags: &[Tag]) -> bool {
        tags.len() < MAX_HEADER_TAGS
    }

    /// Counts the track sets of the stream; 0 before the first.
    pub(crate) fn version(&self) -> u32 {
        self.version
    }

    /// The metadata as it came.
    pub(crate) fn metadata_body(&self) -> &[u8] {
        &self.metadata_body
    }

    /// The sequence headers.
    pub(crate) fn sequence(&self) -> &[Tag] {
        &self.sequence
    }

    pub(crate) fn has_video(&self) -> bool {
        self.has(TagKind::Video, "videocodecid")
    }

    pub(crate) fn has_audio(&self) -> bool {
        self.has(TagKind::Audio, "audiocodecid")
    }

    /// MP3 has no sequence header; the metadata knows of it.
    fn has(&self, kind: TagKind, property: &str) -> bool {
        self.sequence.iter().any(|tag| tag.kind == kind)
            || self.metadata.iter().any(|value| value.get(property).is_some())
    }

    /// Whether these tags say what is known already.
    pub(crate) fn same(&self, tags: &[Tag]) -> bool {
        let (metadata, sequence): (Vec<&Tag>, Vec<&Tag>) = tags.iter().partition(|tag| tag.is_metadata);
        metadata.last().is_none_or(|tag| tag.body == self.metadata_body)
            && sequence.len() == self.sequence.len()
            && sequence.iter().zip(&self.sequence).all(|(a, b)| a.kind == b.kind && a.body == b.body)
    }

    /// The track set that these tags begin: all its headers.
    pub(crate) fn successor(&self, tags: &[Tag]) -> Self {
        let metadata_body = tags
            .iter()
            .rfind(|tag| tag.is_metadata)
            .map_or_else(|| self.metadata_body.clone(), |tag| tag.body.clone());
        Self {
            version: self.version.wrapping_add(1),
            // What can't be read is left out; players do without.
            metadata: amf0::decode(&metadata_body).unwrap_or_default(),
            metadata_body,
            sequence: tags.iter().filter(|tag| tag.is_sequence_header).cloned().collect(),
        }
    }

    /// The body of an onMetaData script tag that also says, as `mediaTimeMs` and `wallClockMs`, when a
    /// frame of a given timestamp came in, by which players measure latency.
    pub(crate) fn metadata_with_clock(&self, mark: Option<Mark>) -> Bytes {
        let mut name = Value::String("onMetaData".to_owned());
        let mut properties = Vec::new();
        for value in &self.metadata {
            match value {
                Value::String(_) => name = value.clone(),
                Value::EcmaArray(p) | Value::Object(p) => properties.clone_from(p),
                _ => {}
            }
        }
        properties.retain(|(key, _)| key != "mediaTimeMs" && key != "wallClockMs");
        if let Some(mark) = mark {
            properties.push(("mediaTimeMs".to_owned(), number(mark.media_time_ms)));
            properties.push(("wallClockMs".to_owned(), number(mark.wall_clock_ms)));
        }
        let mut body = BytesMut::new();
        amf0::encode_all(&mut body, &[name, Value::EcmaArray(properties)]);
        body.freeze()
    }
}

fn number(value: impl Into<i128>) -> Value {
    // Milliseconds of media and since 1970 lie far below 2⁵³.
    Value::Number(value.into() as f64)
}
