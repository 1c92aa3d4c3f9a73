//! What the schedule promises, over fleets of all kinds.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use proptest::prelude::*;

use super::*;

const GIGABIT: u64 = 1_000_000_000;

fn node(name: &str) -> Node {
    Node {
        name: name.to_owned(),
        labels: Labels::default(),
        weight: 1.0,
        capacity_bps: 10 * GIGABIT,
        max_connections: 100_000,
    }
}

fn at(name: &str, region: &str, isp: &str) -> Node {
    let label = |text: &str| (!text.is_empty()).then(|| text.to_owned());
    Node { labels: Labels { region: label(region), isp: label(isp) }, ..node(name) }
}

fn weighing(name: &str, weight: f32) -> Node {
    Node { weight, ..node(name) }
}

fn fleet(nodes: impl IntoIterator<Item = Node>) -> Fleet {
    let fleet = Fleet::new(Config::default());
    fleet.set_all(nodes).unwrap();
    fleet
}

fn numbered(count: usize) -> Fleet {
    fleet((0..count).map(|n| node(&format!("edge-{n}"))))
}

/// So full by what it sends.
fn full(share: f64) -> Load {
    #[expect(clippy::cast_possible_truncation, reason = "a few gigabits")]
    let bandwidth_bps = (share * 10.0 * GIGABIT as f64) as u64;
    Load { bandwidth_bps, connections: 1000, ..Load::default() }
}

fn names(nodes: &[Arc<Node>]) -> Vec<&str> {
    nodes.iter().map(|node| node.name.as_str()).collect()
}

fn first(fleet: &Fleet, stream: &str) -> String {
    fleet.preview(stream, &Labels::default(), 1).first().unwrap().name.clone()
}

fn stream(n: usize) -> String {
    format!("live/{n}")
}

/// How many of so many streams each node has.
fn shares(fleet: &Fleet, streams: usize) -> HashMap<String, usize> {
    let mut shares = HashMap::new();
    for n in 0..streams {
        *shares.entry(first(fleet, &stream(n))).or_default() += 1;
    }
    shares
}

fn fullness(fleet: &Fleet, name: &str) -> f32 {
    fleet.statuses().iter().find(|status| status.node.name == name).unwrap().fullness
}

#[test]
fn the_choice_is_the_same_in_every_release() {
    let fleet = numbered(50);
    assert_eq!(
        names(&fleet.preview("live/a", &Labels::default(), 4)),
        ["edge-16", "edge-31", "edge-45", "edge-27"]
    );
}

#[test]
fn streams_are_spread_evenly() {
    let shares = shares(&numbered(100), 100_000);
    assert_eq!(shares.len(), 100);
    // A node whose points lie close behind others' has less, and nobody has much more.
    assert!(shares.values().all(|share| (600..1_200).contains(share)), "{shares:?}");
}

#[test]
fn shares_are_as_weights_are() {
    let weights = [0.1, 0.3, 1.0, 2.5, 4.0];
    let nodes = (0..200).map(|n| weighing(&format!("edge-{n}"), weights[n % weights.len()]));
    let (fleet, streams) = (fleet(nodes), 200_000);
    let mut of_weight = HashMap::new();
    for (name, share) in shares(&fleet, streams) {
        let n: usize = name.trim_start_matches("edge-").parse().unwrap();
        *of_weight.entry(n % weights.len()).or_insert(0.0) += share as f64;
    }
    let one = streams as f64 / weights.iter().sum::<f32>() as f64;
    for (n, weight) in weights.into_iter().enumerate() {
        let ratio = of_weight[&n] / (one * f64::from(weight));
        assert!((0.85..1.15).contains(&ratio), "weight {weight}: {ratio} of its share");
    }
}

#[test]
fn a_node_that_joins_takes_its_share_and_nothing_else_moves() {
    let fleet = numbered(100);
    let before: Vec<_> = (0..20_000).map(|n| first(&fleet, &stream(n))).collect();
    fleet.set(node("new")).unwrap();
    let mut moved = 0;
    for (n, before) in before.into_iter().enumerate() {
        let after = first(&fleet, &stream(n));
        assert!(after == before || after == "new", "{} went from {before} to {after}", stream(n));
        moved += usize::from(after != before);
    }
    assert!((100..260).contains(&moved), "{moved} of 20,000 moved, 198 are its share");
}

