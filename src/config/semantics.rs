//! What no type can say: ranges, and keys that contradict each other.

use std::net::SocketAddr;

use control_api::RESERVED_APPS;
use control_api::grant::{self, Play};
use media_core::hls;
use media_core::hub::StreamKey;
use origin::auth::Mode;
use srt::PassphraseConfig;

use super::Config;
use crate::log;
use crate::roles::{PLAYERS_BEHIND_SEGMENTS, Role};

/// A day: longer than any restart should wait, and far from where times overflow.
const MAX_DRAIN_S: u64 = 86_400;

/// The origin lets an HLS request wait this many target durations (RFC 8216bis §6.2.5.2).
const HLS_WAIT_TARGETS: u64 = 3;

/// Less holds not even one keyframe of an ordinary stream: at 8 Mbit/s a GOP of a second takes as much.
const LEAST_BYTES: usize = 1 << 20;

/// Less does not hold the window of one stream, and viewers of HLS cost the origin what the edge is there to spare it.
const LEAST_CACHE_BYTES: usize = 16 << 20;

/// Flushes wait up to 350 ms, and what waits is no lag.
const LEAST_LAG_MS: u64 = 1_000;

/// A disk is written in blocks of 16 MiB, of which some are always being emptied.
const LEAST_DISK_BYTES: usize = 128 << 20;

/// What is wrong with a key, or between several: those that it could be mended at.
#[derive(Debug)]
pub(super) struct Finding {
    pub(super) keys: Vec<String>,
    pub(super) what: String,
}

/// All that is wrong.
#[derive(Debug, Default)]
pub(super) struct Findings(pub(super) Vec<Finding>);

impl Findings {
    fn say(&mut self, key: &str, what: impl Into<String>) {
        self.between(&[key], what);
    }

    fn between(&mut self, keys: &[&str], what: impl Into<String>) {
        self.0.push(Finding { keys: keys.iter().map(|key| (*key).to_owned()).collect(), what: what.into() });
    }
}

/// Looks at a configuration whose types are right.
/// For a process of that role; without one, what is wrong in any.
pub(super) fn check(config: &Config, role: Option<Role>) -> Findings {
    let mut findings = Findings::default();
    process(config, &mut findings);
    listeners(config, role.unwrap_or(Role::All), &mut findings);
    apart(config, role, &mut findings);
    tls(config, &mut findings);
    cluster(config, role, &mut findings);
    at_least_one(config, &mut findings);
    room(config, &mut findings);
    // Those of a cluster have keys of the control plane's, which has its own.
    let alone = config.cluster.control.is_empty() && role != Some(Role::Control);
    auth(&config.origin.auth, &config.grants, alone, &mut findings);
    grants(&config.grants, alone, &mut findings);
    guard(&config.edge.guard, &mut findings);
    passphrases("origin.srt.passphrases", &config.origin.srt.passphrases, &mut findings);
    passphrases("edge.srt.passphrases", &config.edge.srt.passphrases, &mut findings);
    for (key, what) in config.traces.mistakes() {
        findings.say(key, what);
    }
    for (key, what) in config.turn.mistakes() {
        findings.say(&format!("turn.{key}"), what);
    }
    if config.turn.tls_listen.is_some() && config.edge.tls.address().is_none() {
        findings
            .say("turn.tls_listen", "needs a certificate: set `edge.tls.listen` or `edge.tls.certificate`");
    }
    if config.edge.access_log.path.is_empty() {
        findings.say("edge.access_log.path", "expected \"off\", \"stdout\" or a file");
    }
    for (i, rule) in config.edge.fanout.streams.iter().enumerate() {
        patterned(&format!("edge.fanout.streams.{i}.streams"), &rule.streams, &mut findings);
    }
    // What follows from the lengths of segments means nothing while they are wrong.
    if packaging(config, &mut findings) {
        hls_times(config, &mut findings);
    }
    for wrong in config.control.hooks.check() {
        findings.say(&format!("control.hooks.{}", wrong.key), wrong.what);
    }
    schedule(&config.control.schedule, &mut findings);
    if let Some(url) = &config.control.publish_url
        && url
            .strip_prefix("rtmp://")
            .is_none_or(|rest| rest.is_empty() || rest.contains(char::is_whitespace))
    {
        findings.say("control.publish_url", "expected a URL such as rtmp://live.example.com");
    }
    findings
}

