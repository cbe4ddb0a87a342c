//! Any history, beside a list.

use proptest::prelude::*;

use super::*;

#[derive(Debug, Clone)]
enum Step {
    Append,
    Commit,
    Sync,
    Rotate,
    Forget,
    Reopen,
    Crash(u64),
}

fn step() -> impl Strategy<Value = Step> {
    prop_oneof![
        8 => Just(Step::Append),
        4 => Just(Step::Commit),
        1 => Just(Step::Sync),
        1 => Just(Step::Rotate),
        1 => Just(Step::Forget),
        1 => Just(Step::Reopen),
        2 => any::<u64>().prop_map(Step::Crash),
    ]
}

fn durability() -> impl Strategy<Value = Durability> {
    prop_oneof![
        4 => Just(Durability::Sync),
        1 => Just(Durability::Buffered),
        1 => Just(Durability::Interval(Duration::ZERO)),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 300, failure_persistence: None, ..ProptestConfig::default() })]

    /// The log gives back all that was appended before it was closed, and after a crash at least what was promised.
    #[test]
    fn the_log_is_a_list_that_survives(steps in prop::collection::vec(step(), 1..80), durability in durability()) {
        let files = SimFiles::default();
        let mut log = Some(open(&files, None, durability).expect("made").0);
        let (mut appended, mut promised, mut snapshot) = (0, 0, None);
        for step in steps {
            let open_log = log.as_ref().expect("it is open between steps");
            match step {
                Step::Append => appended = append(open_log).expect("appended").0,
                Step::Commit => {
                    open_log.commit(Lsn(appended)).expect("committed");
                    if durability == Durability::Sync {
                        promised = appended;
                    }
                }
                Step::Sync => promised = open_log.sync().expect("synced").0,
                Step::Rotate => {
                    promised = open_log.rotate().expect("rotated").0;
                    prop_assert_eq!(promised, appended);
                }
                Step::Forget => {
                    snapshot = Some(promised);
                    open_log.forget(Lsn(promised)).expect("forgotten");
                }
                Step::Reopen | Step::Crash(_) => {
                    let least = if let Step::Crash(seed) = step {
                        files.power_off();
                        drop(log.take());
                        files.crash(seed);
                        promised
                    } else {
                        drop(log.take());
                        appended
                    };
                    let (opened, _, replayed) = open(&files, snapshot, durability).expect("opened");
                    let before = snapshot.unwrap_or_default();
                    let last = before + replayed.len() as u64;
                    prop_assert!((least..=appended).contains(&last), "{} of {}..={}", last, least, appended);
                    prop_assert_eq!(replayed, records(before + 1..last + 1));
                    appended = last;
                    promised = promised.min(last);
                    log = Some(opened);
                }
            }
        }
    }
}