#[test]
fn what_a_node_leaves_goes_to_many() {
    let fleet = numbered(100);
    let before: Vec<_> = (0..50_000).map(|n| first(&fleet, &stream(n))).collect();
    fleet.remove("edge-7");
    let mut heirs: HashMap<String, usize> = HashMap::new();
    for (n, before) in before.into_iter().enumerate() {
        let after = first(&fleet, &stream(n));
        if before == "edge-7" {
            *heirs.entry(after).or_default() += 1;
        } else {
            assert_eq!(after, before, "{} moved", stream(n));
        }
    }
    let (all, most) = (heirs.values().sum::<usize>(), heirs.values().max().unwrap());
    assert!(heirs.len() > 80 && *most < all / 10, "{all} to {}, {most} of them to one", heirs.len());
}

#[test]
fn a_weight_that_grows_only_takes() {
    let fleet = numbered(20);
    let before: Vec<_> = (0..5_000).map(|n| first(&fleet, &stream(n))).collect();
    fleet.set(weighing("edge-3", 1.6)).unwrap();
    for (n, before) in before.into_iter().enumerate() {
        let after = first(&fleet, &stream(n));
        assert!(after == before || after == "edge-3", "{} went from {before} to {after}", stream(n));
    }
}

#[test]
fn the_nearest_come_first() {
    let fleet = fleet([
        at("far", "us", "att"),
        at("both", "eu", "dt"),
        at("region", "eu", "orange"),
        at("isp", "us", "dt"),
        at("nowhere", "", ""),
    ]);
    for n in 0..50 {
        let ranked = fleet.preview(&stream(n), &Labels::new("eu", "dt"), 5);
        let ranked = names(&ranked);
        assert_eq!(ranked[..3], ["both", "region", "isp"]);
        assert_eq!(BTreeSet::from_iter(&ranked[3..]), BTreeSet::from([&"far", &"nowhere"]));
        let isp = Labels { region: None, isp: Some("dt".to_owned()) };
        assert!(["both", "isp"].contains(&names(&fleet.preview(&stream(n), &isp, 1))[0]));
        let elsewhere = Labels::new("asia", "ntt");
        assert_eq!(
            fleet.preview(&stream(n), &elsewhere, 5),
            fleet.preview(&stream(n), &Labels::default(), 5)
        );
    }
}

#[test]
fn a_full_group_hands_on_to_the_next_one() {
    let fleet =
        fleet([at("a", "eu", "dt"), at("b", "eu", "dt"), at("c", "eu", "orange"), at("d", "us", "att")]);
    let near = Labels::new("eu", "dt");
    for name in ["c", "d"] {
        assert!(fleet.load(name, full(0.2)));
    }
    for name in ["a", "b"] {
        // Busier than all others: no reason to go away.
        assert!(fleet.load(name, full(0.7)));
    }
    assert!(["a", "b"].contains(&names(&fleet.preview("live/a", &near, 1))[0]));
    for name in ["a", "b"] {
        fleet.load(name, full(0.95));
    }
    assert_eq!(names(&fleet.preview("live/a", &near, 2)), ["c", "d"]);
}

#[test]
fn labels_that_change_take_effect() {
    let fleet = fleet([at("a", "eu", "dt"), at("b", "us", "att")]);
    let near = Labels::new("eu", "dt");
    assert_eq!(names(&fleet.preview("live/a", &near, 1)), ["a"]);
    fleet.set_all([at("a", "us", "att"), at("b", "eu", "dt")]).unwrap();
    assert_eq!(names(&fleet.preview("live/a", &near, 1)), ["b"]);
    assert_eq!(fleet.len(), 2);
}

