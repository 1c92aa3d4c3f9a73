//! A conference as the registry has it: who is in it, and what happened last. A state machine: each change takes the time and
//! leaves the events that tell of it, under numbers that all replicas agree on.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// Speakers that a conference may have: each hears all others, so that what is sent grows with their square.
pub(crate) const MAX_SPEAKERS: u16 = 32;

/// Members, with those who only listen and may be let speak. Who only listens need not be a member. With [`MAX_HISTORY`]
/// events that is below what the registry takes for a value.
pub(crate) const MAX_MEMBERS: usize = 128;

/// Events that are kept for those who come back: some seconds of a lively room. Who lacks more begins with a snapshot.
const MAX_HISTORY: usize = 48;

/// Longest app, name and id of a member, in bytes: together with what parts them they are a stream's.
const MAX_APP_BYTES: usize = 64;
const MAX_NAME_BYTES: usize = 128;
const MAX_MEMBER_BYTES: usize = 64;

pub(crate) use control_api::MEMBER_SEPARATOR as SEPARATOR;

/// What a member does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Role {
    /// Publishes a stream, and receives the others'.
    Speaker,
    /// Receives.
    Listener,
}

/// What happened.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum What {
    /// Somebody is a member now.
    Joined,
    /// Is none any more.
    Left,
    /// A member's stream has begun.
    Live,
    /// It has no publisher any more.
    Gone,
    /// A member's sound is dropped.
    Muted,
    /// It is heard again.
    Unmuted,
    /// A member speaks, or only listens, from now on.
    Role,
    /// The conference is over.
    Ended,
}

impl What {
    /// Its name, of the event that tells of it, too.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Joined => "joined",
            Self::Left => "left",
            Self::Live => "live",
            Self::Gone => "gone",
            Self::Muted => "muted",
            Self::Unmuted => "unmuted",
            Self::Role => "role",
            Self::Ended => "ended",
        }
    }
}

/// Something that happened in a conference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Happened {
    /// Grows by one with each.
    pub(crate) id: u64,
    pub(crate) at_ms: u64,
    pub(crate) what: What,
    /// To whom; nobody's where it happened to all.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) member: Option<String>,
    /// What the member does, where that is news.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) role: Option<Role>,
}

/// Somebody in a conference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub(crate) struct Member {
    /// Unique in its conference.
    pub(crate) id: String,
    /// What it does.
    pub(crate) role: Role,
    /// Its sound is dropped where it comes in.
    pub(crate) muted: bool,
    /// Its stream has a publisher.
    pub(crate) live: bool,
    /// When it came, in milliseconds since 1970.
    pub(crate) joined_at_ms: u64,
}

/// A conference.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Conference {
    pub(crate) app: String,
    pub(crate) name: String,
    pub(crate) max_speakers: u16,
    pub(crate) created_at_ms: u64,
    /// It is over since then. What is left of it keeps those out who still have grants.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) ended_at_ms: Option<u64>,
    /// The number of the newest event. Begins with the time of its creation, so that one that follows under the same name
    /// has other numbers.
    pub(crate) sequence: u64,
    /// In the order in which they came.
    pub(crate) members: Vec<Member>,
    history: VecDeque<Happened>,
}

/// Why something cannot be done to a conference.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refused {
    #[error(
        "`app` and `name` must have letters, digits and - _ . @ + = only, and at most {MAX_APP_BYTES} and {MAX_NAME_BYTES} bytes"
    )]
    Name,
    #[error("`id` must have letters, digits and - _ . @ + = only, and at most {MAX_MEMBER_BYTES} bytes")]
    Id,
    #[error("`max_speakers` is from 1 to {MAX_SPEAKERS}")]
    Speakers,
    #[error("the conference has {0} speakers already, as many as it may have")]
    Full(u16),
    #[error("the conference has {MAX_MEMBERS} members already; who only listens need not be one")]
    TooMany,
    #[error("{0:?} is a member already, in another role; change that by PATCH")]
    Taken(String),
    #[error("there is no member {0:?}")]
    NoMember(String),
}

fn fits(text: &str, max: usize) -> bool {
    let allowed = |c: char| c.is_alphanumeric() || "-_.@+=".contains(c);
    (1..=max).contains(&text.len()) && text.chars().all(allowed) && !text.starts_with('.')
}

