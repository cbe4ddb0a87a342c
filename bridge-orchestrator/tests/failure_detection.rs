//! Who is declared down, when, and who is not.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use bridge_orchestrator::heartbeat::{HeartbeatError, NodeStatus, PhiDetector, Transition};
use proptest::prelude::*;

const SECOND: Duration = Duration::from_secs(1);
const MILLISECOND: Duration = Duration::from_millis(1);

fn detector(start: Instant) -> PhiDetector<u32> {
    PhiDetector::builder().expected_interval(SECOND).build(start).expect("valid")
}

/// Heartbeats of nodes `0..nodes` every second from `from` to `to`; the time after the last of them.
fn beat(detector: &mut PhiDetector<u32>, start: Instant, nodes: std::ops::Range<u32>, seconds: std::ops::Range<u32>) {
    for second in seconds {
        for node in nodes.clone() {
            detector.heartbeat(&node, start + second * SECOND).expect("room");
        }
    }
}

fn names(transitions: &[Transition<u32>], to: NodeStatus) -> Vec<u32> {
    let mut names: Vec<u32> = transitions.iter().filter(|one| one.to == to).map(|one| one.node).collect();
    names.sort_unstable();
    names
}

#[test]
fn options_out_of_range_are_refused_by_name() {
    let now = Instant::now();
    let refused = |builder: bridge_orchestrator::heartbeat::PhiBuilder| match builder.build::<u32>(now) {
        Err(HeartbeatError::OutOfRange { option, .. }) => option,
        other => panic!("{other:?}"),
    };
    assert_eq!(refused(PhiDetector::builder().threshold(0.0)), "threshold");
    assert_eq!(refused(PhiDetector::builder().threshold(f64::NAN)), "threshold");
    assert_eq!(refused(PhiDetector::builder().expected_interval(Duration::ZERO)), "expected_interval");
    assert_eq!(refused(PhiDetector::builder().least_deviation(Duration::ZERO)), "least_deviation");
    assert_eq!(refused(PhiDetector::builder().weight(0.0)), "weight");
    assert_eq!(refused(PhiDetector::builder().weight(1.5)), "weight");
}

#[test]
fn a_node_that_falls_silent_is_down_once_and_up_again_when_it_returns() {
    let start = Instant::now();
    let mut detector = detector(start);
    beat(&mut detector, start, 0..10, 0..100);
    beat(&mut detector, start, 1..10, 100..110);
    let down = detector.sweep(start + 109 * SECOND);
    assert_eq!((names(&down, NodeStatus::Down), down.len()), (vec![0], 1));
    assert_eq!((down[0].silence, down[0].phi > 8.0), (10 * SECOND, true));
    assert_eq!(detector.status(&0), Some(NodeStatus::Down));
    assert_eq!(detector.sweep(start + 109 * SECOND), [], "told once");
    beat(&mut detector, start, 0..10, 110..111);
    let up = detector.sweep(start + 110 * SECOND);
    assert_eq!((names(&up, NodeStatus::Up), up.len()), (vec![0], 1));
}

/// A clockwork of a second has a deviation of the least, 100 ms: φ 8 is at 5.612 of them.
#[test]
fn the_threshold_is_reached_where_the_normal_tail_says() {
    let start = Instant::now();
    let mut detector = detector(start);
    beat(&mut detector, start, 0..4, 0..200);
    beat(&mut detector, start, 1..4, 200..202);
    let last = start + 199 * SECOND;
    let phi = |after: Duration| detector.phi(&0, last + after).expect("known");
    assert!((phi(SECOND) - 2_f64.log10()).abs() < 1e-3, "half of the heartbeats come later than the mean");
    assert!((phi(1232 * MILLISECOND) - 2.0).abs() < 0.02, "{}", phi(1232 * MILLISECOND));
    assert!((phi(1561 * MILLISECOND) - 8.0).abs() < 0.03, "{}", phi(1561 * MILLISECOND));
    assert_eq!(detector.sweep(last + 1558 * MILLISECOND), []);
    assert_eq!(names(&detector.sweep(last + 1564 * MILLISECOND), NodeStatus::Down), [0]);
    assert_eq!(detector.phi(&77, last), None);
}

