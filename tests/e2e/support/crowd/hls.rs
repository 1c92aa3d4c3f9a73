//! Low-latency HLS (RFC 8216bis): reloads that wait for the next part, and each part that is new, all by one connection.

use std::time::{Duration, Instant};

use reqwest::Url;

use super::flv::{authority, path};
use super::http::{Connection, Lost};
use super::player::{End, STALL};
use super::seen::{Count, Seen};

/// How long a player waits before it asks again for what can't be had at the moment.
const RETRY: Duration = Duration::from_millis(300);

/// Where a part is in its stream: media sequence number, part.
type Place = (u64, u64);

/// Plays until the stream is lost.
pub(super) async fn play(seen: &Seen, node: &str, url: &str) -> End {
    let url = Url::parse(url).unwrap();
    let connection = match Connection::open(&authority(&url)).await {
        Ok(connection) => connection,
        Err(error) => return End::refused(error),
    };
    let folder = path(&url.join("main/").unwrap());
    let mut player =
        Player { seen, connection, folder, newest: None, epoch: 0, time: None, connected: false };
    match player.run(node, &path(&url)).await {
        Err(end) => end,
        Ok(never) => match never {},
    }
}

struct Player<'a> {
    seen: &'a Seen,
    connection: Connection,
    folder: String,
    newest: Option<Place>,
    /// Of the newest part.
    epoch: u64,
    time: Option<u64>,
    connected: bool,
}

impl Player<'_> {
    async fn run(&mut self, node: &str, index: &str) -> Result<std::convert::Infallible, End> {
        let (status, _) = self.get(index).await?;
        if status != 200 {
            return Err(End::refused(status));
        }
        let mut since = Instant::now();
        let mut query = String::new();
        loop {
            let (status, body) = self.get(&format!("{}media.m3u8{query}", self.folder)).await?;
            match status {
                200 => {}
                // As players do, which know that a stream comes back; and of what was asked for ahead of it.
                400 | 500..600 if since.elapsed() < STALL => {
                    self.seen.trouble(Count::Unavailable, &format!("{status} for the playlist"));
                    query.clear();
                    tokio::time::sleep(RETRY).await;
                    continue;
                }
                400 | 500..600 => return Err(End::of(Count::Stalled, format!("{status} for too long"))),
                _ if self.connected => {
                    return Err(End::of(Count::Ended, format!("{status} for the playlist")));
                }
                _ => return Err(End::refused(status)),
            }
            if !std::mem::replace(&mut self.connected, true) {
                self.seen.connected(node);
            }
            let playlist = String::from_utf8_lossy(&body).into_owned();
            if self.fetch_new(&playlist).await? {
                since = Instant::now();
            }
            if playlist.contains("#EXT-X-ENDLIST") {
                return Err(End::of(Count::Ended, "regularly"));
            }
            let hint = tags(&playlist, "#EXT-X-PRELOAD-HINT:").next().and_then(place);
            query = match hint {
                Some((msn, part)) => format!("?_HLS_msn={msn}&_HLS_part={part}"),
                None => {
                    tokio::time::sleep(RETRY).await;
                    String::new()
                }
            };
            if since.elapsed() >= STALL {
                return Err(End::of(Count::Stalled, "no new part"));
            }
        }
    }

    /// Fetches the parts that are new. Whether there was one.
    async fn fetch_new(&mut self, playlist: &str) -> Result<bool, End> {
        let parts: Vec<&str> = tags(playlist, "#EXT-X-PART:").collect();
        let newest = self.newest;
        // All behind a part that is listed are listed: whoever fetches them in turn misses none.
        let has_newest = newest.is_some_and(|newest| parts.iter().any(|name| place(name) == Some(newest)));
        // Who has just come begins at the end.
        let first = if newest.is_none() { parts.len().saturating_sub(1) } else { 0 };
        let mut any = false;
        for name in &parts[first..] {
            let at = place(name).unwrap_or_else(|| panic!("{name} is no part"));
            let epoch = name.split('-').next().and_then(|epoch| epoch.parse().ok()).unwrap();
            // A playlist lists what was before, too.
            if epoch < self.epoch && newest.is_none_or(|newest| at > newest) {
                self.seen.trouble(Count::Backwards, &format!("{name} after epoch {}", self.epoch));
            }
            let is_anew = epoch > self.epoch;
            self.epoch = self.epoch.max(epoch);
            if newest.is_some_and(|newest| at <= newest) {
                continue;
            }
            if newest.is_some() && !is_anew && !has_newest && self.newest == newest {
                self.seen.trouble(Count::MissingPart, &format!("{:?}, then {name}", self.newest));
            }
            self.fetch(name, at).await?;
            any = true;
        }
        Ok(any)
    }

    async fn fetch(&mut self, name: &str, at: Place) -> Result<(), End> {
        let (status, body) = self.get(&format!("{}{name}", self.folder)).await?;
        if self.newest.is_some_and(|newest| at <= newest) {
            self.seen.trouble(Count::Backwards, &format!("{:?}, then {name}", self.newest));
        }
        self.newest = Some(at);
        if status != 200 {
            self.seen.trouble(Count::MissingPart, &format!("{status} for {name}"));
            return Ok(());
        }
        let time = decode_time(&body);
        assert!(time.is_some(), "{name} has no decode time");
        if time < self.time {
            self.seen.trouble(Count::Backwards, &format!("{:?}, then {time:?} in {name}", self.time));
        }
        self.time = time;
        self.seen.frame();
        Ok(())
    }

    /// Asks, by a new connection if the one there is was announced to close.
    async fn get(&mut self, path: &str) -> Result<(u16, Vec<u8>), End> {
        if self.connection.closes {
            return Err(End::of(Count::Closed, "the edge wants nobody any more"));
        }
        let answer = async {
            let answer = self.connection.get(path, None).await?;
            let body = self.connection.body(&answer).await?;
            Ok((answer.status, body))
        };
        match tokio::time::timeout(STALL, answer).await {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(Lost::Closed)) if self.connected => Err(End::of(Count::Closed, "between two answers")),
            Ok(Err(Lost::Closed)) => Err(End::refused("closed")),
            Ok(Err(Lost::Truncated)) => Err(End::of(Count::Truncated, path)),
            Err(_) => Err(End::of(Count::Stalled, path)),
        }
    }
}