#[test]
fn few_viewers_stay_on_one_node() {
    let fleet = numbered(50);
    for n in 0..20 {
        let home = first(&fleet, &stream(n));
        for _ in 0..100 {
            assert_eq!(names(&fleet.rank(&stream(n), &Labels::default(), 3))[0], home);
        }
    }
}

#[test]
fn a_hot_stream_goes_on_to_its_next_node_as_the_first_one_fills() {
    let fleet = numbered(50);
    let order = fleet.preview("live/hot", &Labels::default(), 16);
    let mut seen: Vec<String> = Vec::new();
    for _ in 0..3_000 {
        let name = names(&fleet.rank("live/hot", &Labels::default(), 1))[0].to_owned();
        if !seen.contains(&name) {
            if let Some(last) = seen.last() {
                // 10 Gbit/s, viewers of 3 Mbit/s, and one who is idle takes all.
                assert!(fullness(&fleet, last) > 0.085, "{last} has {}", fullness(&fleet, last));
            }
            seen.push(name);
        }
    }
    assert_eq!(seen, names(&order)[..seen.len()]);
    assert!((9..=12).contains(&seen.len()), "{seen:?}");
}

#[test]
fn decisions_count_before_the_next_report_does() {
    let fleet = numbered(40);
    for _ in 0..60_000 {
        fleet.rank("live/hot", &Labels::default(), 1).pop().unwrap();
    }
    let loads: Vec<f32> = fleet.statuses().iter().map(|status| status.fullness).collect();
    let mean = loads.iter().sum::<f32>() / loads.len() as f32;
    let most = loads.iter().copied().fold(0.0, f32::max);
    assert!((0.44..0.46).contains(&mean), "60,000 of 3 Mbit/s are 0.45 of 400 Gbit/s, not {mean}");
    assert!(most <= 1.26 * mean, "{most} of {mean}");
}

#[test]
fn the_hottest_stream_keeps_to_the_bound_among_many_nodes() {
    let fleet = numbered(1_000);
    let near = Labels::default();
    // Half of all viewers watch one stream, so that it is on most nodes.
    for n in 0..600_000 {
        let name = if n % 2 == 0 { "live/hot" } else { &stream(n % 20_000) };
        fleet.rank(name, &near, 1).pop().unwrap();
    }
    let loads: Vec<f32> = fleet.statuses().iter().map(|status| status.fullness).collect();
    let mean = loads.iter().sum::<f32>() / loads.len() as f32;
    let most = loads.iter().copied().fold(0.0, f32::max);
    assert!((0.17..0.19).contains(&mean), "600,000 of 3 Mbit/s are 0.18 of 10 Tbit/s, not {mean}");
    assert!(most <= 1.25 * mean, "{most} of {mean}");
}

#[test]
fn a_report_takes_the_place_of_what_was_guessed() {
    let fleet = numbered(1);
    for _ in 0..1_000 {
        fleet.rank("live/a", &Labels::default(), 1).pop().unwrap();
    }
    assert!((fullness(&fleet, "edge-0") - 0.3).abs() < 0.001);
    // Of 0.3 a quarter may not have come yet.
    fleet.load("edge-0", full(0.2));
    assert!((fullness(&fleet, "edge-0") - 0.275).abs() < 0.001);
    fleet.load("edge-0", full(0.2));
    fleet.load("edge-0", full(0.2));
    fleet.load("edge-0", full(0.2));
    assert!((fullness(&fleet, "edge-0") - 0.2).abs() < 0.002);
}

#[test]
fn what_is_decided_counts_by_bitrate_and_for_all_replicas() {
    let fleet = Fleet::new(Config { replicas: 3, ..Config::default() });
    fleet.set(node("edge-0")).unwrap();
    for _ in 0..100 {
        fleet.rank_at("live/a", 8_000_000, &Labels::default(), 1).pop().unwrap();
    }
    assert!((fullness(&fleet, "edge-0") - 0.24).abs() < 0.001);
    for _ in 0..3 {
        fleet.rank_at("live/a", u64::MAX, &Labels::default(), 1).pop().unwrap();
    }
    assert!(fullness(&fleet, "edge-0") < 201.0);
}

