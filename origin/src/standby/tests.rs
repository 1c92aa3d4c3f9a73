//! Backups that wait, go on, and wait again.

use std::time::Duration;

use async_trait::async_trait;
use media_core::hub::{Consumer, Event, Unit};

use super::*;
use crate::testing::{clip, key, origin, publisher, send};
use crate::{Config, LeaseRefused, Leases};

fn backup() -> Publisher {
    Publisher { remote_addr: "192.0.2.2:5000".to_owned(), backup: true, ..publisher() }
}

async fn publish(origin: &Origin, publisher: Publisher) -> Publication {
    let mut publication = origin.admit(&key(), publisher).await.unwrap();
    publication.set_tracks(clip().0).unwrap();
    publication
}

/// Waits for the next unit of the stream.
async fn next(viewer: &mut Consumer) -> Unit {
    let stream = Arc::clone(viewer.stream());
    tokio::time::timeout(Duration::from_secs(10), async {
        loop {
            let changed = stream.changed();
            match viewer.try_next() {
                Some(Event::Unit(unit)) => return unit,
                Some(Event::Ended) => panic!("the stream has ended"),
                None => changed.await,
            }
        }
    })
    .await
    .unwrap()
}

fn who(origin: &Origin) -> String {
    origin.stream(&key()).unwrap().publisher.remote_addr.unwrap()
}

#[tokio::test]
async fn a_backup_goes_on_at_once_and_gives_way_to_the_publisher() {
    let origin = origin(Config::default());
    let mut primary = publish(&origin, publisher()).await;
    send(&mut primary, 0);
    let mut waiting = publish(&origin, backup()).await;
    send(&mut waiting, 5_000);
    assert_eq!((origin.publishers(), origin.streams().len()), (2, 1));
    let mut viewer = origin.registry().subscribe(&key()).unwrap();
    let mut last = next(&mut viewer).await;
    while let Some(Event::Unit(unit)) = viewer.try_next() {
        last = unit;
    }

    // What it sent before it was needed begins with a keyframe, for viewers and after what they have.
    drop(primary);
    let first = next(&mut viewer).await;
    assert!(first.frame.keyframe && first.tracks.epoch > last.tracks.epoch);
    assert!(first.frame.dts > last.frame.dts);
    assert_eq!((origin.publishers(), who(&origin).as_str()), (1, "192.0.2.2:5000"));
    send(&mut waiting, 10_000);
    let mut newest = next(&mut viewer).await;
    while let Some(Event::Unit(unit)) = viewer.try_next() {
        newest = unit;
    }
    assert_eq!(newest.tracks.epoch, first.tracks.epoch);

    // A second one is not needed, nor does one that is no backup wait.
    assert!(origin.admit(&key(), backup()).await.is_err());
    let mut primary = publish(&origin, publisher()).await;
    send(&mut primary, 0);
    while next(&mut viewer).await.tracks.epoch <= newest.tracks.epoch {}
    assert_eq!(who(&origin), "192.0.2.1:5000");
    assert!(origin.admit(&key(), publisher()).await.is_err());

    drop(primary);
    while who(&origin) != "192.0.2.2:5000" {
        tokio::task::yield_now().await;
    }
    // A backup that leaves is waited for like any publisher.
    drop(waiting);
    while origin.stream(&key()).unwrap().state == control_api::StreamState::Live {
        tokio::task::yield_now().await;
    }
    assert!(origin.backups().is_empty() && origin.standbys().state.lock().publishers.is_empty());
}

#[tokio::test]
async fn a_backup_that_finds_nobody_publishes_and_an_operator_ends_it() {
    let origin = origin(Config::default());
    let mut alone = publish(&origin, backup()).await;
    send(&mut alone, 0);
    let mut viewer = origin.registry().subscribe(&key()).unwrap();
    next(&mut viewer).await;
    assert!(origin.kick(&key()));
    assert_eq!(alone.revoked().await, Revoked::Kicked);
    drop(alone);
    assert!(origin.stream(&key()).is_none() && !origin.kick(&key()));
}

/// Another origin has the stream until it is told otherwise.
#[derive(Debug)]
struct Elsewhere(Mutex<bool>);

#[async_trait]
impl Leases for Elsewhere {
    fn has_others(&self) -> bool {
        true
    }

    async fn take(
        &self,
        _: &StreamKey,
        own: Epoch,
        purpose: Purpose,
        publisher: &Publisher,
    ) -> Result<Lease, LeaseRefused> {
        match (*self.0.lock(), purpose) {
            (true, Purpose::Publish { .. }) if publisher.backup => Ok(Lease::Standby),
            (true, _) => Err(LeaseRefused("elsewhere".to_owned())),
            (false, _) => Ok(Lease::Held(Epoch(own.0 + 1_000))),
        }
    }
}

#[tokio::test]
async fn a_backup_of_another_origins_publisher_waits_until_it_is_told() {
    let origin = origin(Config::default());
    let leases = Arc::new(Elsewhere(Mutex::new(true)));
    origin.lease_from(Arc::<Elsewhere>::clone(&leases));
    let mut waiting = publish(&origin, backup()).await;
    send(&mut waiting, 0);
    origin.promote(&key()).await;
    assert_eq!((origin.stream(&key()), origin.backups()), (None, vec![key()]));
    *leases.0.lock() = false;
    origin.promote(&key()).await;
    let mut viewer = origin.registry().subscribe(&key()).unwrap();
    assert!(next(&mut viewer).await.frame.keyframe);

    // Another origin has it: this one's backup waits again, and its connection does not notice.
    assert!(origin.revoke(&key(), viewer.stream().snapshot().tracks.epoch));
    while origin.registry().stream(&key()).is_some() {
        tokio::task::yield_now().await;
    }
    send(&mut waiting, 5_000);
    assert_eq!(origin.backups(), [key()]);
}

/// Nobody can be asked.
#[derive(Debug)]
struct CutOff;

#[async_trait]
impl Leases for CutOff {
    fn has_others(&self) -> bool {
        true
    }

    async fn take(
        &self,
        _: &StreamKey,
        own: Epoch,
        purpose: Purpose,
        publisher: &Publisher,
    ) -> Result<Lease, LeaseRefused> {
        let is_new_backup = publisher.backup && purpose != Purpose::Promote;
        Ok(if is_new_backup { Lease::Undecided } else { Lease::Held(own) })
    }
}

#[tokio::test]
async fn a_backup_that_comes_while_nobody_can_be_asked_publishes_only_what_was_here() {
    let origin = origin(Config::default());
    origin.lease_from(Arc::new(CutOff));
    let mut waiting = publish(&origin, backup()).await;
    send(&mut waiting, 0);
    for _ in 0..100 {
        tokio::task::yield_now().await;
    }
    assert_eq!((origin.stream(&key()), origin.backups()), (None, vec![key()]));
    drop(waiting);

    let mut main = publish(&origin, Publisher { backup: false, ..backup() }).await;
    send(&mut main, 0);
    let mut waiting = publish(&origin, backup()).await;
    send(&mut waiting, 5_000);
    let mut viewer = origin.registry().subscribe(&key()).unwrap();
    let first = next(&mut viewer).await.tracks.epoch;
    drop(main);
    while next(&mut viewer).await.tracks.epoch == first {}
}
