//! What no type can say: ranges, and keys that contradict each other.

use std::net::SocketAddr;

use media_core::hls;
use origin::auth::Mode;

use super::Config;
use crate::log;

/// A day: longer than any restart should wait, and far from where times overflow.
const MAX_DRAIN_S: u64 = 86_400;

/// Keys that are wrong, and what is wrong with them.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<(String, String)>);

impl Findings {
    fn say(&mut self, key: &str, what: impl Into<String>) {
        self.0.push((key.to_owned(), what.into()));
    }
}

/// Looks at a configuration whose types are right.
pub(super) fn check(config: &Config) -> Findings {
    let mut findings = Findings::default();
    process(config, &mut findings);
    listeners(config, &mut findings);
    at_least_one(config, &mut findings);
    auth(&config.origin.auth, &mut findings);
    packaging(config, &mut findings);
    if let Some(url) = &config.control.publish_url
        && !url.starts_with("rtmp://")
    {
        findings.say("control.publish_url", "expected a URL that begins with rtmp://");
    }
    findings
}

fn process(config: &Config, findings: &mut Findings) {
    if let Err(error) = log::filter(&config.log.level) {
        findings.say("log.level", error.to_string());
    }
    if config.drain_s > MAX_DRAIN_S {
        findings.say("drain_s", format!("{} is more than a day ({MAX_DRAIN_S})", config.drain_s));
    } else if config.edge.http.drain_ms > config.drain_s * 1_000 {
        let what = format!("{} ms is more than `drain_s` ({} s)", config.edge.http.drain_ms, config.drain_s);
        findings.say("edge.http.drain_ms", what);
    }
}

/// Two listeners cannot have one port.
fn listeners(config: &Config, findings: &mut Findings) {
    let all = [
        ("origin.rtmp.listen", config.origin.rtmp.listen),
        ("edge.http.listen", config.edge.http.listen),
        ("admin.listen", config.admin.listen),
    ];
    for (i, (key, at)) in all.iter().enumerate() {
        if let Some((other, _)) = all.iter().take(i).find(|(_, other)| collide(*at, *other)) {
            findings.say(key, format!("{at} is taken by `{other}`"));
        }
    }
}

fn collide(a: SocketAddr, b: SocketAddr) -> bool {
    let everywhere = a.ip().is_unspecified() || b.ip().is_unspecified();
    a.port() != 0 && a.port() == b.port() && (everywhere || a.ip() == b.ip())
}

/// A limit of nothing would refuse everybody, and a time of nothing would cut everybody off.
fn at_least_one(config: &Config, findings: &mut Findings) {
    let (rtmp, streams, edge) = (&config.origin.rtmp, &config.origin.streams, &config.edge);
    let all = [
        ("origin.rtmp.max_connections", rtmp.max_connections as u64),
        ("origin.rtmp.max_connections_per_address", rtmp.max_connections_per_address as u64),
        ("origin.rtmp.handshake_timeout_ms", rtmp.handshake_timeout_ms),
        ("origin.rtmp.request_timeout_ms", rtmp.request_timeout_ms),
        ("origin.rtmp.first_frame_timeout_ms", rtmp.first_frame_timeout_ms),
        ("origin.rtmp.idle_timeout_ms", rtmp.idle_timeout_ms),
        ("origin.streams.max_streams", streams.max_streams as u64),
        ("origin.streams.cache_bytes", streams.cache_bytes as u64),
        ("origin.streams.cache_span_ms", streams.cache_span_ms.into()),
        ("origin.hls.max_bytes", config.origin.hls.max_bytes as u64),
        ("edge.http.max_connections", edge.http.max_connections as u64),
        ("edge.http.max_connections_per_address", edge.http.max_connections_per_address as u64),
        ("edge.http.header_timeout_ms", edge.http.header_timeout_ms),
        ("edge.http.write_stall_ms", edge.http.write_stall_ms),
        ("edge.feed.connect_timeout_ms", edge.feed.connect_timeout_ms),
        ("edge.feed.max_feeds", edge.feed.max_feeds as u64),
        ("edge.fanout.ring_bytes", edge.fanout.ring_bytes as u64),
        ("edge.fanout.ring_ms", edge.fanout.ring_ms),
        ("edge.fanout.max_viewers_per_stream", edge.fanout.max_viewers_per_stream as u64),
        ("edge.hls.max_object_bytes", edge.hls.max_object_bytes as u64),
        ("edge.hls.request_timeout_ms", edge.hls.request_timeout_ms),
    ];
    for (key, _) in all.iter().filter(|(_, value)| *value == 0) {
        findings.say(key, "must be at least 1");
    }
}

