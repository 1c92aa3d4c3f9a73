//! What a client says of itself in `connect` (RTMP 1.0 §7.2.1.1; Enhanced RTMP v2, "Enhancing
//! NetConnection connect Command").

use crate::amf0::Value;

use super::command::Command;
use super::status::Status;

/// Video codings that pass through, by FourCC.
pub const VIDEO_FOUR_CCS: &[&str] = &["avc1", "hvc1", "av01", "vp08", "vp09"];
/// Audio codings that pass through, by FourCC.
pub const AUDIO_FOUR_CCS: &[&str] = &["mp4a", "Opus", ".mp3"];

/// Enhanced RTMP v2 `capsEx`: multitrack (2), ModEx (4), nanosecond timestamp offsets (8). Not
/// reconnect requests (1).
const CAPS_EX: u32 = 2 | 4 | 8;
/// Enhanced RTMP v2 `FourCcInfoMask`: can forward.
const CAN_FORWARD: u32 = 4;

/// How many FourCCs of a client are kept; there are about a dozen.
const MAX_FOUR_CCS: usize = 32;
/// The longest text that is kept of what a client says of itself: the longest real ones are URLs with
/// signed queries.
const MAX_TEXT_BYTES: usize = 8 << 10;

/// What a client says it can do, beyond RTMP 1.0.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Capabilities {
    /// `fourCcList`: codings it can take or send; `*` for any.
    pub four_ccs: Vec<String>,
    /// `videoFourCcInfoMap`: FourCC and mask.
    pub video: Vec<(String, u32)>,
    /// `audioFourCcInfoMap`: FourCC and mask.
    pub audio: Vec<(String, u32)>,
    /// `capsEx`, if sent.
    pub caps_ex: Option<u32>,
}

/// What a client says of itself in `connect`.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Connect {
    /// The app, without query, surrounding slashes and the instance name `_definst_`.
    pub app: String,
    /// Query string of the app, or else of `tcUrl`; without `?`.
    pub query: String,
    /// `tcUrl`, as sent.
    pub tc_url: String,
    /// Host of `tcUrl`: the virtual host that was asked for.
    pub vhost: String,
    /// `flashVer`: name and version of the client's RTMP stack.
    pub flash_ver: String,
    /// `swfUrl`.
    pub swf_url: String,
    /// `pageUrl`.
    pub page_url: String,
    /// `objectEncoding` 3: the client would speak AMF3.
    pub amf3: bool,
    /// Beyond RTMP 1.0.
    pub capabilities: Capabilities,
}

impl Connect {
    /// From the `connect` command.
    pub(super) fn parse(command: &Command) -> Self {
        let object = &command.object;
        let text = |key| clip(object.get(key).and_then(Value::as_str).unwrap_or_default());
        let tc_url = text("tcUrl");
        let app = text("app");
        let (path, query) = split_query(&app);
        let query = if query.is_empty() { split_query(&tc_url).1 } else { query };
        let path = path.trim_matches('/');
        let path = path.strip_suffix("/_definst_").unwrap_or(path);
        Self {
            app: path.to_owned(),
            query: query.to_owned(),
            vhost: host(&tc_url).to_owned(),
            flash_ver: text("flashVer"),
            swf_url: text("swfUrl"),
            page_url: text("pageUrl"),
            amf3: object.get("objectEncoding").and_then(Value::as_f64) == Some(3.0),
            capabilities: Capabilities::parse(object),
            tc_url,
        }
    }

    /// The answer that accepts it. Enhanced RTMP's properties are told to those that told theirs.
    pub(super) fn accept(&self, transaction: f64) -> Command {
        let mut properties = vec![
            ("fmsVer".to_owned(), Value::from("FMS/3,5,7,7009")),
            ("capabilities".to_owned(), 31.0.into()),
        ];
        properties.extend(self.capabilities.answer());
        let mut info = Status::ok("NetConnection.Connect.Success", "Connection succeeded.").info();
        if let Value::Object(pairs) = &mut info {
            pairs.push(("objectEncoding".to_owned(), 0.0.into()));
        }
        Command {
            name: "_result".to_owned(),
            transaction,
            object: Value::Object(properties),
            arguments: vec![info],
        }
    }
}

impl Capabilities {
    /// Everything that passes through a server; what a client of ours can send and take.
    pub fn all() -> Self {
        let map = |ccs: &[&str]| ccs.iter().map(|cc| ((*cc).to_owned(), CAN_FORWARD)).collect::<Vec<_>>();
        Self {
            four_ccs: VIDEO_FOUR_CCS.iter().chain(AUDIO_FOUR_CCS).map(|cc| (*cc).to_owned()).collect(),
            video: map(VIDEO_FOUR_CCS),
            audio: map(AUDIO_FOUR_CCS),
            caps_ex: Some(CAPS_EX),
        }
    }

