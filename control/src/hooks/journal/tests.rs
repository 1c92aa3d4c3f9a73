//! The journal on a disk in memory that loses what was not synced, and fails when it is told to.

use std::collections::HashMap;

use parking_lot::Mutex;
use proptest::prelude::*;

use super::*;
use crate::hooks::event::{Event, Happening, StreamName};

const A: EndpointId = EndpointId(1);
const B: EndpointId = EndpointId(2);

/// A segment's bytes, and how many of them are synced.
type Files = BTreeMap<u64, (Vec<u8>, usize)>;

#[derive(Debug, Clone, Default)]
struct Memory(Arc<Mutex<State>>);

#[derive(Debug, Default)]
struct State {
    files: Files,
    newest: u64,
    /// Fails from this call on; half of what is appended in it is written.
    fail_in: Option<u32>,
}

impl Memory {
    fn fails(&self) -> bool {
        match &mut self.0.lock().fail_in {
            Some(0) => true,
            Some(left) => {
                *left -= 1;
                false
            }
            None => false,
        }
    }

    /// What a machine finds that lost its power: of what was not synced, a share from the front, in 255ths.
    fn crash(&self, share: u8) -> Self {
        let state = self.0.lock();
        let files = state.files.iter().map(|(number, (bytes, synced))| {
            let lost = bytes.len() - synced;
            let kept = synced + lost * usize::from(share) / 255;
            (*number, (bytes[..kept].to_vec(), kept))
        });
        Self(Arc::new(Mutex::new(State { files: files.collect(), ..State::default() })))
    }

    fn bytes(&self) -> usize {
        self.0.lock().files.values().map(|(bytes, _)| bytes.len()).sum()
    }
}

fn failed() -> io::Error {
    io::ErrorKind::StorageFull.into()
}

impl Disk for Memory {
    fn segments(&self) -> io::Result<Vec<u64>> {
        Ok(self.0.lock().files.keys().copied().collect())
    }

    fn read(&self, segment: u64) -> io::Result<Vec<u8>> {
        Ok(self.0.lock().files[&segment].0.clone())
    }

    fn create(&mut self, segment: u64) -> io::Result<()> {
        if self.fails() {
            return Err(failed());
        }
        let mut state = self.0.lock();
        assert!(state.files.insert(segment, (Vec::new(), 0)).is_none(), "a number is used once");
        state.newest = segment;
        Ok(())
    }

    fn append(&mut self, bytes: &[u8]) -> io::Result<()> {
        let fails = self.fails();
        let mut state = self.0.lock();
        let newest = state.newest;
        let file = state.files.get_mut(&newest).unwrap();
        file.0.extend_from_slice(if fails { &bytes[..bytes.len() / 2] } else { bytes });
        if fails { Err(failed()) } else { Ok(()) }
    }

    fn sync(&mut self) -> io::Result<()> {
        if self.fails() {
            return Err(failed());
        }
        let mut state = self.0.lock();
        let newest = state.newest;
        let file = state.files.get_mut(&newest).unwrap();
        file.1 = file.0.len();
        Ok(())
    }

    fn truncate(&mut self, segment: u64, length: u64) -> io::Result<()> {
        if self.fails() {
            return Err(failed());
        }
        let mut state = self.0.lock();
        let file = state.files.get_mut(&segment).unwrap();
        file.0.truncate(usize::try_from(length).unwrap());
        file.1 = file.1.min(file.0.len());
        Ok(())
    }

    fn remove(&mut self, segment: u64) -> io::Result<()> {
        if self.fails() {
            return Err(failed());
        }
        self.0.lock().files.remove(&segment);
        Ok(())
    }
}

const BOUNDS: Bounds = Bounds { live_bytes: 1 << 20, segment_bytes: 1_000 };

fn draft(name: &str, to: &[EndpointId]) -> Draft {
    let stream = StreamName { app: "live".into(), name: name.into() };
    let event = Event::new(Happening::OnDrop, stream, 1, "origin-1");
    let body = Bytes::from(serde_json::to_vec(&event).unwrap());
    Draft { held: Held::parse(0, 1_000, body).unwrap(), to: to.to_vec() }
}

fn open<D: Disk>(disk: D) -> (Journal<D>, Found) {
    Journal::open(disk, BOUNDS).unwrap()
}

/// Numbers and bodies of what is left, and for whom.
fn left<D: Disk>(journal: &Journal<D>) -> BTreeMap<u64, (Bytes, BTreeSet<EndpointId>)> {
    journal
        .live()
        .map(|live| (live.held.seq, (live.held.body.clone(), live.to.iter().copied().collect())))
        .collect()
}