#[test]
fn those_who_report_first_are_not_closed_for_it() {
    let fleet = numbered(10);
    fleet.load("edge-0", full(0.5));
    fleet.load("edge-1", full(0.4));
    assert!(fleet.statuses().iter().all(|status| !status.closed));
    for _ in 0..1_000 {
        fleet.rank("live/a", &Labels::default(), 1).pop().unwrap();
    }
    (2..10).for_each(|n| assert!(fleet.load(&format!("edge-{n}"), full(0.45))));
    assert!(fleet.statuses().iter().all(|status| !status.closed));
}

#[test]
fn what_viewers_cost_is_learned() {
    let fleet = numbered(1);
    // 2000 viewers of 0.5 Mbit/s.
    let load = Load { bandwidth_bps: GIGABIT, connections: 2_000, ..Load::default() };
    fleet.load("edge-0", load);
    fleet.load("edge-0", load);
    let before = fullness(&fleet, "edge-0");
    for _ in 0..1_000 {
        fleet.rank("live/a", &Labels::default(), 1).pop().unwrap();
    }
    let each = (fullness(&fleet, "edge-0") - before) / 1_000.0 * 10_000.0;
    assert!((0.5..0.8).contains(&each), "{each} Mbit/s");
}

#[test]
fn the_scarcest_means_say_how_full_a_node_is() {
    let fleet = numbered(1);
    let loads = [
        (Load { bandwidth_bps: 6 * GIGABIT, cpu: 0.2, connections: 100, warm_streams: 5 }, 0.6),
        (Load { bandwidth_bps: GIGABIT, cpu: 0.7, connections: 100, warm_streams: 5 }, 0.7),
        (Load { bandwidth_bps: GIGABIT, cpu: 0.2, connections: 80_000, warm_streams: 5 }, 0.8),
        (Load { bandwidth_bps: u64::MAX, cpu: f32::INFINITY, connections: u32::MAX, warm_streams: 0 }, 100.0),
        (Load { bandwidth_bps: GIGABIT, cpu: f32::NAN, connections: 0, warm_streams: 0 }, 0.1),
        (Load { bandwidth_bps: GIGABIT, cpu: -1.0, connections: 0, warm_streams: 0 }, 0.1),
    ];
    for (load, expected) in loads {
        assert!(fleet.load("edge-0", load));
        assert!((fullness(&fleet, "edge-0") - expected).abs() < 0.001, "{load:?}");
    }
    assert!(!fleet.load("edge-1", Load::default()));
}

#[test]
fn a_node_over_the_bound_takes_nobody_until_it_is_clearly_below() {
    let fleet = numbered(10);
    let report = |share: f64| {
        fleet.load("edge-0", full(share));
        // It takes somebody if it is the first for any of many streams.
        (0..2_000).any(|n| first(&fleet, &stream(n)) == "edge-0")
    };
    for n in 0..10 {
        fleet.load(&format!("edge-{n}"), full(0.4));
    }
    assert!(report(0.4));
    // The mean is 0.412 then, and 1 + 0.9 ε times that 0.505.
    assert!(!report(0.52));
    assert!(!report(0.50));
    assert!(!report(0.47));
    // 1 + ε/2 times the mean: 0.453.
    assert!(report(0.44));
    // Up again, but not over the bound.
    assert!(report(0.47));
}

#[test]
fn between_the_bounds_a_node_keeps_some_of_its_streams() {
    let fleet = numbered(10);
    for n in 0..10 {
        fleet.load(&format!("edge-{n}"), full(0.4));
    }
    let all = |fleet: &Fleet| -> BTreeSet<usize> {
        (0..5_000).filter(|n| first(fleet, &stream(*n)) == "edge-0").collect()
    };
    let (mut last, home) = (all(&fleet), all(&fleet));
    for share in [0.46, 0.47, 0.48, 0.49, 0.50] {
        fleet.load("edge-0", full(share));
        let kept = all(&fleet);
        assert!(kept.is_subset(&last), "one came back at {share}");
        last = kept;
    }
    assert!(last.len() < home.len() / 5, "{} of {}", last.len(), home.len());
    fleet.load("edge-0", full(0.4));
    assert_eq!(all(&fleet), home);
}