/// Shares outside 0 to 1 would send nobody anywhere, or everybody to one node.
fn schedule(schedule: &control::schedule::Config, findings: &mut Findings) {
    let shares = [("idle", schedule.idle), ("full", schedule.full), ("unreported", schedule.unreported)];
    for (key, share) in shares {
        if !(0.0..=1.0).contains(&share) {
            findings.say(&format!("control.schedule.{key}"), "must be from 0 to 1");
        }
    }
    if !(schedule.epsilon > 0.0 && schedule.epsilon.is_finite()) {
        findings.say("control.schedule.epsilon", "must be above 0, such as 0.25");
    }
    if schedule.replicas == 0 {
        findings.say("control.schedule.replicas", "must be at least 1");
    }
}

fn process(config: &Config, findings: &mut Findings) {
    if config.data.as_os_str().is_empty() {
        findings.say("data", "a folder is needed");
    }
    if let Err(error) = log::filter(&config.log.level) {
        findings.say("log.level", error.to_string());
    }
    if config.drain_s > MAX_DRAIN_S {
        findings.say("drain_s", format!("{} is more than a day ({MAX_DRAIN_S})", config.drain_s));
    }
    if config.unready_s > MAX_DRAIN_S {
        findings.say("unready_s", format!("{} is more than a day ({MAX_DRAIN_S})", config.unready_s));
    }
}

