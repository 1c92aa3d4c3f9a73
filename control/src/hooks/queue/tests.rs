//! The queue in time that stands until it is moved.

use bytes::Bytes;
use proptest::prelude::*;

use super::*;
use crate::hooks::event::{Event, EventKind, Happening};

const POLICY: Policy =
    Policy { max_concurrent: 4, max_attempts: 100, give_up_after: Duration::from_secs(86_400) };

fn held(seq: u64, stream: &str) -> Arc<Held> {
    let stream = StreamName { app: "live".into(), name: stream.into() };
    let id = Event::new(Happening::OnDrop, stream.clone(), 1, "n").id;
    Arc::new(Held { seq, kind: EventKind::OnDrop, id, stream, accepted_ms: 0, body: Bytes::new() })
}

struct Endpoint {
    queue: Queue,
    now: Instant,
    policy: Policy,
}

impl Endpoint {
    fn new() -> Self {
        Self { queue: Queue::default(), now: Instant::now(), policy: POLICY }
    }

    fn push(&mut self, seq: u64, stream: &str) -> Arc<Held> {
        let held = held(seq, stream);
        self.queue.push(Arc::clone(&held), self.now + self.policy.give_up_after);
        held
    }

    fn take(&mut self) -> Option<Arc<Held>> {
        match self.queue.take(self.now, &self.policy) {
            Next::Deliver(held) => Some(held),
            Next::Wait(_) => None,
        }
    }

    /// Moves the time to when there is something, and takes it; how long that was.
    fn wait(&mut self) -> (Duration, Arc<Held>) {
        let from = self.now;
        loop {
            match self.queue.take(self.now, &self.policy) {
                Next::Deliver(held) => return (self.now - from, held),
                Next::Wait(at) => self.now = at.unwrap(),
            }
        }
    }

    fn settle(&mut self, held: &Held, attempt: Attempt) -> Settled {
        // The longest pause.
        self.queue.settle(held, attempt, self.now, &self.policy, u64::MAX)
    }
}

#[test]
fn events_of_a_stream_go_one_after_the_other_and_those_of_others_beside_them() {
    let mut e = Endpoint::new();
    for (seq, stream) in [(1, "a"), (2, "a"), (3, "b"), (4, "c"), (5, "d"), (6, "e")] {
        e.push(seq, stream);
    }
    let taken: Vec<_> = std::iter::from_fn(|| e.take()).collect();
    assert_eq!(taken.iter().map(|held| held.seq).collect::<Vec<_>>(), [1, 3, 4, 5], "four at once");
    assert_eq!(e.settle(&taken[0], Attempt::Taken), Settled::Done);
    assert_eq!(e.take().unwrap().seq, 2, "the oldest first");
    assert!(e.take().is_none());
    assert_eq!(e.queue.len(), 5);
}

#[test]
fn a_stream_that_fails_does_not_hold_others_and_keeps_its_order() {
    let mut e = Endpoint::new();
    let first = e.push(1, "a");
    e.push(2, "a");
    assert_eq!(e.take().unwrap().seq, 1);
    assert_eq!(e.settle(&first, Attempt::Failed(None)), Settled::Again);
    let other = e.push(3, "b");
    assert_eq!(e.take().unwrap().seq, 3);
    assert_eq!(e.settle(&other, Attempt::Taken), Settled::Done);
    for seconds in [1, 2, 4, 8] {
        let (waited, held) = e.wait();
        assert_eq!((waited.as_secs(), held.seq), (seconds, 1));
        assert_eq!(e.settle(&held, Attempt::Failed(None)), Settled::Again);
        // Somebody else's success in between keeps it that stream's matter.
        let other = e.push(100 + seconds, "b");
        let held = e.take().unwrap();
        assert_eq!(held.seq, other.seq);
        e.settle(&held, Attempt::Taken);
    }
    let (_, held) = e.wait();
    e.settle(&held, Attempt::Taken);
    assert_eq!(e.take().unwrap().seq, 2);
}

#[test]
fn an_endpoint_that_fails_is_asked_by_one_at_a_time_and_all_goes_on_when_it_is_back() {
    let mut e = Endpoint::new();
    for seq in 1..=20 {
        e.push(seq, &format!("s{seq}"));
    }
    let taken: Vec<_> = std::iter::from_fn(|| e.take()).collect();
    for held in &taken {
        e.settle(held, Attempt::Failed(None));
    }
    assert!(e.queue.has_failed());
    for seconds in [1, 2, 4, 8, 16, 32, 64, 128, 256, 300, 300] {
        let (waited, held) = e.wait();
        assert_eq!(waited.as_secs(), seconds);
        assert!(e.take().is_none(), "one at a time");
        e.settle(&held, Attempt::Failed(None));
    }
    let (_, held) = e.wait();
    e.settle(&held, Attempt::Taken);
    let taken = std::iter::from_fn(|| e.take()).count();
    assert_eq!(taken, 4, "nothing waits for its own pause any more");
}