#[test]
fn when_all_are_full_the_least_full_one_is_chosen() {
    let fleet = numbered(8);
    for n in 0..8 {
        fleet.load(&format!("edge-{n}"), full(0.92 + 0.01 * f64::from(n)));
    }
    fleet.drain("edge-0", true);
    let ranked = fleet.preview("live/a", &Labels::default(), 3);
    assert_eq!(names(&ranked), ["edge-1", "edge-2", "edge-3"]);
    // Others become the least full as they are chosen.
    let chosen: BTreeSet<String> =
        (0..2_000).map(|_| fleet.rank("live/a", &Labels::default(), 1).pop().unwrap().name.clone()).collect();
    assert_eq!(chosen.len(), 7);
}

#[test]
fn drained_nodes_come_back() {
    let fleet = numbered(3);
    let home = first(&fleet, "live/a");
    assert!(fleet.drain(&home, true));
    assert_ne!(first(&fleet, "live/a"), home);
    // Whatever it says meanwhile, and with other limits.
    fleet.load(&home, full(0.01));
    fleet.set(Node { capacity_bps: GIGABIT, ..node(&home) }).unwrap();
    assert_ne!(first(&fleet, "live/a"), home);
    assert!(fleet.drain(&home, false));
    assert_eq!(first(&fleet, "live/a"), home);
    for n in 0..3 {
        fleet.drain(&format!("edge-{n}"), true);
    }
    assert!(fleet.rank("live/a", &Labels::default(), 3).is_empty());
    assert!(!fleet.drain("edge-3", true));
}

#[test]
fn a_drained_node_is_no_part_of_the_mean() {
    let fleet = numbered(10);
    for n in 0..10 {
        fleet.load(&format!("edge-{n}"), full(0.4));
    }
    fleet.load("edge-0", full(0.47));
    for n in 5..10 {
        fleet.drain(&format!("edge-{n}"), true);
        fleet.load(&format!("edge-{n}"), full(0.0));
    }
    let closed: Vec<String> =
        fleet.statuses().into_iter().filter(|s| s.closed).map(|s| s.node.name.clone()).collect();
    assert!(closed.is_empty(), "{closed:?}");
}

#[test]
fn what_can_be_no_node_is_refused() {
    let fleet = numbered(1);
    for weight in [0.0, -1.0, f32::NAN, f32::INFINITY, MAX_WEIGHT * 1.1] {
        assert!(matches!(fleet.set(weighing("a", weight)), Err(NodeError::Weight(_))));
    }
    assert_eq!(fleet.set(Node { capacity_bps: 0, ..node("a") }), Err(NodeError::Capacity));
    assert_eq!(fleet.set(Node { max_connections: 0, ..node("a") }), Err(NodeError::Capacity));
    assert_eq!(fleet.set_all([node("b"), weighing("a", 0.0)]), Err(NodeError::Weight(0.0)));
    assert_eq!(fleet.len(), 1);
    let many = (0..MAX_NODES).map(|n| weighing(&format!("n{n}"), 0.01));
    assert_eq!(fleet.set_all(many), Err(NodeError::TooMany));
    assert!(!fleet.remove("a"));
}

#[test]
fn the_smallest_weight_is_enough_for_one_that_is_alone() {
    let fleet = fleet([weighing("a", 0.001)]);
    assert!((0..100).all(|n| first(&fleet, &stream(n)) == "a"));
}

#[test]
fn labels_that_nobody_has_any_more_take_no_room() {
    let fleet = numbered(5);
    fleet.set(at("a", "r0", "i0")).unwrap();
    let before = fleet.table_bytes();
    for n in 0..200 {
        fleet.set(at("a", &format!("r{n}"), &format!("i{n}"))).unwrap();
    }
    for n in 0..200 {
        fleet.remove("a");
        fleet.set(at("a", &format!("s{n}"), &format!("j{n}"))).unwrap();
    }
    assert!(fleet.table_bytes() < 2 * before, "{} and then {}", before, fleet.table_bytes());
}

