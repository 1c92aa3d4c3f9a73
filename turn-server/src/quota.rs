//! How many allocations there may be, and of whom.

use std::sync::Arc;

use ahash::AHashMap;
use parking_lot::Mutex;

/// Counts allocations, all and of each user.
#[derive(Debug)]
pub(crate) struct Quota {
    max: usize,
    max_per_user: usize,
    // As many entries as allocations at most.
    users: Arc<Mutex<(usize, AHashMap<String, usize>)>>,
}

/// The place of one allocation, which is free again when it is dropped.
#[derive(Debug)]
pub(crate) struct Place {
    user: String,
    users: Arc<Mutex<(usize, AHashMap<String, usize>)>>,
}

/// Whose is full.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Full {
    #[error("no more allocations")]
    All,
    #[error("no more allocations of this user")]
    User,
}

impl Quota {
    pub(crate) fn new(max: usize, max_per_user: usize) -> Self {
        Self { max, max_per_user, users: Arc::default() }
    }

    pub(crate) fn take(&self, user: &str) -> Result<Place, Full> {
        let mut users = self.users.lock();
        let (all, of_each) = &mut *users;
        if *all >= self.max {
            return Err(Full::All);
        }
        let own = of_each.get(user).copied().unwrap_or_default();
        if own >= self.max_per_user {
            return Err(Full::User);
        }
        of_each.insert(user.to_owned(), own + 1);
        *all += 1;
        Ok(Place { user: user.to_owned(), users: Arc::clone(&self.users) })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut users = self.users.lock();
        let (all, of_each) = &mut *users;
        *all = all.saturating_sub(1);
        match of_each.get_mut(&self.user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => drop(of_each.remove(&self.user)),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn places_are_counted_by_user_and_come_back() {
        let quota = Quota::new(3, 2);
        let first = quota.take("a").unwrap();
        let second = quota.take("a").unwrap();
        assert_eq!(quota.take("a").unwrap_err(), Full::User);
        let third = quota.take("b").unwrap();
        assert_eq!(quota.take("c").unwrap_err(), Full::All);
        drop((first, third));
        let again = quota.take("a").unwrap();
        drop((second, again));
        assert_eq!(*quota.users.lock(), (0, AHashMap::new()));
    }
}
