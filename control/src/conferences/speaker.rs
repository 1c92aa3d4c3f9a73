//! Who speaks: one of several levels, with hysteresis, so that it changes when people do and not with each syllable. A state
//! machine: levels and the time in, changes out.

use std::collections::HashMap;
use std::time::Duration;

use tokio::time::Instant;

/// Who is quieter than that is silent, in dB below the loudest (RFC 6464 §3).
const SILENT: u8 = 50;
/// By how much another must be louder than who speaks.
const LOUDER: u8 = 6;
/// For how long it must be.
const FOR: Duration = Duration::from_millis(300);
/// How long somebody who is silent still speaks, unless another does: between two sentences.
const PAUSE: Duration = Duration::from_millis(2_500);
/// Between two changes.
const SELDOM: Duration = Duration::from_millis(300);

/// See the module.
#[derive(Debug, Default)]
pub(super) struct ActiveSpeaker {
    speaks: Option<String>,
    /// When it was heard last.
    heard: Option<Instant>,
    /// Who is about to speak, since when.
    next: Option<(String, Instant)>,
    changed: Option<Instant>,
}

impl ActiveSpeaker {
    /// Who speaks.
    pub(super) fn speaks(&self) -> Option<&str> {
        self.speaks.as_deref()
    }

    /// Takes levels, in dB below the loudest, of those who may be heard. `true`: another speaks, or nobody any more.
    pub(super) fn update(&mut self, now: Instant, levels: &HashMap<&str, u8>) -> bool {
        let level = |who: &str| levels.get(who).copied().filter(|level| *level < SILENT);
        // Of two that are as loud, always the same.
        let loudest =
            levels.iter().filter(|(_, level)| **level < SILENT).min_by_key(|(who, level)| (**level, **who));
        let own = self.speaks.as_deref().and_then(level);
        if own.is_some() {
            self.heard = Some(now);
        }
        let is_over =
            |at: Option<Instant>, time| at.is_none_or(|at| now.saturating_duration_since(at) >= time);
        let challenger = loudest.filter(|(who, level)| {
            self.speaks.as_deref() != Some(**who) && own.is_none_or(|own| level.saturating_add(LOUDER) <= own)
        });
        let Some((who, _)) = challenger else {
            self.next = None;
            let is_gone = self.speaks.as_ref().is_some_and(|speaks| !levels.contains_key(&**speaks));
            if self.speaks.is_some() && own.is_none() && (is_gone || is_over(self.heard, PAUSE)) {
                (self.speaks, self.changed) = (None, Some(now));
                return true;
            }
            return false;
        };
        let since = match &self.next {
            Some((next, since)) if next == who => *since,
            _ => {
                self.next = Some(((*who).to_owned(), now));
                now
            }
        };
        // The first that is heard speaks at once.
        let waits = self.speaks.is_some() && now.saturating_duration_since(since) < FOR;
        if waits || !is_over(self.changed, SELDOM) {
            return false;
        }
        *self = Self { speaks: Some((*who).to_owned()), heard: Some(now), next: None, changed: Some(now) };
        true
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Who speaks after each quarter of a second with these levels.
    fn run(
        speaker: &mut ActiveSpeaker,
        now: &mut Instant,
        levels: &[(&str, u8)],
        times: u32,
    ) -> Vec<Option<String>> {
        let levels: HashMap<&str, u8> = levels.iter().copied().collect();
        let mut changes = Vec::new();
        for _ in 0..times {
            *now += Duration::from_millis(250);
            if speaker.update(*now, &levels) {
                changes.push(speaker.speaks().map(str::to_owned));
            }
        }
        changes
    }

    #[tokio::test]
    async fn a_voice_is_found_kept_and_let_go() {
        let (mut speaker, mut now) = (ActiveSpeaker::default(), Instant::now());
        let who = |who: &str| vec![Some(who.to_owned())];
        assert!(run(&mut speaker, &mut now, &[("a", 127), ("b", 60)], 20).is_empty(), "nobody speaks");
        assert_eq!(run(&mut speaker, &mut now, &[("a", 30), ("b", 60)], 8), who("a"));
        // One that is a little louder does not take its place; one that is clearly so does.
        assert!(run(&mut speaker, &mut now, &[("a", 30), ("b", 27)], 20).is_empty());
        assert!(run(&mut speaker, &mut now, &[("a", 30), ("b", 20)], 1).is_empty(), "not by one syllable");
        assert!(run(&mut speaker, &mut now, &[("a", 30), ("b", 60)], 4).is_empty());
        assert_eq!(run(&mut speaker, &mut now, &[("a", 30), ("b", 20)], 8), who("b"));
        // A pause is no end, unless somebody else speaks in it.
        assert!(run(&mut speaker, &mut now, &[("a", 127), ("b", 127)], 8).is_empty());
        assert_eq!(run(&mut speaker, &mut now, &[("a", 127), ("b", 127)], 8), [None]);
        assert_eq!(run(&mut speaker, &mut now, &[("a", 30), ("b", 127)], 8), who("a"));
        assert_eq!(run(&mut speaker, &mut now, &[("a", 127), ("b", 40)], 8), who("b"));
        // Who leaves speaks no longer.
        assert_eq!(run(&mut speaker, &mut now, &[("a", 127)], 4), [None]);
    }

    #[tokio::test]
    async fn two_who_shout_in_turn_are_told_of_a_few_times_a_second_at_most() {
        let (mut speaker, mut now) = (ActiveSpeaker::default(), Instant::now());
        let mut changes = 0;
        for n in 0..1_000_u32 {
            now += Duration::from_millis(10);
            let (a, b) = if n / 10 % 2 == 0 { (10, 40) } else { (40, 10) };
            changes += usize::from(speaker.update(now, &HashMap::from([("a", a), ("b", b)])));
        }
        assert!(changes <= 30, "{changes} in ten seconds");
    }
}