#[test]
fn publishers_are_ranked_over_origins_in_the_same_way() {
    let origins = fleet([at("o1", "eu", ""), at("o2", "us", ""), at("o3", "eu", "")]);
    let near = Labels { region: Some("us".to_owned()), isp: None };
    assert_eq!(origins.rank("live/a", &near, 1).pop().unwrap().name, "o2");
    origins.drain("o2", true);
    let home = origins.rank("live/a", &near, 1).pop().unwrap();
    assert_eq!(origins.rank("live/a", &Labels::default(), 1).pop(), Some(home));
    assert_eq!(Fleet::new(Config::default()).rank("live/a", &near, 1).pop(), None);
}

#[test]
fn decisions_go_on_while_nodes_come_and_go() {
    let fleet = numbered(60);
    let stop = AtomicBool::new(false);
    std::thread::scope(|scope| {
        for thread in 0..2 {
            let (fleet, stop) = (&fleet, &stop);
            scope.spawn(move || {
                let mut n = thread;
                while !stop.load(Ordering::Relaxed) {
                    assert_eq!(fleet.rank(&stream(n), &Labels::new("eu", "dt"), 3).len(), 3);
                    n += 1;
                }
            });
        }
        for round in 0..300 {
            let name = format!("edge-{}", round % 50);
            match round % 4 {
                0 => _ = fleet.remove(&name),
                1 => fleet.set(at(&name, "eu", "dt")).unwrap(),
                2 => _ = fleet.drain(&name, round % 8 < 4),
                _ => (0..60).for_each(|n| _ = fleet.load(&format!("edge-{n}"), full(0.2))),
            }
        }
        stop.store(true, Ordering::Relaxed);
    });
}

/// A change to a fleet of few names, so that they meet.
#[derive(Debug, Clone)]
enum Change {
    Set(u8, u8, u8, u8),
    Remove(u8),
    Drain(u8, bool),
    Load(u8, u8),
    Rank(u8),
}

fn label(n: u8) -> Option<String> {
    (n > 0).then(|| format!("l{n}"))
}

fn name(n: u8) -> String {
    format!("n{n}")
}

fn change() -> impl Strategy<Value = Change> {
    let n = 0u8..40;
    prop_oneof![
        4 => (n.clone(), 0u8..4, 0u8..4, 1u8..40).prop_map(|(n, r, i, w)| Change::Set(n, r, i, w)),
        1 => n.clone().prop_map(Change::Remove),
        1 => (n.clone(), any::<bool>()).prop_map(|(n, drained)| Change::Drain(n, drained)),
        4 => (n.clone(), any::<u8>()).prop_map(|(n, load)| Change::Load(n, load)),
        4 => n.prop_map(Change::Rank),
    ]
}

fn made(name_of: u8, region: u8, isp: u8, weight: u8) -> Node {
    let labels = Labels { region: label(region), isp: label(isp) };
    Node { labels, weight: f32::from(weight) / 10.0, ..node(&name(name_of)) }
}