#[test]
fn what_is_not_delivered_is_there_after_a_restart_with_its_number() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("data/hooks");
    let (mut journal, found) = open(Folder::open(&path).unwrap());
    assert_eq!(found, Found::default());
    let drafts = vec![draft("a", &[A, B]), draft("b", &[A]), draft("c", &[B])];
    let accepted = journal.commit(drafts, &[]).unwrap().accepted;
    assert_eq!(accepted.iter().map(|live| live.held.seq).collect::<Vec<_>>(), [1, 2, 3]);
    journal.commit(vec![], &[(1, A), (3, B)]).unwrap();
    let before = left(&journal);
    assert_eq!(before.keys().copied().collect::<Vec<_>>(), [1, 2]);
    assert!(Folder::open(&path).is_err(), "by one at a time");
    drop(journal);
    let (mut journal, found) = open(Folder::open(&path).unwrap());
    assert_eq!((left(&journal), found), (before, Found::default()));
    let accepted = journal.commit(vec![draft("d", &[A])], &[]).unwrap().accepted;
    assert_eq!(accepted[0].held.seq, 4, "no number is used twice");
}

#[test]
fn files_and_folder_are_their_owners() {
    use std::os::unix::fs::PermissionsExt as _;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("hooks");
    let (mut journal, _) = open(Folder::open(&path).unwrap());
    journal.commit(vec![draft("a", &[A])], &[]).unwrap();
    assert_eq!(path.metadata().unwrap().permissions().mode() & 0o777, 0o700);
    for entry in path.read_dir().unwrap() {
        assert_eq!(entry.unwrap().metadata().unwrap().permissions().mode() & 0o777, 0o600);
    }
}

#[test]
fn a_record_that_was_not_finished_is_cut_off_and_a_damaged_one_is_passed_over() {
    let disk = Memory::default();
    let (mut journal, _) = open(disk.clone());
    for name in ["a", "b", "c"] {
        journal.commit(vec![draft(name, &[A])], &[]).unwrap();
    }
    let length = {
        let mut state = disk.0.lock();
        let file = &mut state.files.get_mut(&1).unwrap().0;
        let third = file.len() / 3;
        file[third + 40] ^= 1;
        file.truncate(2 * third + third / 2);
        third
    };
    let (journal, found) = open(disk);
    assert_eq!(left(&journal).keys().copied().collect::<Vec<_>>(), [1]);
    // The damaged one is the last but one: behind it there is nothing whole, so it can't be told from a torn one.
    assert_eq!(found, Found { damaged: 0, torn: (length + length / 2) as u64 });

    let disk = Memory::default();
    let (mut journal, _) = open(disk.clone());
    for name in ["a", "b", "c"] {
        journal.commit(vec![draft(name, &[A])], &[]).unwrap();
    }
    disk.0.lock().files.get_mut(&1).unwrap().0[length + 40] ^= 1;
    let (journal, found) = open(disk);
    assert_eq!(left(&journal).keys().copied().collect::<Vec<_>>(), [1, 3]);
    assert_eq!(found, Found { damaged: 1, torn: 0 });
}

#[test]
fn a_full_journal_drops_the_oldest_for_good() {
    let disk = Memory::default();
    let (mut journal, _) = open(disk.clone());
    let one = journal.commit(vec![draft("a", &[A])], &[]).unwrap().accepted[0].bytes;
    journal.set_bounds(Bounds { live_bytes: 10 * one, ..BOUNDS });
    let mut dropped = Vec::new();
    for _ in 0..99 {
        let committed = journal.commit(vec![draft("a", &[A])], &[]).unwrap();
        dropped.extend(committed.dropped.iter().map(|live| live.held.seq));
        journal.clean().unwrap();
        assert!(journal.bytes().0 <= 10 * one);
    }
    assert_eq!(dropped, (1..=90).collect::<Vec<_>>());
    assert!(disk.bytes() as u64 <= 2 * (10 * one + BOUNDS.segment_bytes) + BOUNDS.segment_bytes);
    let (again, _) = open(disk.crash(0));
    assert_eq!(left(&again).keys().copied().collect::<Vec<_>>(), (91..=100).collect::<Vec<_>>());
}

#[test]
fn one_old_event_does_not_keep_the_files_of_all_that_followed() {
    let disk = Memory::default();
    let (mut journal, _) = open(disk.clone());
    journal.commit(vec![draft("old", &[A, B])], &[]).unwrap();
    journal.commit(vec![], &[(1, A)]).unwrap();
    for seq in 2..=500 {
        journal.commit(vec![draft("a", &[A])], &[]).unwrap();
        journal.commit(vec![], &[(seq, A)]).unwrap();
        journal.clean().unwrap();
        assert!(disk.bytes() < 4_000, "{}", disk.bytes());
    }
    let (again, _) = open(disk.crash(0));
    assert_eq!(left(&again)[&1].1, BTreeSet::from([B]), "and it is still only for who has not had it");
    let again = left(&again);
    assert!(again.keys().all(|seq| *seq == 1 || *seq > 490), "{:?}", again.keys());
}