    fn parse(object: &Value) -> Self {
        let map = |key| {
            let pairs = object.get(key).map(Value::properties).unwrap_or_default();
            pairs.iter().take(MAX_FOUR_CCS).filter_map(|(cc, v)| Some((clip(cc), mask(v)?))).collect()
        };
        let list = object.get("fourCcList").map(Value::elements).unwrap_or_default();
        Self {
            four_ccs: list.iter().take(MAX_FOUR_CCS).filter_map(|v| v.as_str().map(clip)).collect(),
            video: map("videoFourCcInfoMap"),
            audio: map("audioFourCcInfoMap"),
            caps_ex: object.get("capsEx").and_then(mask),
        }
    }

    /// The properties to send, of which empty ones are left out.
    pub(super) fn properties(&self) -> Vec<(String, Value)> {
        let mut properties = Vec::new();
        if !self.four_ccs.is_empty() {
            let list = self.four_ccs.iter().map(|cc| Value::from(cc.as_str())).collect();
            properties.push(("fourCcList".to_owned(), Value::StrictArray(list)));
        }
        for (key, map) in [("videoFourCcInfoMap", &self.video), ("audioFourCcInfoMap", &self.audio)] {
            if !map.is_empty() {
                let pairs = map.iter().map(|(cc, mask)| (cc.clone(), Value::from(*mask)));
                properties.push((key.to_owned(), Value::object(pairs)));
            }
        }
        if let Some(caps_ex) = self.caps_ex {
            properties.push(("capsEx".to_owned(), caps_ex.into()));
        }
        properties
    }

    fn answer(&self) -> Vec<(String, Value)> {
        let mut all = Self::all();
        if self.four_ccs.is_empty() {
            all.four_ccs.clear();
        }
        if self.video.is_empty() {
            all.video.clear();
        }
        if self.audio.is_empty() {
            all.audio.clear();
        }
        if self.caps_ex.is_none() {
            all.caps_ex = None;
        }
        all.properties()
    }
}

/// A bit mask in a double.
fn mask(value: &Value) -> Option<u32> {
    let n = value.as_f64()?;
    // A saturating conversion; nothing is lost for what masks are.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, reason = "float casts saturate")]
    let mask = n as u32;
    Some(mask)
}

fn clip(text: &str) -> String {
    text.get(..text.floor_char_boundary(MAX_TEXT_BYTES)).unwrap_or_default().to_owned()
}

/// Splits `a?b` into `a` and `b`.
pub(super) fn split_query(text: &str) -> (&str, &str) {
    text.split_once('?').unwrap_or((text, ""))
}

/// The host of a URL, without port.
fn host(url: &str) -> &str {
    let after = url.split_once("://").map_or("", |(_, rest)| rest);
    let authority = after.split(['/', '?']).next().unwrap_or_default();
    match authority.strip_prefix('[') {
        Some(v6) => v6.split(']').next().unwrap_or_default(),
        None => authority.split(':').next().unwrap_or_default(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn connect(pairs: Vec<(&str, Value)>) -> Connect {
        Connect::parse(&Command {
            name: "connect".into(),
            transaction: 1.0,
            object: Value::object(pairs),
            arguments: vec![],
        })
    }

    #[test]
    fn app_query_and_host_are_taken_apart() {
        let c = connect(vec![
            ("app", "live/?token=1&x=2".into()),
            ("tcUrl", "rtmp://cdn.example:1935/live?token=1&x=2".into()),
            ("flashVer", "FMLE/3.0".into()),
        ]);
        assert_eq!((c.app.as_str(), c.query.as_str()), ("live", "token=1&x=2"));
        assert_eq!(c.vhost, "cdn.example");
        assert_eq!(c.flash_ver, "FMLE/3.0");
        let c = connect(vec![("app", "/live/_definst_".into()), ("tcUrl", "rtmp://[::1]:1/live?a=b".into())]);
        assert_eq!((c.app.as_str(), c.query.as_str(), c.vhost.as_str()), ("live", "a=b", "::1"));
        assert_eq!(connect(vec![]), Connect::default());
    }

    #[test]
    fn enhanced_capabilities_are_read_and_answered_in_kind() {
        let plain = connect(vec![("app", "live".into())]).accept(1.0);
        assert_eq!(plain.object.properties().len(), 2, "nothing that was not asked for");

        let theirs = connect(vec![
            ("app", "live".into()),
            ("fourCcList", Value::StrictArray(vec!["hvc1".into(), Value::Null, "av01".into()])),
            ("videoFourCcInfoMap", Value::object([("*", Value::from(7u32))])),
            ("capsEx", Value::Number(f64::NAN)),
        ]);
        assert_eq!(theirs.capabilities.four_ccs, ["hvc1", "av01"]);
        assert_eq!(theirs.capabilities.video, [("*".to_owned(), 7)]);
        assert_eq!(theirs.capabilities.caps_ex, Some(0));
        let answer = Capabilities::parse(&theirs.accept(1.0).object);
        assert_eq!(answer, Capabilities { audio: vec![], ..Capabilities::all() });
    }

    #[test]
    fn long_texts_and_lists_are_cut() {
        let many = Value::StrictArray(vec!["hvc1".into(); 1000]);
        let c = connect(vec![("app", "é".repeat(50_000).into()), ("fourCcList", many)]);
        assert!(c.app.len() <= MAX_TEXT_BYTES);
        assert_eq!(c.capabilities.four_ccs.len(), MAX_FOUR_CCS);
    }
}
