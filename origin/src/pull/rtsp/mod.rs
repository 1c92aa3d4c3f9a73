//! RTSP 1.0 (RFC 2326) by retina: a camera is described, its picture and its sound are set up, and it plays.
//!
//! retina takes what comes over TCP, or UDP without putting datagrams in order, authenticates (Digest, Basic), keeps the
//! session alive, and puts access units together. It knows no bound of an access unit or an answer: what a server makes it
//! keep is bounded by the time in which a frame, or the answer, must be whole.

mod clock;
mod sound;
mod tracks;

use std::collections::VecDeque;
use std::net::SocketAddr;

use futures_util::StreamExt;
use media_core::frame::Frame;
use percent_encoding::percent_decode_str;
use retina::client::{
    Credentials, Demuxed, Described, InitialTimestampPolicy, PlayOptions, Session, SessionOptions,
    SetupOptions,
};
use retina::codec::{CodecItem, FrameFormat};
use tokio::time::Instant;
use url::Url;

use super::config::Transport;
use super::source::Item;
use crate::remote::{Host, Reach, Shown, Trouble, WishError};
use clock::Clocks;
use sound::Sound;
use tracks::Picture;

pub(super) const SCHEME: &str = "rtsp";

/// Where RTSP is spoken if a URL does not say (RFC 2326 §3.2).
const DEFAULT_PORT: u16 = 554;

/// What cameras are told who calls.
const USER_AGENT: &str = concat!("weir/", env!("CARGO_PKG_VERSION"));

/// So long a picture's or a sound's configuration is waited for; then the other goes without it.
const PATIENCE: std::time::Duration = std::time::Duration::from_secs(3);

/// Mistakes in a row that are taken for damage on the way; one more is the end.
const MAX_MISTAKES: u32 = 16;

/// Something that speaks RTSP. Debug shows no password.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct Camera {
    pub(super) shown: Shown,
    host: Host,
    /// Without user and password.
    url: Url,
    login: Option<Login>,
    transport: Transport,
}

#[derive(Clone, PartialEq, Eq)]
struct Login(Credentials);

impl std::fmt::Debug for Login {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Login(…)")
    }
}

impl Camera {
    pub(super) fn parse(text: &str, transport: Transport) -> Result<Self, WishError> {
        let wrong = |what: &str| WishError::Url(what.to_owned());
        let mut url = Url::parse(text).map_err(|error| WishError::Url(error.to_string()))?;
        let name = url.host().ok_or_else(|| wrong("it names no host"))?.to_owned();
        // Of a scheme that the standard does not know, hosts are not recognized as addresses.
        let name = match &name {
            url::Host::Domain(domain) => {
                url::Host::parse(domain).map_err(|_| wrong("its host is no name"))?
            }
            _ => name,
        };
        let host = Host { name, port: url.port().unwrap_or(DEFAULT_PORT) };
        let decoded = |text: &str| percent_decode_str(text).decode_utf8().map(|text| text.into_owned());
        let username = decoded(url.username()).map_err(|_| wrong("its user is no UTF-8"))?;
        let password =
            decoded(url.password().unwrap_or_default()).map_err(|_| wrong("its password is no UTF-8"))?;
        let secrets = [username.clone(), password.clone()];
        let shown = Shown::new(&url, secrets);
        let has_login = !url.username().is_empty() || url.password().is_some();
        let login = has_login.then_some(Login(Credentials { username, password }));
        let cleared = url.set_username("").and_then(|()| url.set_password(None));
        cleared.map_err(|()| wrong("its host takes no user"))?;
        url.set_fragment(None);
        Ok(Self { shown, host, url, login, transport })
    }

    fn trouble(&self, error: &retina::Error) -> Trouble {
        let said = self.shown.scrub(&error.to_string());
        match error.status_code() {
            // What it is called does not matter to it: user and password do, or the path.
            Some(401 | 403) => Trouble::Refused(if self.login.is_some() {
                format!("user or password are wrong ({said})")
            } else {
                format!("the URL needs user and password ({said})")
            }),
            _ => Trouble::Failed(said),
        }
    }

    /// Calls it, and lets it play.
    pub(super) async fn play(&self, reach: &Reach) -> Result<Playing, Trouble> {
        let mut url = self.url.clone();
        let mut peer = None;
        if *reach != Reach::Anywhere {
            // By the address that was judged: the name may stand for another one a moment later.
            let address: Option<SocketAddr> = self.host.addresses(reach).await?.into_iter().next();
            peer = address;
            let named = address.map_or(Ok(()), |address| url.set_ip_host(address.ip()));
            if named.is_err() {
                let text = address.map(|address| address.ip().to_string()).unwrap_or_default();
                let text = if text.contains(':') { format!("[{text}]") } else { text };
                url.set_host(Some(&text)).map_err(|error| Trouble::Failed(error.to_string()))?;
            }
        }
        let options = SessionOptions::default()
            .creds(self.login.clone().map(|Login(credentials)| credentials))
            .user_agent(USER_AGENT.to_owned());
        let session = Session::describe(url, options).await.map_err(|error| self.trouble(&error))?;
        self.start(session, peer).await
    }