#[test]
fn segments_are_bounded() {
    let disk = Memory::default();
    let (mut journal, _) = open(disk.clone());
    journal.commit((0..40).map(|_| draft("a", &[A])).collect(), &[]).unwrap();
    let state = disk.0.lock();
    assert!(state.files.len() > 5);
    assert!(state.files.values().all(|(bytes, synced)| bytes.len() <= 1_000 && *synced == bytes.len()));
}

#[test]
fn a_disk_that_fails_accepts_nothing_and_what_was_accepted_stays() {
    for fail_in in 0..8 {
        let disk = Memory::default();
        let (mut journal, _) = open(disk.clone());
        journal.commit(vec![draft("a", &[A])], &[]).unwrap();
        let kept = left(&journal);
        disk.0.lock().fail_in = Some(fail_in);
        let failed = journal.commit((0..12).map(|_| draft("b", &[A])).collect(), &[]).is_err();
        if failed {
            assert_eq!(left(&journal), kept);
        }
        disk.0.lock().fail_in = None;
        journal.commit(vec![draft("c", &[A])], &[]).unwrap();
        journal.clean().unwrap();
        let (again, _) = open(disk.crash(0));
        for (seq, event) in left(&journal) {
            assert_eq!(left(&again).get(&seq), Some(&event), "{fail_in}");
        }
    }
}

#[derive(Debug, Clone)]
enum Step {
    Tell(usize, bool),
    Done(prop::sample::Index, bool),
    Clean,
    Fail(u32),
    Crash(u8),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        4 => (1usize..6, any::<bool>()).prop_map(|(count, both)| Step::Tell(count, both)),
        6 => (any::<prop::sample::Index>(), any::<bool>()).prop_map(|(which, first)| Step::Done(which, first)),
        2 => Just(Step::Clean),
        1 => (0u32..6).prop_map(Step::Fail),
        2 => any::<u8>().prop_map(Step::Crash),
    ]
}

proptest! {
    /// Whenever the machine stops and whatever the disk does: what was accepted and not delivered is there again, whole,
    /// with its number, and for each endpoint that has not had it.
    #[test]
    fn what_was_accepted_survives_any_crash(steps in proptest::collection::vec(step(), 1..80)) {
        let mut disk = Memory::default();
        let (mut journal, _) = open(disk.clone());
        // What must be there, and all that was ever told.
        let mut owed: BTreeMap<u64, (Bytes, BTreeSet<EndpointId>)> = BTreeMap::new();
        let mut told: HashMap<Bytes, usize> = HashMap::new();
        for step in steps {
            match step {
                Step::Tell(count, both) => {
                    let to: &[_] = if both { &[A, B] } else { &[A] };
                    let drafts: Vec<_> = (0..count).map(|_| draft("a", to)).collect();
                    for draft in &drafts {
                        *told.entry(draft.held.body.clone()).or_default() += 1;
                    }
                    if let Ok(committed) = journal.commit(drafts, &[]) {
                        prop_assert!(committed.dropped.is_empty());
                        for live in committed.accepted {
                            let new = owed.insert(live.held.seq, (live.held.body.clone(), live.to.into_iter().collect()));
                            prop_assert!(new.is_none());
                        }
                    }
                }
                Step::Done(which, first) => if !owed.is_empty() {
                    let seq = *which.get(&owed.keys().copied().collect::<Vec<_>>());
                    let at = if first { A } else { B };
                    let _ = journal.commit(vec![], &[(seq, at)]);
                    let event = owed.get_mut(&seq).unwrap();
                    event.1.remove(&at);
                    if event.1.is_empty() {
                        owed.remove(&seq);
                    }
                },
                Step::Clean => drop(journal.clean()),
                Step::Fail(calls) => disk.0.lock().fail_in = Some(calls),
                Step::Crash(share) => {
                    disk = disk.crash(share);
                    journal = open(disk.clone()).0;
                    let found = left(&journal);
                    for (seq, (body, to)) in &owed {
                        let (found, found_to) = &found[seq];
                        prop_assert_eq!(found, body);
                        prop_assert!(found_to.is_superset(to));
                    }
                    for (body, _) in found.values() {
                        prop_assert_eq!(told.get(body), Some(&1));
                    }
                    // At least once: what was delivered and is found again is owed again.
                    owed = found;
                }
            }
            prop_assert!(owed.keys().all(|seq| journal.live.contains_key(seq)));
            let bytes: u64 = journal.segments.values().map(|segment| segment.bytes).sum();
            prop_assert_eq!(journal.bytes, bytes);
            prop_assert_eq!(journal.live_bytes, journal.live.values().map(|live| live.bytes).sum::<u64>());
        }
    }
}