impl Conference {
    /// A new one, without members.
    pub(crate) fn new(app: &str, name: &str, max_speakers: u16, now_ms: u64) -> Result<Self, Refused> {
        let reserved = control_api::RESERVED_APPS.contains(&app);
        if !fits(app, MAX_APP_BYTES) || !fits(name, MAX_NAME_BYTES) || reserved {
            return Err(Refused::Name);
        }
        if !(1..=MAX_SPEAKERS).contains(&max_speakers) {
            return Err(Refused::Speakers);
        }
        Ok(Self {
            app: app.to_owned(),
            name: name.to_owned(),
            max_speakers,
            created_at_ms: now_ms,
            ended_at_ms: None,
            sequence: now_ms,
            members: Vec::new(),
            history: VecDeque::new(),
        })
    }

    /// One that follows another of its name: its numbers are higher.
    pub(crate) fn follows(mut self, before: &Self) -> Self {
        self.sequence = self.sequence.max(before.sequence.saturating_add(1));
        self
    }

    /// `app/name`.
    pub(crate) fn path(&self) -> String {
        format!("{}/{}", self.app, self.name)
    }

    /// The path of a member's stream.
    pub(crate) fn stream(&self, member: &str) -> String {
        format!("{}/{}{SEPARATOR}{member}", self.app, self.name)
    }

    pub(crate) fn has_ended(&self) -> bool {
        self.ended_at_ms.is_some()
    }

    pub(crate) fn member(&self, id: &str) -> Option<&Member> {
        self.members.iter().find(|member| member.id == id)
    }

    pub(crate) fn speakers(&self) -> usize {
        self.members.iter().filter(|member| member.role == Role::Speaker).count()
    }

    /// Whether a member may publish.
    pub(crate) fn may_publish(&self, id: &str) -> bool {
        !self.has_ended() && self.member(id).is_some_and(|member| member.role == Role::Speaker)
    }

    /// What happened after that event; `None`: that is no longer known, or was never so.
    pub(crate) fn since(&self, id: u64) -> Option<impl Iterator<Item = &Happened>> {
        let first = self.history.front().map_or(self.sequence.saturating_add(1), |first| first.id);
        let known = id <= self.sequence && id.saturating_add(1) >= first;
        known.then(|| self.history.iter().filter(move |happened| happened.id > id))
    }

    fn tell(&mut self, now_ms: u64, what: What, member: Option<&str>, role: Option<Role>) {
        self.sequence = self.sequence.saturating_add(1);
        let member = member.map(str::to_owned);
        self.history.push_back(Happened { id: self.sequence, at_ms: now_ms, what, member, role });
        while self.history.len() > MAX_HISTORY {
            self.history.pop_front();
        }
    }

    fn room_for(&self, role: Role) -> Result<(), Refused> {
        if role == Role::Speaker && self.speakers() >= usize::from(self.max_speakers) {
            return Err(Refused::Full(self.max_speakers));
        }
        Ok(())
    }

    fn find(&mut self, id: &str) -> Result<&mut Member, Refused> {
        let found = self.members.iter_mut().find(|member| member.id == id);
        found.ok_or_else(|| Refused::NoMember(id.to_owned()))
    }

    /// Somebody joins. `false`: that member was there.
    pub(crate) fn join(&mut self, id: &str, role: Role, muted: bool, now_ms: u64) -> Result<bool, Refused> {
        if !fits(id, MAX_MEMBER_BYTES) {
            return Err(Refused::Id);
        }
        match self.member(id) {
            Some(member) if member.role == role => return Ok(false),
            Some(_) => return Err(Refused::Taken(id.to_owned())),
            None => {}
        }
        if self.members.len() >= MAX_MEMBERS {
            return Err(Refused::TooMany);
        }
        self.room_for(role)?;
        let member = Member { id: id.to_owned(), role, muted, live: false, joined_at_ms: now_ms };
        self.members.push(member);
        self.tell(now_ms, What::Joined, Some(id), Some(role));
        if muted {
            self.tell(now_ms, What::Muted, Some(id), None);
        }
        Ok(true)
    }