#[test]
fn retry_after_is_kept_even_where_others_succeed() {
    let mut e = Endpoint::new();
    let (a, b) = (e.push(1, "a"), e.push(2, "b"));
    assert!(e.take().is_some() && e.take().is_some());
    e.settle(&a, Attempt::Failed(Some(Duration::from_secs(30))));
    e.settle(&b, Attempt::Taken);
    e.push(3, "c");
    let (waited, held) = e.wait();
    assert_eq!(waited.as_secs(), 30);
    assert_eq!(held.seq, 1);
}

#[test]
fn an_event_is_given_up_after_so_many_attempts_or_so_long() {
    let mut e = Endpoint::new();
    e.policy.max_attempts = 3;
    e.push(1, "a");
    e.push(2, "a");
    let mut last = Settled::Again;
    for _ in 0..3 {
        assert_eq!(last, Settled::Again);
        let (_, held) = e.wait();
        assert_eq!(held.seq, 1);
        last = e.settle(&held, Attempt::Failed(None));
    }
    assert_eq!(last, Settled::GivenUp);
    let (_, second) = e.wait();
    assert_eq!(second.seq, 2);
    assert_eq!(e.settle(&second, Attempt::Rejected), Settled::GivenUp);
    assert_eq!(e.queue.len(), 0);

    let mut e = Endpoint::new();
    e.policy.give_up_after = Duration::from_secs(600);
    let (began, _) = (e.now, e.push(1, "a"));
    loop {
        let (_, held) = e.wait();
        if e.settle(&held, Attempt::Failed(None)) == Settled::GivenUp {
            break;
        }
    }
    let after = (e.now - began).as_secs();
    assert!((600..=900).contains(&after), "{after}");
}

#[test]
fn what_is_dropped_on_its_way_is_not_tried_again() {
    let mut e = Endpoint::new();
    let (first, second) = (e.push(1, "a"), e.push(2, "a"));
    e.take();
    e.queue.remove(&first);
    e.queue.remove(&first);
    assert_eq!(e.queue.len(), 1);
    assert_eq!(e.settle(&first, Attempt::Failed(None)), Settled::Dropped);
    assert_eq!(e.take().unwrap().seq, 2);
    assert_eq!(e.settle(&second, Attempt::Failed(None)), Settled::Again);
    e.queue.remove(&second);
    assert_eq!(e.queue.len(), 0);
    assert!(e.queue.lanes.is_empty() && e.queue.ready.is_empty() && e.queue.paused.is_empty());
}

#[derive(Debug, Clone)]
enum Step {
    Push(u8),
    Take,
    Settle(usize, u8),
    Remove(usize),
    Pass(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        3 => (0u8..5).prop_map(Step::Push),
        3 => Just(Step::Take),
        3 => (any::<usize>(), any::<u8>()).prop_map(|(which, how)| Step::Settle(which, how)),
        1 => any::<usize>().prop_map(Step::Remove),
        1 => (0u64..400).prop_map(Step::Pass),
    ]
}

proptest! {
    /// Whatever happens, each event is taken in its stream's order, never twice at once, and none is forgotten.
    #[test]
    fn nothing_is_lost_doubled_or_out_of_order(steps in proptest::collection::vec(step(), 0..200)) {
        let mut e = Endpoint::new();
        let mut seq = 0;
        let mut queued: BTreeMap<u64, Arc<Held>> = BTreeMap::new();
        let mut flying: Vec<Arc<Held>> = Vec::new();
        for step in steps {
            match step {
                Step::Push(stream) => {
                    seq += 1;
                    queued.insert(seq, e.push(seq, &stream.to_string()));
                }
                Step::Take => if let Some(held) = e.take() {
                    prop_assert!(flying.iter().all(|other| other.stream != held.stream));
                    let first = queued.values().find(|other| other.stream == held.stream).unwrap();
                    prop_assert_eq!(first.seq, held.seq);
                    flying.push(held);
                },
                Step::Settle(which, how) => if !flying.is_empty() {
                    let held = flying.remove(which % flying.len());
                    let attempt = match how {
                        0..100 => Attempt::Taken,
                        100..120 => Attempt::Rejected,
                        120..140 => Attempt::Failed(Some(Duration::from_secs(how.into()))),
                        _ => Attempt::Failed(None),
                    };
                    let settled = e.settle(&held, attempt);
                    prop_assert_eq!(settled == Settled::Dropped, !queued.contains_key(&held.seq));
                    if settled != Settled::Again {
                        queued.remove(&held.seq);
                    }
                },
                Step::Remove(which) => if !queued.is_empty() {
                    let seq = *queued.keys().nth(which % queued.len()).unwrap();
                    e.queue.remove(&queued.remove(&seq).unwrap());
                },
                Step::Pass(seconds) => e.now += Duration::from_secs(seconds),
            }
            prop_assert_eq!(e.queue.len(), queued.len());
            prop_assert_eq!(e.queue.in_flight(), flying.len());
        }
        for held in flying.drain(..) {
            e.settle(&held, Attempt::Taken);
            queued.remove(&held.seq);
        }
        while !queued.is_empty() {
            let (_, held) = e.wait();
            prop_assert!(queued.remove(&held.seq).is_some());
            e.settle(&held, Attempt::Taken);
        }
        prop_assert!(e.queue.lanes.is_empty() && e.queue.ready.is_empty() && e.queue.paused.is_empty());
    }
}