fn auth(auth: &origin::auth::Config, findings: &mut Findings) {
    if auth.mode == Mode::Keys && auth.keys.is_empty() {
        findings.say(
            "origin.auth.keys",
            "there are none, so nobody could publish; add one, or set mode = \"open\"",
        );
    }
    for (i, rule) in auth.keys.iter().enumerate() {
        if rule.key.is_empty() {
            findings.say(&format!("origin.auth.keys.{i}.key"), "an empty key opens nothing");
        }
        if rule.streams.is_empty() {
            findings.say(&format!("origin.auth.keys.{i}.streams"), "an empty pattern matches no stream");
        }
    }
}

fn packaging(config: &Config, findings: &mut Findings) {
    let said = &config.origin.hls;
    let (part_ms, segment_ms, window_ms) = (said.part_ms, said.segment_ms, said.window_ms);
    let checked = hls::Config { part_ms, segment_ms, window_ms, max_bytes: said.max_bytes }.check();
    let Err(error) = checked else { return };
    let key = match error {
        hls::ConfigError::Part(_) => "origin.hls.part_ms",
        hls::ConfigError::Segment(_) => "origin.hls.segment_ms",
        hls::ConfigError::Window { .. } => "origin.hls.window_ms",
        _ => "origin.hls",
    };
    findings.say(key, error.to_string());
}

#[cfg(test)]
mod tests {
    use origin::auth::Key;

    use super::*;

    fn wrong(change: impl Fn(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config).0.into_iter().map(|(key, _)| key).collect()
    }

    #[test]
    fn the_defaults_are_right() {
        assert!(wrong(|_| {}).is_empty());
    }

    #[test]
    fn two_listeners_cannot_have_one_port() {
        let listen = |text: &str| text.parse::<SocketAddr>().unwrap();
        assert_eq!(wrong(|c| c.edge.http.listen = listen("0.0.0.0:1935")), ["edge.http.listen"]);
        assert_eq!(wrong(|c| c.admin.listen = listen("127.0.0.1:8080")), ["admin.listen"]);
        assert!(
            wrong(|c| {
                c.edge.http.listen = listen("127.0.0.1:0");
                c.admin.listen = listen("127.0.0.1:0");
            })
            .is_empty()
        );
        assert!(
            wrong(|c| {
                c.edge.http.listen = listen("127.0.0.1:80");
                c.admin.listen = listen("127.0.0.2:80");
            })
            .is_empty()
        );
    }

    #[test]
    fn values_out_of_range_are_named() {
        assert_eq!(wrong(|c| c.origin.hls.part_ms = 20), ["origin.hls.part_ms"]);
        assert_eq!(wrong(|c| c.origin.hls.part_ms = 900), ["origin.hls.segment_ms"]);
        assert_eq!(wrong(|c| c.origin.hls.window_ms = 2_000), ["origin.hls.window_ms"]);
        assert_eq!(wrong(|c| c.edge.http.max_connections = 0), ["edge.http.max_connections"]);
        assert_eq!(wrong(|c| c.drain_s = u64::MAX), ["drain_s"]);
        assert_eq!(wrong(|c| c.drain_s = 5), ["edge.http.drain_ms"]);
        assert_eq!(wrong(|c| c.log.level = "loud".into()), ["log.level"]);
        assert_eq!(wrong(|c| c.control.publish_url = Some("http://h".into())), ["control.publish_url"]);
    }

    #[test]
    fn keys_that_open_nothing_are_named() {
        assert_eq!(wrong(|c| c.origin.auth.mode = Mode::Keys), ["origin.auth.keys"]);
        let bad = Key { streams: "live/*".into(), key: String::new() };
        assert_eq!(wrong(|c| c.origin.auth.keys = vec![bad.clone()]), ["origin.auth.keys.0.key"]);
    }
}