/// Two listeners cannot have one port.
fn listeners(config: &Config, role: Role, findings: &mut Findings) {
    let beside = match role {
        Role::Control => ("control.cluster.listen", config.control.cluster.listen),
        Role::All | Role::Origin | Role::Edge => (role.rtmp_key(), role.rtmp(config)),
    };
    let mut all = vec![beside, (role.http_key(), role.http(config)), ("admin.listen", config.admin.listen)];
    // SRT has a port of UDP, which HTTP/3 may have, too.
    let udp = role.https(config).filter(|_| config.edge.tls.http3);
    if let (Some(srt), Some(quic)) = (role.srt(config), udp)
        && collide(srt, quic)
    {
        findings.say(role.srt_key(), format!("{srt} is taken by `edge.tls.listen`"));
    }
    all.extend(role.https(config).map(|at| ("edge.tls.listen", at)));
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

/// What origins and edges in processes of their own need to find each other, and to keep others out.
fn apart(config: &Config, role: Option<Role>, findings: &mut Findings) {
    let (http, upstream) = (&config.origin.http, &config.edge.upstream);
    let secrets = [
        ("origin.http.key", &http.key),
        ("edge.upstream.key", &upstream.key),
        ("edge.http.relay_key", &config.edge.http.relay_key),
    ];
    for (key, secret) in secrets {
        if secret.as_ref().is_some_and(|secret| !is_token(secret.reveal())) {
            findings.say(key, "must be a word of printable ASCII characters, as it goes into an HTTP header");
        }
    }
    if matches!(role, None | Some(Role::Origin)) && http.key.is_none() && !http.listen.ip().is_loopback() {
        findings.between(
            &["origin.http.listen", "origin.http.key"],
            format!(
                "whoever reaches {} could pull every stream; set `origin.http.key` (and the same as \
                 `edge.upstream.key` at the edges), or listen on 127.0.0.1",
                http.listen
            ),
        );
    }
    for (i, url) in upstream.origins.iter().enumerate() {
        if let Err(error) = edge::Origins::check(url) {
            findings.say(&format!("edge.upstream.origins.{i}"), error.to_string());
        }
    }
    if role == Some(Role::Edge) && upstream.origins.is_empty() && config.cluster.control.is_empty() {
        findings.say(
            "edge.upstream.origins",
            "an edge needs an origin to pull from, such as origins = [\"http://10.0.0.1:8081\"] (or `--origin`)",
        );
    }
}

/// What nodes and the control plane need to find each other, and to keep others out.
fn cluster(config: &Config, role: Option<Role>, findings: &mut Findings) {
    let (node, control) = (&config.cluster, &config.control.cluster);
    for (key, token) in
        [("cluster.join_token", &node.join_token), ("control.cluster.join_token", &control.join_token)]
    {
        if token.as_ref().is_some_and(|token| !is_token(token.reveal())) {
            findings.say(key, "must be a word of printable ASCII characters, as it goes into a header");
        }
    }
    if matches!(role, None | Some(Role::Control))
        && control.join_token.is_none()
        && !control.listen.ip().is_loopback()
    {
        findings.between(
            &["control.cluster.listen", "control.cluster.join_token"],
            format!(
                "whoever reaches {} could join the cluster; set `control.cluster.join_token` (and the same as \
                 `cluster.join_token` at the nodes), or listen on 127.0.0.1",
                control.listen
            ),
        );
    }
    for (i, url) in node.control.iter().enumerate() {
        let good = url
            .parse::<http::Uri>()
            .is_ok_and(|uri| matches!(uri.scheme_str(), Some("http" | "https")) && uri.host().is_some());
        if !good {
            findings.say(&format!("cluster.control.{i}"), "expected a URL such as http://10.0.0.5:8090");
        }
    }
    if !(node.weight > 0.0 && node.weight <= control::schedule::MAX_WEIGHT) {
        findings
            .say("cluster.weight", format!("must be above 0 and at most {}", control::schedule::MAX_WEIGHT));
    }
    let all = [
        ("control.cluster.heartbeat_ms", control.heartbeat_ms),
        ("control.cluster.silence_ms", control.silence_ms),
        ("control.grant_ttl_s", config.control.grant_ttl_s),
        ("control.max_grant_s", config.control.max_grant_s),
    ];
    for (key, _) in all.iter().filter(|(_, value)| *value == 0) {
        findings.say(key, "must be at least 1");
    }
    if control.silence_ms < control.heartbeat_ms.saturating_mul(2) {
        findings.between(
            &["control.cluster.silence_ms", "control.cluster.heartbeat_ms"],
            "a node that misses one heartbeat would be silent: at least two of heartbeat_ms are needed",
        );
    }
}

/// What can stand in a header after `Bearer`.
fn is_token(secret: &str) -> bool {
    !secret.is_empty() && secret.bytes().all(|byte| byte.is_ascii_graphic())
}

/// A certificate is of no use without its key, nor a key without its certificate.
fn tls(config: &Config, findings: &mut Findings) {
    let (edge, origin) = (&config.edge.tls, &config.origin.http);
    let pairs = [
        (["edge.tls.certificate", "edge.tls.key"], &edge.certificate, &edge.key),
        (
            ["origin.http.certificate", "origin.http.certificate_key"],
            &origin.certificate,
            &origin.certificate_key,
        ),
        (
            ["control.cluster.certificate", "control.cluster.certificate_key"],
            &config.control.cluster.certificate,
            &config.control.cluster.certificate_key,
        ),
    ];
    for (keys, certificate, key) in pairs {
        let [certificate_name, key_name] = keys;
        match (certificate, key) {
            (Some(_), None) => {
                findings.between(&keys, format!("needs `{key_name}`, the file with its private key"));
            }
            (None, Some(_)) => findings.between(
                &keys,
                format!("needs `{certificate_name}`, the file with the certificate it is for"),
            ),
            _ => {}
        }
    }
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
        ("origin.srt.max_connections", config.origin.srt.max_connections as u64),
        ("origin.srt.max_connections_per_address", config.origin.srt.max_connections_per_address as u64),
        ("origin.srt.peer_idle_ms", config.origin.srt.peer_idle_ms),
        ("origin.srt.first_frame_timeout_ms", config.origin.srt.first_frame_timeout_ms),
        ("origin.srt.idle_timeout_ms", config.origin.srt.idle_timeout_ms),
        ("origin.http.max_connections", config.origin.http.max_connections as u64),
        ("edge.rtmp.max_connections", edge.rtmp.max_connections as u64),
        ("edge.rtmp.max_connections_per_address", edge.rtmp.max_connections_per_address as u64),
        ("edge.srt.max_connections", edge.srt.max_connections as u64),
        ("edge.srt.max_connections_per_address", edge.srt.max_connections_per_address as u64),
        ("edge.srt.peer_idle_ms", edge.srt.peer_idle_ms),
        ("edge.rtmp.handshake_timeout_ms", edge.rtmp.handshake_timeout_ms),
        ("edge.upstream.connect_timeout_ms", edge.upstream.connect_timeout_ms),
        ("edge.upstream.first_byte_timeout_ms", edge.upstream.first_byte_timeout_ms),
        ("edge.upstream.stall_timeout_ms", edge.upstream.stall_timeout_ms),
        ("origin.streams.max_streams", streams.max_streams as u64),
        ("origin.streams.cache_span_ms", streams.cache_span_ms.into()),
        ("edge.http.max_connections", edge.http.max_connections as u64),
        ("edge.http.max_connections_per_address", edge.http.max_connections_per_address as u64),
        ("edge.http.header_timeout_ms", edge.http.header_timeout_ms),
        ("edge.http.body_timeout_ms", edge.http.body_timeout_ms),
        ("edge.http.write_stall_ms", edge.http.write_stall_ms),
        ("edge.guard.max_viewers", edge.guard.max_viewers),
        ("edge.tls.handshake_timeout_ms", edge.tls.handshake_timeout_ms),
        ("edge.feed.connect_timeout_ms", edge.feed.connect_timeout_ms),
        ("edge.feed.max_feeds", edge.feed.max_feeds as u64),
        ("edge.fanout.ring_ms", edge.fanout.ring_ms),
        ("edge.fanout.max_viewers_per_stream", edge.fanout.max_viewers_per_stream as u64),
        ("edge.hls.request_timeout_ms", edge.hls.request_timeout_ms),
    ];
    for (key, _) in all.iter().filter(|(_, value)| *value == 0) {
        findings.say(key, "must be at least 1");
    }
}