    /// A member leaves.
    pub(crate) fn leave(&mut self, id: &str, now_ms: u64) -> Result<(), Refused> {
        let live = self.find(id)?.live;
        self.members.retain(|member| member.id != id);
        if live {
            self.tell(now_ms, What::Gone, Some(id), None);
        }
        self.tell(now_ms, What::Left, Some(id), None);
        Ok(())
    }

    /// A member's sound is dropped from now on, or heard.
    pub(crate) fn mute(&mut self, id: &str, muted: bool, now_ms: u64) -> Result<(), Refused> {
        let member = self.find(id)?;
        if std::mem::replace(&mut member.muted, muted) != muted {
            self.tell(now_ms, if muted { What::Muted } else { What::Unmuted }, Some(id), None);
        }
        Ok(())
    }

    /// A member speaks from now on, or only listens.
    pub(crate) fn take_role(&mut self, id: &str, role: Role, now_ms: u64) -> Result<(), Refused> {
        if self.find(id)?.role == role {
            return Ok(());
        }
        self.room_for(role)?;
        self.find(id)?.role = role;
        self.tell(now_ms, What::Role, Some(id), Some(role));
        Ok(())
    }

    /// A member's stream has a publisher, or none. Nothing happens to who is no member.
    pub(crate) fn set_live(&mut self, id: &str, live: bool, now_ms: u64) {
        let Ok(member) = self.find(id) else { return };
        if std::mem::replace(&mut member.live, live) != live {
            self.tell(now_ms, if live { What::Live } else { What::Gone }, Some(id), None);
        }
    }

    /// It is over, for all.
    pub(crate) fn end(&mut self, now_ms: u64) {
        if self.ended_at_ms.replace(now_ms).is_none() {
            self.members.clear();
            // It is kept for as long as grants last: as little of it as may be.
            self.history.clear();
            self.tell(now_ms, What::Ended, None, None);
        }
    }
}