#[test]
fn a_node_that_beats_unevenly_is_given_more_time() {
    let start = Instant::now();
    let mut detector = detector(start);
    let (mut even, mut uneven) = (start, start);
    for beat in 0..400 {
        even += SECOND;
        uneven += if beat % 2 == 0 { 500 * MILLISECOND } else { 1500 * MILLISECOND };
        detector.heartbeat(&0, even).expect("room");
        detector.heartbeat(&1, uneven).expect("room");
    }
    let silence = 2 * SECOND;
    assert!(detector.phi(&0, even + silence).expect("known") > 8.0);
    assert!(detector.phi(&1, uneven + silence).expect("known") < 3.0);
}

#[test]
fn a_node_that_becomes_slower_is_learned() {
    let start = Instant::now();
    let mut detector = PhiDetector::builder().expected_interval(SECOND).build::<u32>(start).expect("valid");
    beat(&mut detector, start, 0..10, 0..60);
    let (mut told, mut last_told) = (0, 0);
    for second in 60..900 {
        beat(&mut detector, start, 1..10, second..second + 1);
        if second % 5 == 0 {
            beat(&mut detector, start, 0..1, second..second + 1);
        }
        let changed = detector.sweep(start + second * SECOND + MILLISECOND).len();
        told += changed;
        last_told = if changed > 0 { second } else { last_told };
    }
    assert!(told > 0, "it is suspected at first");
    assert!(last_told < 300, "and no longer once its rhythm is known: {last_told}");
}

#[test]
fn one_pause_does_not_blunt_the_detector() {
    let start = Instant::now();
    let mut detector = detector(start);
    beat(&mut detector, start, 0..10, 0..100);
    // Everyone's heartbeats are ten seconds late, once; nobody looked meanwhile.
    beat(&mut detector, start, 0..10, 110..114);
    beat(&mut detector, start, 1..10, 114..117);
    assert_eq!(names(&detector.sweep(start + 116 * SECOND), NodeStatus::Down), [0]);
}

#[test]
fn if_more_than_half_fall_silent_at_once_nobody_is_down() {
    let start = Instant::now();
    let mut detector = detector(start);
    beat(&mut detector, start, 0..100, 0..60);
    beat(&mut detector, start, 51..100, 60..70);
    assert_eq!(detector.sweep(start + 70 * SECOND), []);
    assert_eq!(detector.held(), 51);
    assert!((0..100).all(|node| detector.status(&node) == Some(NodeStatus::Up)));
    // One of them comes back: now it is half, and half may be down.
    beat(&mut detector, start, 0..1, 70..71);
    beat(&mut detector, start, 51..100, 70..71);
    assert_eq!(names(&detector.sweep(start + 70 * SECOND), NodeStatus::Down), (1..51).collect::<Vec<_>>());
    assert_eq!(detector.held(), 0);
}

#[test]
fn nodes_that_fall_silent_one_after_the_other_are_not_counted_anew_in_each_sweep() {
    let start = Instant::now();
    let mut detector = detector(start);
    beat(&mut detector, start, 0..100, 0..60);
    // The first 40 fall silent, and a second later the next 40.
    beat(&mut detector, start, 40..100, 60..61);
    beat(&mut detector, start, 80..100, 61..63);
    assert_eq!(names(&detector.sweep(start + 61 * SECOND), NodeStatus::Down).len(), 40);
    assert_eq!(detector.sweep(start + 62 * SECOND + 900 * MILLISECOND), [], "80 of 100 are silent by now");
    assert_eq!(detector.held(), 40);
}

#[test]
fn a_forgotten_node_is_unknown_and_the_others_are_what_they_were() {
    let start = Instant::now();
    let mut detector = detector(start);
    beat(&mut detector, start, 0..10_000, 0..3);
    for node in (0..10_000).step_by(3) {
        assert!(detector.forget(&node));
        assert!(!detector.forget(&node));
    }
    assert_eq!(detector.len(), 6_666);
    let known = |node| detector.phi(&node, start + 3 * SECOND).is_some();
    assert!((0..10_000).all(|node| known(node) == (node % 3 != 0)));
}