/// Buffers that hold no GOP give viewers nothing to begin with.
fn room(config: &Config, findings: &mut Findings) {
    let all = [
        ("origin.streams.cache_bytes", config.origin.streams.cache_bytes),
        ("origin.hls.max_bytes", config.origin.hls.max_bytes),
        ("edge.fanout.ring_bytes", config.edge.fanout.ring_bytes),
        ("edge.hls.max_object_bytes", config.edge.hls.max_object_bytes),
    ];
    for (key, _) in all.iter().filter(|(_, bytes)| *bytes < LEAST_BYTES) {
        findings.say(key, format!("must be at least {LEAST_BYTES}"));
    }
    if config.edge.fanout.max_lag_ms < LEAST_LAG_MS {
        findings.say("edge.fanout.max_lag_ms", format!("must be at least {LEAST_LAG_MS}"));
    }
    if config.edge.cache.memory_bytes < LEAST_CACHE_BYTES {
        findings.say("edge.cache.memory_bytes", format!("must be at least {LEAST_CACHE_BYTES}"));
    }
    if (1..LEAST_DISK_BYTES).contains(&config.edge.cache.disk_bytes) {
        let what = format!("must be at least {LEAST_DISK_BYTES}, or 0 to keep nothing on disk");
        findings.say("edge.cache.disk_bytes", what);
    }
    if config.edge.cache.folder.as_ref().is_some_and(|folder| folder.as_os_str().is_empty()) {
        findings.say("edge.cache.folder", "a folder is needed");
    }
}

/// Files are read when they are needed.
fn passphrases(list: &str, passphrases: &[PassphraseConfig], findings: &mut Findings) {
    for (i, configured) in passphrases.iter().enumerate() {
        let at = |key: &str| format!("{list}.{i}.{key}");
        patterned(&at("streams"), &configured.streams, findings);
        match (&configured.passphrase, &configured.file) {
            (Some(passphrase), None) if !(10..=79).contains(&passphrase.reveal().len()) => {
                findings.say(&at("passphrase"), "must have 10 to 79 bytes, as SRT has it");
            }
            (Some(_), Some(_)) => findings.say(&at("file"), "it stands in `passphrase` already"),
            (None, None) => findings.say(&format!("{list}.{i}"), "needs `passphrase` or `file`"),
            _ => {}
        }
    }
}

fn auth(auth: &origin::auth::Config, grants: &grant::Config, alone: bool, findings: &mut Findings) {
    match auth.mode {
        Mode::Keys if alone && auth.keys.is_empty() && grants.keys.is_empty() => findings.say(
            "origin.auth.keys",
            "there are none, nor in `grants.keys`, so nobody could publish; add one, or set mode = \"open\"",
        ),
        Mode::Open if !auth.keys.is_empty() => findings.between(
            &["origin.auth.keys", "origin.auth.mode"],
            "anybody can publish without them while mode is \"open\"; set mode = \"keys\", or remove them",
        ),
        _ => {}
    }
    for (i, rule) in auth.keys.iter().enumerate() {
        if rule.key.is_empty() {
            findings.say(&format!("origin.auth.keys.{i}.key"), "an empty key opens nothing");
        }
        patterned(&format!("origin.auth.keys.{i}.streams"), &rule.streams, findings);
    }
}

