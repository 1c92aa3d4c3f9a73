//! Viewers beside a follower, who sends to all at once that have what it has.

use super::*;

struct Group {
    fanout: Fanout,
    studio: Studio,
    follower: Follower,
    now: Instant,
}

impl Group {
    /// All have the first keyframe.
    fn new() -> Self {
        let (mut studio, now) = (Studio::new(), Instant::now());
        let fanout = Fanout::new(&config(), now);
        let (tags, _) = studio::events(&[studio.picture(true, 100)]);
        tags.into_iter().for_each(|tag| fanout.push(tag, now));
        let follower = fanout.enter(Format::Flv, Start::Gop).outlet().follow();
        Self { fanout, studio, follower, now }
    }

    fn push(&mut self, keyframes: &[bool]) {
        // The encoder says once what the tracks are; the fan-out knows.
        for keyframe in keyframes {
            let (tags, _) = studio::events(&[self.studio.picture(true, 100)]);
            for mut tag in tags.into_iter().filter(|tag| !tag.is_metadata && !tag.is_sequence_header) {
                tag.is_keyframe = *keyframe;
                self.fanout.push(tag, self.now);
            }
        }
    }

    /// What the group is sent: numbers of frames.
    fn flush(&mut self) -> Vec<u64> {
        let mut units = Vec::new();
        self.follower.read(Waker::noop(), None, self.now, &mut units);
        frames(&units)
    }

    /// What a viewer is sent until it waits, and whether it goes with the group then.
    fn turn(&self, viewer: &mut super::super::Reader) -> (Vec<u64>, bool) {
        let (until, mut units, mut ahead) = (self.follower.position(), Vec::new(), Vec::new());
        while let Step::Send(bytes) = viewer.step(until, self.now) {
            units.push(bytes);
            viewer.ahead(until, 150, &mut ahead);
            for unit in ahead.drain(..) {
                units.push(unit.bytes);
                viewer.advance(unit.version);
            }
        }
        (frames(&units), viewer.is_at(until))
    }
}

/// A head or none, and frames.
fn frames(units: &[Bytes]) -> Vec<u64> {
    let header = units.iter().all(|unit| !unit.starts_with(b"FLV"));
    let header = header.then(|| Bytes::copy_from_slice(&flv::header(true, true)));
    numbers(&read(&header.into_iter().chain(units.iter().cloned()).collect::<Vec<_>>()))
}

#[test]
fn a_first_picture_does_not_wait_for_the_group() {
    for before in 0..3 {
        let mut group = Group::new();
        // That the group has not been sent: pictures, a keyframe, pictures.
        group.push(&[false, false][..before]);
        group.push(&[true, false, false]);
        let first = u64::try_from(before).unwrap() + 1;
        let mut viewer = group.fanout.enter(Format::Flv, Start::Gop);
        assert_eq!(group.turn(&mut viewer), ((first..first + 3).collect(), false), "{before}");
        group.push(&[false]);
        assert_eq!(group.flush(), (1..first + 4).collect::<Vec<_>>());
        // More comes before its turn: it goes with the group all the same.
        group.push(&[false, true]);
        assert_eq!(group.turn(&mut viewer), (vec![first + 3], true));
        assert_eq!(group.flush(), [first + 4, first + 5]);
    }
}

#[test]
fn who_began_with_all_that_there_is_goes_with_the_group_once_that_has_it_too() {
    let mut group = Group::new();
    group.push(&[true, false]);
    let mut viewer = group.fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(group.turn(&mut viewer), (vec![1, 2], false));
    assert_eq!(group.flush(), [1, 2]);
    group.push(&[false]);
    assert_eq!(group.turn(&mut viewer), (vec![], true));
    assert_eq!(group.flush(), [3]);
}

#[test]
fn who_is_behind_the_group_goes_on_until_it_has_what_that_has() {
    let mut group = Group::new();
    group.push(&[false, false]);
    assert_eq!(group.flush(), [1, 2]);
    group.push(&[false]);
    let mut viewer = group.fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(group.turn(&mut viewer), (vec![0, 1, 2], true));
    assert_eq!(group.flush(), [3]);
}

#[test]
fn who_comes_to_a_stream_without_a_place_to_start_goes_on_with_what_comes() {
    let mut group = Group::new();
    // A keyframe so long ago is none.
    group.push(&[false; 510]);
    let mut viewer = group.fanout.enter(Format::Flv, Start::Gop);
    assert_eq!(group.turn(&mut viewer), (vec![], false));
    group.push(&[false]);
    assert_eq!(group.flush().last(), Some(&511));
    assert_eq!(group.turn(&mut viewer), (vec![511], true));
}