/// The URIs of all tags of that name.
fn tags<'a>(playlist: &'a str, name: &'static str) -> impl Iterator<Item = &'a str> {
    playlist
        .lines()
        .filter_map(move |line| line.strip_prefix(name)?.split("URI=\"").nth(1)?.split('"').next())
}

/// Of `{epoch}-{msn}.{part}.m4s`.
fn place(name: &str) -> Option<Place> {
    let (msn, part) = name.split_once('-')?.1.strip_suffix(".m4s")?.split_once('.')?;
    Some((msn.parse().ok()?, part.parse().ok()?))
}

/// The decode time of the first track in a fragment (ISO/IEC 14496-12 §8.8.12), version 1.
fn decode_time(fragment: &[u8]) -> Option<u64> {
    let at = fragment.windows(4).position(|four| four == b"tfdt")?;
    Some(u64::from_be_bytes(fragment.get(at + 8..at + 16)?.try_into().ok()?))
}

#[test]
fn parts_are_found_in_a_playlist() {
    let playlist = "#EXT-X-PART:DURATION=0.2,URI=\"1-7.0.m4s\"\n#EXT-X-PART:DURATION=0.2,URI=\"1-7.1.m4s\"\n\
                    #EXT-X-PRELOAD-HINT:TYPE=PART,URI=\"1-7.2.m4s\"\n";
    let parts: Vec<_> = tags(playlist, "#EXT-X-PART:").filter_map(place).collect();
    assert_eq!(parts, [(7, 0), (7, 1)]);
    assert_eq!(tags(playlist, "#EXT-X-PRELOAD-HINT:").next().and_then(place), Some((7, 2)));
    assert_eq!(decode_time(b"....tfdt\x01\0\0\0\0\0\0\0\0\0\x01\x02"), Some(258));
}