/// A pattern that can match nothing is a mistake.
fn patterned(key: &str, pattern: &str, findings: &mut Findings) {
    if !may_match(pattern) {
        findings.say(key, "matches no stream; expected app/name, such as live/a or live/*");
    }
}

/// Keys that can be used, each by a name of its own.
fn grants(grants: &grant::Config, alone: bool, findings: &mut Findings) {
    if alone && grants.play == Play::Required && grants.keys.is_empty() {
        findings.between(
            &["grants.keys", "grants.play"],
            "there are none, so nobody could play; add one (`weir grant keygen`), or set play = \"open\"",
        );
    }
    for (i, key) in grants.keys.iter().enumerate() {
        let at = |field: &str| format!("grants.keys.{i}.{field}");
        if key.kid.is_empty() {
            findings.say(&at("kid"), "a key needs a name, which grants say in their header");
        }
        if grants.keys.iter().take(i).any(|other| other.kid == key.kid) {
            findings.say(&at("kid"), "another key has that name");
        }
        match (&key.secret, &key.file) {
            (Some(secret), None) => {
                if let Err(error) = grant::Key::new(key.algorithm, secret) {
                    findings.say(&at("secret"), error.to_string());
                }
            }
            (None, Some(_)) => {}
            (Some(_), Some(_)) => {
                findings.say(&at("file"), "the key stands in `secret` or in a file, not in both");
            }
            (None, None) => {
                findings.say(&at("kid"), "the key itself is missing: `secret`, or the `file` that has it");
            }
        }
    }
}

/// Lists that are compared exactly.
fn guard(guard: &edge::GuardConfig, findings: &mut Findings) {
    let is_origin = |text: &str| {
        let authority = text.split_once("://").map(|(_, authority)| authority);
        authority.is_some_and(|authority| !authority.is_empty() && !authority.contains(['/', ' ', '?', '#']))
    };
    if guard.cors_origins.iter().any(|origin| origin != "*" && !is_origin(origin)) {
        findings.say(
            "edge.guard.cors_origins",
            "expected origins such as https://example.com, without a path, or *",
        );
    }
    let is_host = |text: &str| !text.is_empty() && !text.contains(['/', ' ', '*']);
    if guard.referers.iter().any(|host| !is_host(host)) {
        findings.say("edge.guard.referers", "expected hosts such as example.com, without scheme or path");
    }
}

/// Whether a pattern can match a stream's key, `app/name`.
pub(crate) fn may_match(pattern: &str) -> bool {
    if pattern.contains('*') {
        return !pattern.starts_with('/') && !pattern.ends_with('/') && pattern.matches('/').count() <= 1;
    }
    pattern.split_once('/').is_some_and(|(app, name)| StreamKey::parse(app, name, RESERVED_APPS).is_ok())
}

/// Whether the packager can work with its keys.
fn packaging(config: &Config, findings: &mut Findings) -> bool {
    let said = &config.origin.hls;
    let (part_ms, segment_ms, window_ms) = (said.part_ms, said.segment_ms, said.window_ms);
    let checked = hls::Config { part_ms, segment_ms, window_ms, max_bytes: said.max_bytes }.check();
    let Err(error) = checked else { return true };
    let keys: &[&str] = match error {
        hls::ConfigError::Part(_) => &["origin.hls.part_ms"],
        hls::ConfigError::Segment(_) => &["origin.hls.segment_ms", "origin.hls.part_ms"],
        hls::ConfigError::Window { .. } => &["origin.hls.window_ms", "origin.hls.segment_ms"],
        _ => &["origin.hls"],
    };
    findings.between(keys, error.to_string());
    false
}