    async fn start(
        &self,
        mut session: Session<Described>,
        peer: Option<SocketAddr>,
    ) -> Result<Playing, Trouble> {
        let chosen = tracks::choose(session.streams());
        let usable = [chosen.picture.as_ref().map(|(at, _)| *at), chosen.sound];
        if usable == [None, None] {
            let why = chosen.note.unwrap_or_else(|| "it has neither picture nor sound".to_owned());
            return Err(Trouble::Useless(self.shown.scrub(&why)));
        }
        for at in usable.into_iter().flatten() {
            let transport = match self.transport {
                Transport::Tcp => retina::client::Transport::Tcp(Default::default()),
                Transport::Udp => retina::client::Transport::Udp(Default::default()),
            };
            let options = SetupOptions::default().transport(transport).frame_format(FrameFormat::MP4);
            session.setup(at, options).await.map_err(|error| self.trouble(&error))?;
        }
        // Cameras that say nothing of the beginning are put right by their sender reports.
        let options = PlayOptions::default().initial_timestamp(InitialTimestampPolicy::Permissive);
        let playing = session.play(options).await.map_err(|error| self.trouble(&error))?;
        let demuxed = playing.demuxed().map_err(|error| self.trouble(&error))?;
        Ok(Playing {
            peer,
            note: chosen.note.map(|note| self.shown.scrub(&note)),
            lost: 0,
            camera: self.clone(),
            demuxed,
            picture: chosen.picture.map(|(at, codec)| Picture::new(at, codec)),
            sound: chosen.sound.map(Sound::new),
            clocks: Clocks::default(),
            began: Instant::now(),
            told: false,
            changed: false,
            out: VecDeque::new(),
            mistakes: 0,
        })
    }
}

/// A camera that plays.
pub(super) struct Playing {
    /// If its address had to be known.
    pub(super) peer: Option<SocketAddr>,
    pub(super) note: Option<String>,
    pub(super) lost: u64,
    camera: Camera,
    demuxed: Demuxed,
    picture: Option<Picture>,
    sound: Option<Sound>,
    clocks: Clocks,
    began: Instant,
    /// Its tracks were told; before that no frame is.
    told: bool,
    /// They are others than those that were told.
    changed: bool,
    /// What one item of retina's made: its tracks and a frame, of sound a few.
    out: VecDeque<Item>,
    mistakes: u32,
}

impl Playing {
    pub(super) async fn next(&mut self) -> Result<Item, Trouble> {
        loop {
            if let Some(item) = self.out.pop_front() {
                return Ok(item);
            }
            match self.demuxed.next().await {
                Some(Ok(item)) => self.take(item),
                Some(Err(error)) => {
                    self.mistakes += 1;
                    if self.mistakes > MAX_MISTAKES {
                        return Err(self.camera.trouble(&error));
                    }
                    tracing::debug!(url = %self.camera.shown, "RTSP: {}", self.camera.shown.scrub(&error.to_string()));
                }
                None => return Err(Trouble::Ended),
            }
        }
    }

    fn take(&mut self, item: CodecItem) {
        match item {
            CodecItem::VideoFrame(frame) => {
                self.lost += u64::from(frame.loss());
                let streams = self.demuxed.streams();
                let Some(picture) = self.picture.as_mut().filter(|picture| picture.at == frame.stream_id())
                else {
                    return;
                };
                let is_new = picture.learn(streams, frame.has_new_parameters());
                let frame = picture.frame(frame);
                self.changed |= is_new;
                frame.into_iter().for_each(|frame| self.push(frame));
            }
            CodecItem::AudioFrame(frame) => {
                self.lost += u64::from(frame.loss());
                let streams = self.demuxed.streams();
                let Some(sound) = self.sound.as_mut().filter(|sound| sound.at == frame.stream_id()) else {
                    return;
                };
                self.changed |= sound.learn(streams);
                let mut frames = Vec::new();
                sound.frames(&frame, self.clocks.shift(), &mut frames);
                frames.into_iter().for_each(|frame| self.push(frame));
            }
            CodecItem::Rtcp(reports) => {
                if let Some(picture) = &self.picture
                    && let Some(sound) = &self.sound
                {
                    self.clocks.report(&reports, picture.at, sound.at);
                }
            }
            _ => {}
        }
    }

    fn push(&mut self, frame: Frame) {
        self.mistakes = 0;
        let sound = self.sound.as_ref().filter(|sound| !sound.is_useless());
        let tracks = [
            self.picture.as_ref().map(|picture| picture.track.as_ref()),
            sound.map(|sound| sound.track.as_ref()),
        ];
        let all_known = tracks.iter().flatten().all(Option::is_some);
        if !self.told && !all_known && self.began.elapsed() < PATIENCE {
            return;
        }
        if self.changed || !self.told {
            (self.changed, self.told) = (false, true);
            let known = tracks.into_iter().flatten().flatten().cloned().collect();
            self.out.push_back(Item::Tracks(known));
        }
        self.out.push_back(Item::Frame(frame));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_login_is_for_the_camera_alone() {
        let camera = Camera::parse("rtsp://admin:p%40ss@camera.example/h264?x=1#y", Transport::Tcp).unwrap();
        assert_eq!(camera.url.as_str(), "rtsp://camera.example/h264?x=1");
        assert_eq!(camera.host.to_string(), "camera.example:554");
        let login =
            camera.login.clone().map(|Login(credentials)| (credentials.username, credentials.password));
        assert_eq!(login, Some(("admin".to_owned(), "p@ss".to_owned())));
        let shown = format!("{camera:?}");
        assert!(!shown.contains("p@ss") && !shown.contains("p%40ss"), "{shown}");
        let camera = Camera::parse("rtsp://192.168.1.4:8554/a", Transport::Udp).unwrap();
        assert!(camera.login.is_none() && matches!(camera.host.name, url::Host::Ipv4(_)));
        assert!(Camera::parse("rtsp:///a", Transport::Tcp).is_err());
    }
}
