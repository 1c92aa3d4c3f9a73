//! The newest changes, for watches to begin with: as many as a bound allows.

use std::collections::VecDeque;

use super::{Change, RegistryError, Revision};

/// Changes that one answer to a watch carries at most: the lock is held as long as they are looked for.
const MAX_BATCH: usize = 1024;
/// Bytes that a change costs beside its name and value.
const CHANGE_BYTES: usize = 64;

/// The newest changes, in order.
#[derive(Debug)]
pub(super) struct History {
    changes: VecDeque<Change>,
    bytes: usize,
    max_changes: usize,
    max_bytes: usize,
    /// The newest change that is not kept.
    dropped: Revision,
}

/// What a watch is to be told.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct News {
    pub(super) changes: Vec<Change>,
    /// The newest change that was looked at.
    pub(super) reached: Revision,
    /// Whether that is all.
    pub(super) complete: bool,
}

impl History {
    /// Without changes; all up to `dropped` are not kept.
    pub(super) fn new(dropped: Revision, max_changes: usize, max_bytes: usize) -> Self {
        Self { changes: VecDeque::new(), bytes: 0, max_changes, max_bytes, dropped }
    }

    /// Keeps a change, newer than all before, and drops the oldest that no longer fit.
    pub(super) fn push(&mut self, change: Change) {
        self.bytes += size(&change);
        self.changes.push_back(change);
        while self.changes.len() > self.max_changes || self.bytes > self.max_bytes {
            let Some(oldest) = self.changes.pop_front() else { break };
            self.bytes -= size(&oldest);
            self.dropped = oldest.revision();
        }
    }

    /// What comes after a change, of names that begin alike.
    pub(super) fn after(&self, after: Revision, prefix: &str) -> Result<News, RegistryError> {
        if after < self.dropped {
            return Err(RegistryError::Compacted);
        }
        let first = self.changes.partition_point(|change| change.revision() <= after);
        let looked_at = || self.changes.range(first..).take(MAX_BATCH);
        Ok(News {
            changes: looked_at().filter(|change| change.key().starts_with(prefix)).cloned().collect(),
            reached: looked_at().next_back().map_or(after, Change::revision),
            complete: self.changes.len() - first <= MAX_BATCH,
        })
    }
}

fn size(change: &Change) -> usize {
    let value = match change {
        Change::Put(entry) => entry.value.len(),
        Change::Deleted { .. } => 0,
    };
    CHANGE_BYTES + change.key().len() + value
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gone(key: &str, revision: u64) -> Change {
        Change::Deleted { key: key.to_owned(), revision: Revision(revision) }
    }

    #[test]
    fn it_keeps_the_newest_and_knows_what_it_dropped() {
        let mut history = History::new(Revision(10), 3, usize::MAX);
        assert_eq!(history.after(Revision(10), "").unwrap().changes, []);
        assert!(matches!(history.after(Revision(9), ""), Err(RegistryError::Compacted)));
        for revision in 11..=14 {
            history.push(gone("a", revision));
        }
        assert!(matches!(history.after(Revision(10), ""), Err(RegistryError::Compacted)));
        let news = history.after(Revision(11), "").unwrap();
        assert_eq!(news.changes, [gone("a", 12), gone("a", 13), gone("a", 14)]);
        assert_eq!((news.reached, news.complete), (Revision(14), true));
        assert_eq!(history.after(Revision(20), "").unwrap().reached, Revision(20));
    }

    #[test]
    fn bytes_are_bounded_too() {
        let mut history = History::new(Revision(0), usize::MAX, 3 * (CHANGE_BYTES + 1));
        for revision in 1..=10 {
            history.push(gone("a", revision));
        }
        assert!(matches!(history.after(Revision(6), ""), Err(RegistryError::Compacted)));
        assert_eq!(history.after(Revision(7), "").unwrap().changes.len(), 3);
    }

    #[test]
    fn an_answer_is_bounded_and_says_where_to_go_on() {
        let mut history = History::new(Revision(0), usize::MAX, usize::MAX);
        for revision in 1..=3000 {
            history.push(gone(if revision == 2500 { "b" } else { "a" }, revision));
        }
        let mut at = Revision(0);
        let mut found = Vec::new();
        let mut answers = 0;
        loop {
            let news = history.after(at, "b").unwrap();
            assert!(news.reached > at);
            answers += 1;
            at = news.reached;
            found.extend(news.changes);
            if news.complete {
                break;
            }
        }
        assert_eq!((found, answers), (vec![gone("b", 2500)], 3));
    }
}