/// Times that follow from how long segments are.
fn hls_times(config: &Config, findings: &mut Findings) {
    const SEGMENT: &str = "origin.hls.segment_ms";
    let segment_ms = u64::from(config.origin.hls.segment_ms);
    let target_ms = segment_ms.div_ceil(1_000) * 1_000;

    let (wait_ms, given_ms) = (target_ms * HLS_WAIT_TARGETS, config.edge.hls.request_timeout_ms);
    if given_ms <= wait_ms {
        findings.between(
            &["edge.hls.request_timeout_ms", SEGMENT],
            format!(
                "the edge gives up after {given_ms} ms, but with segments of {segment_ms} ms the origin may answer \
                 a blocking reload after {wait_ms} ms; `edge.hls.request_timeout_ms` must be longer than that"
            ),
        );
    }
    let ttl_ms = config.edge.hls.viewer_ttl_ms;
    if ttl_ms <= target_ms {
        findings.between(
            &["edge.hls.viewer_ttl_ms", SEGMENT],
            format!(
                "HLS players ask every {target_ms} ms with segments of {segment_ms} ms, and would not count as \
                 viewers in between; `edge.hls.viewer_ttl_ms` ({ttl_ms}) must be longer than that"
            ),
        );
    }
    // Nobody is waited for; or the number itself is wrong.
    if config.drain_s == 0 || config.drain_s > MAX_DRAIN_S {
        return;
    }
    let hls_end_ms = segment_ms * u64::from(PLAYERS_BEHIND_SEGMENTS);
    let drain_ms = config.edge.http.drain_ms;
    if hls_end_ms.saturating_add(drain_ms) > config.drain_s * 1_000 {
        findings.between(
            &["drain_s", "edge.http.drain_ms", SEGMENT],
            format!(
                "a drain takes up to {hls_end_ms} ms for the last {PLAYERS_BEHIND_SEGMENTS} segments of HLS and then \
                 `edge.http.drain_ms` ({drain_ms}), which is more than `drain_s` ({} s); 0 cuts viewers off at once",
                config.drain_s
            ),
        );
    }
}

#[cfg(test)]
mod tests {
    use control_api::grant::{Algorithm, KeyConfig};
    use origin::auth::Key;

    use super::*;

    fn wrong(change: impl Fn(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config, None).0.into_iter().map(|finding| finding.keys.join(" ")).collect()
    }

    /// What a process of that role objects to.
    fn wrong_for(role: Role, change: impl Fn(&mut Config)) -> Vec<String> {
        let mut config = Config::default();
        change(&mut config);
        check(&config, Some(role)).0.into_iter().map(|finding| finding.keys.join(" ")).collect()
    }

    #[test]
    fn an_origin_is_not_open_to_strangers_by_mistake() {
        const KEYS: &str = "origin.http.listen origin.http.key";
        let everywhere = |c: &mut Config| c.origin.http.listen = "0.0.0.0:8081".parse().unwrap();
        assert_eq!(wrong_for(Role::Origin, |_| {}), [""; 0]);
        assert_eq!(wrong_for(Role::Origin, everywhere), [KEYS]);
        assert_eq!(wrong(everywhere), [KEYS], "weir config check");
        assert_eq!(wrong_for(Role::All, everywhere), [""; 0], "it does not listen");
        let with = |key: &str| {
            let key = control_api::Secret::new(key);
            wrong_for(Role::Origin, |c| {
                everywhere(c);
                c.origin.http.key = Some(key.clone());
            })
        };
        assert_eq!(with("k"), [""; 0]);
        for bad in ["", "a b", "ü", "a\n"] {
            assert_eq!(with(bad), ["origin.http.key"], "{bad:?}");
        }
    }

    #[test]
    fn an_edge_needs_origins_and_nothing_of_other_roles() {
        let with = |origins: &'static [&str]| {
            move |c: &mut Config| {
                c.edge.upstream.origins = origins.iter().map(|url| (*url).to_owned()).collect();
            }
        };
        assert_eq!(wrong_for(Role::Edge, with(&[])), ["edge.upstream.origins"]);
        assert_eq!(wrong_for(Role::Edge, with(&["http://10.0.0.1:8081"])), [""; 0]);
        assert_eq!(
            wrong_for(Role::Edge, with(&["http://10.0.0.1:8081", "10.0.0.2:8081"])),
            ["edge.upstream.origins.1"]
        );
        let taken = |c: &mut Config| {
            with(&["http://10.0.0.1:8081"])(c);
            c.edge.rtmp.listen = c.edge.http.listen;
            c.origin.rtmp.listen = c.edge.http.listen;
        };
        assert_eq!(wrong_for(Role::Edge, taken), ["edge.http.listen"], "of what listens");
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
    fn a_certificate_and_its_key_go_together() {
        const KEYS: &str = "edge.tls.certificate edge.tls.key";
        assert_eq!(wrong(|c| c.edge.tls.certificate = Some("a".into())), [KEYS]);
        assert_eq!(wrong(|c| c.edge.tls.key = Some("a".into())), [KEYS]);
        const OF_ORIGIN: &str = "origin.http.certificate origin.http.certificate_key";
        assert_eq!(wrong(|c| c.origin.http.certificate = Some("a".into())), [OF_ORIGIN]);
        assert_eq!(wrong(|c| c.origin.http.certificate_key = Some("a".into())), [OF_ORIGIN]);
        let both = |c: &mut Config| {
            (c.edge.tls.certificate, c.edge.tls.key) = (Some("a".into()), Some("b".into()));
        };
        assert_eq!(wrong(both), [""; 0]);
        assert_eq!(
            wrong(|c| {
                both(c);
                c.admin.listen.set_port(8443);
            }),
            ["edge.tls.listen"],
            "where it listens by itself"
        );
    }