#[test]
fn late_and_repeated_heartbeats_change_nothing() {
    let start = Instant::now();
    let mut detector = detector(start);
    beat(&mut detector, start, 0..1, 0..100);
    let now = start + 100 * SECOND;
    let phi = detector.phi(&0, now);
    for second in [99, 98, 3] {
        detector.heartbeat(&0, start + second * SECOND).expect("room");
    }
    assert_eq!(detector.phi(&0, now), phi);
}

/// The detector by the formulas, one node at a time.
#[derive(Default)]
struct Model {
    nodes: HashMap<u8, (f64, f64, f64, bool)>,
}

impl Model {
    const DEVIATIONS: f64 = 5.612_001_244;

    fn longest((_, mean, variance, _): (f64, f64, f64, bool)) -> f64 {
        mean + Self::DEVIATIONS * variance.sqrt().max(0.1)
    }

    fn heartbeat(&mut self, node: u8, at: f64) {
        let known = self.nodes.entry(node).or_insert((at, 1.0, 0.0625, true));
        let longest = Self::longest(*known);
        let (last, mean, variance, _) = known;
        if at > *last {
            let interval = (at - *last).min(longest);
            let old = *mean;
            *mean = 0.9 * old + 0.1 * interval;
            *variance = 0.9 * (*variance + 0.1 * (interval - old).powi(2));
        }
        *last = at.max(*last);
    }

    /// Who changes, but for silences within a thousandth of the limit, where rounding decides.
    fn sweep(&mut self, now: f64) -> Option<Vec<(u8, bool)>> {
        let near = |silence: f64, limit: f64| (silence / limit - 1.0).abs() < 1e-3;
        let silences = self.nodes.values().map(|node| (now - node.0, Self::longest(*node)));
        if silences.clone().any(|(silence, limit)| near(silence, limit) || near(silence, 2.0 * limit)) {
            return None;
        }
        let is = |node: &(f64, f64, f64, bool), up: bool, from: f64, to: f64| {
            let silence = (now - node.0) / Self::longest(*node);
            node.3 == up && (from..to).contains(&silence)
        };
        let count = |up, from, to| self.nodes.values().filter(|node| is(node, up, from, to)).count();
        let (silent, returned, lately) = (count(true, 1.0, f64::MAX), count(false, 0.0, 1.0), count(false, 1.0, 2.0));
        let all = self.nodes.values().filter(|node| node.3).count() + returned + lately;
        let hold = 2 * (silent + lately) > all;
        let mut changed = Vec::new();
        for (name, node) in &mut self.nodes {
            if (is(node, true, 1.0, f64::MAX) && !hold) || is(node, false, 0.0, 1.0) {
                node.3 = !node.3;
                changed.push((*name, node.3));
            }
        }
        changed.sort_unstable();
        Some(changed)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { rng_seed: proptest::test_runner::RngSeed::Fixed(0xbea7), cases: 300, ..ProptestConfig::default() })]

    /// Whoever beats whenever, each sweep declares what the formulas say.
    #[test]
    fn the_detector_is_its_model(steps in prop::collection::vec((0_u8..12, 1_u32..700, prop::bool::weighted(0.2)), 1..400)) {
        let start = Instant::now();
        let mut detector = PhiDetector::builder().expected_interval(SECOND).build::<u8>(start).expect("valid");
        let mut model = Model::default();
        let mut now = Duration::ZERO;
        for (node, wait, sweep) in steps {
            // A node beats about once a second, or it does not for a while.
            now += MILLISECOND * wait / 4;
            detector.heartbeat(&node, start + now).expect("room");
            model.heartbeat(node, now.as_secs_f64());
            if sweep {
                let Some(expected) = model.sweep(now.as_secs_f64()) else { return Ok(()) };
                let mut found: Vec<(u8, bool)> =
                    detector.sweep(start + now).into_iter().map(|one| (one.node, one.to == NodeStatus::Up)).collect();
                found.sort_unstable();
                prop_assert_eq!(found, expected);
            }
        }
    }
}