proptest! {
    /// After any history: as many as there are, each once, none drained, and the same again.
    #[test]
    fn a_ranking_is_whole(
        changes in prop::collection::vec(change(), 0..120),
        count in 0usize..20,
        region in 0u8..5,
        isp in 0u8..5,
    ) {
        let near = Labels { region: label(region), isp: label(isp) };
        let (fleet, mut model) = (Fleet::new(Config::default()), HashMap::new());
        for change in changes {
            match change {
                Change::Set(n, region, isp, weight) => {
                    fleet.set(made(n, region, isp, weight)).unwrap();
                    model.entry(name(n)).or_insert(false);
                }
                Change::Remove(n) => prop_assert_eq!(fleet.remove(&name(n)), model.remove(&name(n)).is_some()),
                Change::Drain(n, drained) => {
                    let there = model.get_mut(&name(n)).map(|was| *was = drained);
                    prop_assert_eq!(fleet.drain(&name(n), drained), there.is_some());
                }
                Change::Load(n, load) => {
                    let there = fleet.load(&name(n), full(f64::from(load) / 200.0));
                    prop_assert_eq!(there, model.contains_key(&name(n)));
                }
                Change::Rank(n) => drop(fleet.rank(&stream(n.into()), &near, 2)),
            }
            let alive = model.values().filter(|drained| !**drained).count();
            let ranked = fleet.preview("live/a", &near, count);
            prop_assert_eq!(ranked.len(), alive.min(count).min(MAX_RANKED));
            prop_assert!(ranked.iter().all(|node| model.get(&node.name) == Some(&false)));
            prop_assert_eq!(BTreeSet::from_iter(names(&ranked)).len(), ranked.len());
            prop_assert_eq!(fleet.preview("live/a", &near, count), ranked);
        }
        prop_assert_eq!(fleet.len(), model.len());
    }

    /// The order of all replicas is the same, however they came to know the nodes.
    #[test]
    fn history_does_not_matter(
        nodes in prop::collection::btree_map(0u8..40, (0u8..3, 0u8..3, 1u8..40), 1..40),
        detours in prop::collection::vec((0u8..40, 0u8..3, 0u8..3, 1u8..40), 0..40),
        seed in any::<u64>(),
    ) {
        let at_once = fleet(nodes.iter().map(|(n, (r, i, w))| made(*n, *r, *i, *w)));
        let by_detours = Fleet::new(Config::default());
        for (n, region, isp, weight) in detours {
            by_detours.set(made(n, region, isp, weight)).unwrap();
        }
        let mut order: Vec<_> = nodes.iter().collect();
        order.sort_by_key(|(n, _)| hash::nth(seed, u32::from(**n)));
        (0..40).filter(|n| !nodes.contains_key(n)).for_each(|n| _ = by_detours.remove(&name(n)));
        for (n, (region, isp, weight)) in order {
            by_detours.set(made(*n, *region, *isp, *weight)).unwrap();
        }
        for n in 0..20 {
            let near = Labels { region: label(n % 3), isp: label(n % 4) };
            prop_assert_eq!(
                at_once.preview(&stream(n.into()), &near, 16),
                by_detours.preview(&stream(n.into()), &near, 16)
            );
        }
    }

    /// A node that goes leaves the others in their order, for every stream.
    #[test]
    fn others_keep_their_order(
        nodes in prop::collection::btree_map(0u8..12, 3u8..40, 2..12),
        gone in any::<prop::sample::Index>(),
    ) {
        let all = fleet(nodes.iter().map(|(n, weight)| made(*n, 0, 0, *weight)));
        let gone = name(*nodes.keys().nth(gone.index(nodes.len())).unwrap());
        let before: Vec<_> = (0..20).map(|n| all.preview(&stream(n), &Labels::default(), 4)).collect();
        all.remove(&gone);
        for (n, mut before) in before.into_iter().enumerate() {
            before.retain(|node| node.name != gone);
            before.truncate(3);
            prop_assert_eq!(all.preview(&stream(n), &Labels::default(), 3), before);
        }
    }

    /// However viewers come and nodes report, nobody is sent to a node over the bound while others are below.
    #[test]
    fn nobody_is_sent_over_the_bound(
        loads in prop::collection::vec(0u8..80, 2..60),
        streams in prop::collection::vec(0u16..500, 1..200),
    ) {
        let fleet = numbered(loads.len());
        for (n, load) in loads.iter().enumerate() {
            fleet.load(&format!("edge-{n}"), full(f64::from(*load) / 100.0));
        }
        for n in streams {
            let before: HashMap<String, f32> =
                fleet.statuses().into_iter().map(|status| (status.node.name.clone(), status.fullness)).collect();
            let mean = before.values().sum::<f32>() / before.len() as f32;
            let ranked = fleet.rank(&stream(n.into()), &Labels::default(), 1);
            let chosen = before[&ranked[0].name];
            prop_assert!(chosen <= (1.25 * mean).clamp(0.1, 0.9) + 0.001, "{} of {}", chosen, mean);
        }
    }
}