    #[test]
    fn values_out_of_range_are_named() {
        let rule = edge::StreamLatency { streams: "live".into(), latency: edge::Window::Frame };
        assert_eq!(wrong(|c| c.edge.fanout.streams = vec![rule.clone()]), ["edge.fanout.streams.0.streams"]);
        assert_eq!(wrong(|c| c.origin.hls.part_ms = 20), ["origin.hls.part_ms"]);
        assert_eq!(wrong(|c| c.origin.hls.part_ms = 900), ["origin.hls.segment_ms origin.hls.part_ms"]);
        assert_eq!(wrong(|c| c.origin.hls.window_ms = 2_000), ["origin.hls.window_ms origin.hls.segment_ms"]);
        assert_eq!(wrong(|c| c.edge.http.max_connections = 0), ["edge.http.max_connections"]);
        assert_eq!(wrong(|c| c.drain_s = u64::MAX), ["drain_s"]);
        assert_eq!(wrong(|c| c.unready_s = u64::MAX), ["unready_s"]);
        assert_eq!(wrong(|c| c.edge.fanout.max_lag_ms = 999), ["edge.fanout.max_lag_ms"]);
        assert_eq!(wrong(|c| c.data = "".into()), ["data"]);
        assert_eq!(wrong(|c| c.log.level = "loud".into()), ["log.level"]);
        assert_eq!(wrong(|c| c.control.publish_url = Some("http://h".into())), ["control.publish_url"]);
        assert_eq!(wrong(|c| c.control.publish_url = Some("rtmp://".into())), ["control.publish_url"]);
        assert_eq!(wrong(|c| c.origin.streams.cache_bytes = 1000), ["origin.streams.cache_bytes"]);
        assert_eq!(wrong(|c| c.edge.fanout.ring_bytes = 0), ["edge.fanout.ring_bytes"]);
        assert_eq!(wrong(|c| c.edge.cache.memory_bytes = 1 << 20), ["edge.cache.memory_bytes"]);
        assert_eq!(wrong(|c| c.edge.cache.disk_bytes = 1 << 20), ["edge.cache.disk_bytes"]);
        assert_eq!(wrong(|c| c.edge.cache.disk_bytes = 1 << 30), [""; 0]);
        assert_eq!(wrong(|c| c.edge.cache.folder = Some("".into())), ["edge.cache.folder"]);
    }

    #[test]
    fn long_segments_need_longer_times() {
        const REQUEST: &str = "edge.hls.request_timeout_ms origin.hls.segment_ms";
        const TTL: &str = "edge.hls.viewer_ttl_ms origin.hls.segment_ms";
        const DRAIN: &str = "drain_s edge.http.drain_ms origin.hls.segment_ms";
        let long = |c: &mut Config| {
            c.origin.hls.segment_ms = 9_001;
            c.origin.hls.window_ms = 60_000;
        };
        assert_eq!(wrong(long), [REQUEST, TTL, DRAIN]);
        let longer = |request_ms, ttl_ms, drain_s| {
            wrong(|c| {
                long(c);
                (c.edge.hls.request_timeout_ms, c.edge.hls.viewer_ttl_ms) = (request_ms, ttl_ms);
                c.drain_s = drain_s;
            })
        };
        assert_eq!(longer(30_000, 10_000, 37), [REQUEST, TTL, DRAIN]);
        assert_eq!(longer(30_001, 10_001, 38), [""; 0]);
        assert_eq!(wrong(|c| c.edge.hls.request_timeout_ms = 6_000), [REQUEST]);
        assert_eq!(wrong(|c| c.edge.hls.viewer_ttl_ms = 2_000), [TTL]);
        assert_eq!(wrong(|c| c.drain_s = 15), [DRAIN]);
        assert_eq!(wrong(|c| c.edge.http.drain_ms = u64::MAX), [DRAIN]);
        assert_eq!(wrong(|c| c.drain_s = 0), [""; 0]);
    }