/// The conference and the member that a stream's name says, if it does.
pub(crate) fn parts(path: &str) -> Option<(&str, &str)> {
    path.split_once(SEPARATOR)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn conference(max_speakers: u16) -> Conference {
        Conference::new("live", "room", max_speakers, 1_000).unwrap()
    }

    fn told(conference: &Conference, since: u64) -> Vec<(&'static str, Option<&str>)> {
        let since = conference.since(since).unwrap();
        since.map(|happened| (happened.what.name(), happened.member.as_deref())).collect()
    }

    #[test]
    fn a_member_comes_is_heard_is_muted_and_goes() {
        let mut room = conference(2);
        let begin = room.sequence;
        assert!(room.join("ann", Role::Speaker, false, 2_000).unwrap());
        assert!(!room.join("ann", Role::Speaker, false, 2_000).unwrap(), "it is there");
        assert_eq!(room.join("ann", Role::Listener, false, 2_000), Err(Refused::Taken("ann".into())));
        room.set_live("ann", true, 3_000);
        room.set_live("ann", true, 3_001);
        room.mute("ann", true, 4_000).unwrap();
        room.mute("ann", true, 4_001).unwrap();
        room.mute("ann", false, 5_000).unwrap();
        room.leave("ann", 6_000).unwrap();
        assert_eq!(room.leave("ann", 6_000), Err(Refused::NoMember("ann".into())));
        let ann = Some("ann");
        let expected = ["joined", "live", "muted", "unmuted", "gone", "left"].map(|what| (what, ann));
        assert_eq!(told(&room, begin), expected);
        assert_eq!(told(&room, begin + 4), &expected[4..]);
        assert!(room.since(begin + 7).is_none() && room.since(begin - 1).is_none());
    }

    #[test]
    fn as_many_speak_as_may_and_others_listen() {
        let mut room = conference(1);
        room.join("a", Role::Speaker, false, 1).unwrap();
        assert_eq!(room.join("b", Role::Speaker, false, 1), Err(Refused::Full(1)));
        room.join("b", Role::Listener, false, 1).unwrap();
        assert!(room.may_publish("a") && !room.may_publish("b") && !room.may_publish("c"));
        assert_eq!(room.take_role("b", Role::Speaker, 2), Err(Refused::Full(1)));
        room.take_role("a", Role::Listener, 2).unwrap();
        room.take_role("b", Role::Speaker, 3).unwrap();
        assert!(room.may_publish("b"));
        room.end(4);
        assert!(!room.may_publish("b") && room.members.is_empty());
        let again = conference(1).follows(&room);
        assert!(again.sequence > room.sequence);
    }

    #[test]
    fn names_that_would_not_be_a_streams_are_refused() {
        for (app, name) in
            [("api", "a"), ("live", "a~b"), ("live", "a/b"), ("", "a"), ("live", ".a"), ("live", "")]
        {
            assert_eq!(Conference::new(app, name, 1, 1), Err(Refused::Name), "{app} {name}");
        }
        assert_eq!(Conference::new("live", "a", 33, 1), Err(Refused::Speakers));
        assert_eq!(Conference::new("live", "a", 0, 1), Err(Refused::Speakers));
        for id in ["a~b", "a/b", "", "*", &"x".repeat(65)] {
            assert_eq!(conference(1).join(id, Role::Speaker, false, 1), Err(Refused::Id), "{id}");
        }
        assert_eq!(parts("live/room~ann"), Some(("live/room", "ann")));
        assert_eq!(conference(1).stream("ann"), "live/room~ann");
    }

    #[test]
    fn the_largest_one_fits_into_the_registry() {
        let name = "n".repeat(MAX_NAME_BYTES);
        let mut room =
            Conference::new(&"a".repeat(MAX_APP_BYTES), &name, MAX_SPEAKERS, u64::MAX >> 16).unwrap();
        for n in 0..MAX_MEMBERS {
            let role = if n < 32 { Role::Speaker } else { Role::Listener };
            room.join(&format!("{n:064}"), role, true, u64::MAX >> 16).unwrap();
        }
        assert_eq!(room.join("one-more", Role::Listener, false, 1), Err(Refused::TooMany));
        let bytes = serde_json::to_vec(&room).unwrap();
        assert!(bytes.len() < crate::registry::MAX_VALUE_BYTES, "{} bytes", bytes.len());
        assert_eq!(serde_json::from_slice::<Conference>(&bytes).unwrap(), room);
    }

    proptest! {
        /// Who follows the events, from wherever they are still known, has what there is.
        #[test]
        fn events_tell_all_that_changes(
            steps in proptest::collection::vec((0..6_u8, 0..5_u8, any::<bool>()), 1..200),
            back in 0..40_u64,
        ) {
            let mut room = conference(3);
            let mut before = Vec::new();
            for (now, (step, who, flag)) in steps.into_iter().enumerate() {
                before.push(room.clone());
                let (id, now) = (format!("m{who}"), now as u64);
                let role = if flag { Role::Speaker } else { Role::Listener };
                let _ = match step {
                    0 | 1 => room.join(&id, role, false, now).map(|_| ()),
                    2 => room.leave(&id, now),
                    3 => room.mute(&id, flag, now),
                    4 => room.take_role(&id, role, now),
                    _ => { room.set_live(&id, flag, now); Ok(()) }
                };
                prop_assert!(room.speakers() <= 3);
            }
            let Some(mut follower) = before.iter().rev().find(|old| old.sequence + back <= room.sequence).cloned() else { return Ok(()) };
            let Some(events) = room.since(follower.sequence) else { return Ok(()) };
            for happened in events {
                prop_assert_eq!(happened.id, follower.sequence + 1);
                follower.sequence = happened.id;
                let id = happened.member.clone().unwrap_or_default();
                match happened.what {
                    What::Joined => follower.members.push(Member {
                        id, role: happened.role.unwrap(), muted: false, live: false, joined_at_ms: happened.at_ms,
                    }),
                    What::Left => follower.members.retain(|member| member.id != id),
                    What::Live | What::Gone => follower.find(&id).unwrap().live = happened.what == What::Live,
                    What::Muted | What::Unmuted => follower.find(&id).unwrap().muted = happened.what == What::Muted,
                    What::Role => follower.find(&id).unwrap().role = happened.role.unwrap(),
                    What::Ended => follower.members.clear(),
                }
            }
            prop_assert_eq!(follower.members, room.members);
        }
    }
}