    #[test]
    fn lists_that_could_match_nothing_are_named() {
        let origins = |list: &[&str]| {
            wrong(|c| c.edge.guard.cors_origins = list.iter().map(|text| (*text).to_owned()).collect())
        };
        for good in [&["*"][..], &["https://example.com", "http://a:8080"], &[]] {
            assert_eq!(origins(good), [""; 0]);
        }
        for bad in ["example.com", "https://example.com/", "https://", "", "https://*/"] {
            assert_eq!(origins(&[bad]), ["edge.guard.cors_origins"], "{bad}");
        }
        let referers = |host: &str| wrong(|c| c.edge.guard.referers = vec![host.to_owned()]);
        assert_eq!(referers("example.com"), [""; 0]);
        for bad in ["https://example.com", "example.com/", "*.example.com", ""] {
            assert_eq!(referers(bad), ["edge.guard.referers"], "{bad}");
        }
        assert_eq!(wrong(|c| c.edge.guard.max_viewers = 0), ["edge.guard.max_viewers"]);
    }

    #[test]
    fn grant_keys_that_cannot_be_used_are_named() {
        let with = |keys: &[(&str, Algorithm, Option<&str>, Option<&str>)]| {
            let keys = keys.iter().map(|(kid, algorithm, secret, file)| KeyConfig {
                kid: (*kid).to_owned(),
                algorithm: *algorithm,
                secret: secret.map(str::to_owned),
                file: file.map(Into::into),
            });
            let keys: Vec<_> = keys.collect();
            wrong(|c| c.grants.keys.clone_from(&keys))
        };
        let long = Some("0123456789abcdef0123456789abcdef");
        assert_eq!(wrong(|c| c.grants.play = Play::Required), ["grants.keys grants.play"]);
        assert_eq!(
            with(&[("a", Algorithm::Hs256, long, None), ("b", Algorithm::EdDsa, None, Some("f"))]),
            [""; 0]
        );
        assert_eq!(with(&[("", Algorithm::Hs256, long, None)]), ["grants.keys.0.kid"]);
        let twice = [("a", Algorithm::Hs256, long, None), ("a", Algorithm::Hs256, long, None)];
        assert_eq!(with(&twice), ["grants.keys.1.kid"]);
        assert_eq!(with(&[("a", Algorithm::Hs256, Some("short"), None)]), ["grants.keys.0.secret"]);
        assert_eq!(with(&[("a", Algorithm::EdDsa, long, None)]), ["grants.keys.0.secret"]);
        assert_eq!(with(&[("a", Algorithm::Hs256, long, Some("f"))]), ["grants.keys.0.file"]);
        assert_eq!(with(&[("a", Algorithm::Hs256, None, None)]), ["grants.keys.0.kid"]);
        // Grants alone can let publishers in.
        let key = KeyConfig {
            kid: "a".into(),
            algorithm: Algorithm::Hs256,
            secret: long.map(Into::into),
            file: None,
        };
        let publishing = wrong(|c| {
            c.grants.keys = vec![key.clone()];
            c.origin.auth.mode = Mode::Keys;
        });
        assert_eq!(publishing, [""; 0]);
    }

    #[test]
    fn keys_that_open_nothing_are_named() {
        let with = |mode, streams: &str, key: &str| {
            let rule = Key { streams: streams.into(), key: key.into() };
            wrong(|c| c.origin.auth = origin::auth::Config { mode, keys: vec![rule.clone()] })
        };
        assert_eq!(wrong(|c| c.origin.auth.mode = Mode::Keys), ["origin.auth.keys"]);
        assert_eq!(with(Mode::Open, "live/*", "k"), ["origin.auth.keys origin.auth.mode"]);
        assert_eq!(with(Mode::Keys, "live/*", ""), ["origin.auth.keys.0.key"]);
        for nothing in
            ["", "live", "live/", "/live/*", "live/a/*", "live/*/", "api/a", "rtmp://h/live/*", "live/a b"]
        {
            assert_eq!(with(Mode::Keys, nothing, "k"), ["origin.auth.keys.0.streams"], "{nothing}");
        }
        for something in ["live/a", "live/*", "*", "*/a", "li*", "*/*", "live/*-cam-*"] {
            assert_eq!(with(Mode::Keys, something, "k"), [""; 0], "{something}");
        }
    }
}
