//! Subjects and patterns by the rules of NATS; what a publish to a subject reaches.

mod support;

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Weak};
use std::time::Duration;

use message_bus::{
    AttributeError, Bus, Delivery, Metadata, Overflow, PublishError, RawMessage, Subject, SubjectError, SubjectPattern,
    SubscribeError,
};
use proptest::prelude::*;
use support::{Calls, OutOf, balanced, until};
use tokio::sync::Semaphore;

fn message(subject: &str) -> RawMessage {
    RawMessage::new(Subject::new(subject).expect("a subject"), "payload")
}

/// Subscribes a recorder of subjects.
fn record(bus: &Bus, pattern: &str, calls: &Calls<String>) -> message_bus::Subscription {
    let calls = calls.clone();
    let handler = move |message: &RawMessage| calls.add(message.subject.to_string());
    bus.subject_subscription(pattern).expect("a pattern").run_sync(handler).expect("open")
}

#[test]
fn a_pattern_matches_by_the_rules_of_nats() {
    let cases = [
        ("orders", "orders", true),
        ("orders", "orders.eu", false),
        ("orders", "Orders", false),
        ("*", "orders", true),
        ("*", "orders.eu", false),
        ("orders.*", "orders.eu", true),
        ("orders.*", "orders", false),
        ("orders.*", "orders.eu.placed", false),
        ("*.eu.*", "orders.eu.placed", true),
        ("*.*", "orders.eu", true),
        (">", "orders", true),
        (">", "orders.eu.placed", true),
        ("orders.>", "orders", false),
        ("orders.>", "orders.eu", true),
        ("orders.>", "orders.eu.placed", true),
        ("orders.*.>", "orders.eu", false),
        ("orders.*.>", "orders.eu.placed.now", true),
        ("ord*", "ord*", true),
        ("ord*", "orders", false),
        ("a>", "a>", true),
        ("a>", "a.b", false),
        ("grün.*", "grün.blau", true),
    ];
    for (pattern, subject, matches) in cases {
        let subject = Subject::new(subject).expect("a subject");
        assert_eq!(SubjectPattern::new(pattern).expect("a pattern").matches(&subject), matches, "{pattern} {subject}");
    }
}

#[test]
fn what_is_no_subject_is_refused_with_its_place() {
    let long = "a".repeat(1025);
    for (text, error) in [
        ("", SubjectError::EmptyToken(0)),
        (".", SubjectError::EmptyToken(0)),
        (".a", SubjectError::EmptyToken(0)),
        ("a.", SubjectError::EmptyToken(2)),
        ("a..b", SubjectError::EmptyToken(2)),
        ("a b", SubjectError::Character(1)),
        ("a\tb", SubjectError::Character(1)),
        ("é\u{a0}b", SubjectError::Character(2)),
        ("a.\u{0}", SubjectError::Character(2)),
        (&long, SubjectError::TooLong(1025)),
    ] {
        assert_eq!(Subject::new(text), Err(error), "{text:?}");
        assert_eq!(SubjectPattern::new(text), Err(error), "{text:?}");
    }
    assert_eq!(Subject::new("a.*.b"), Err(SubjectError::Wildcard(2)));
    assert_eq!(Subject::new("a.>"), Err(SubjectError::Wildcard(2)));
    assert_eq!(SubjectPattern::new("a.>.b"), Err(SubjectError::RestNotLast(2)));
    assert_eq!(SubjectPattern::new(">.>"), Err(SubjectError::RestNotLast(0)));
    let bus = Bus::new();
    let refused = bus.subscribe_subject("a..b", |_: Delivery<RawMessage>| async {}).expect_err("no pattern");
    assert_eq!(refused, SubscribeError::Subject(SubjectError::EmptyToken(2)));
}

#[test]
fn attributes_are_names_and_values_as_headers_are() {
    let mut message = message("a");
    assert_eq!(message.attributes.insert("Trace", "1"), Ok(None));
    assert_eq!(message.attributes.insert("trace", "2"), Ok(None));
    assert_eq!(message.attributes.insert("Trace", "3"), Ok(Some("1".into())));
    assert_eq!(message.attributes.get("Trace"), Some("3"));
    assert_eq!(message.attributes.iter().collect::<Vec<_>>(), [("Trace", "3"), ("trace", "2")]);
    assert_eq!(message.attributes.remove("trace").as_deref(), Some("2"));
    assert_eq!((message.attributes.len(), message.attributes.get("trace")), (1, None));
    for name in ["", "with space", "with:colon", "ü"] {
        assert_eq!(message.attributes.insert(name, "1"), Err(AttributeError::Name(name.to_owned())));
    }
    assert_eq!(message.attributes.insert("a", "1\r\nb: 2"), Err(AttributeError::Value("a".to_owned())));
}

#[tokio::test]
async fn a_publish_reaches_every_pattern_that_matches_in_the_order_of_subscription() {
    let bus = Bus::new();
    let calls = Calls::default();
    let named = |name: &'static str| {
        let calls = calls.clone();
        move |_: &RawMessage| calls.add(name)
    };
    let subscribe = |pattern: &str, name| {
        bus.subject_subscription(pattern).expect("a pattern").run_sync(named(name)).expect("open")
    };
    let _subscriptions =
        [subscribe(">", "all"), subscribe("a.b", "itself"), subscribe("a.*", "any"), subscribe(">", "all again")];
    let report = bus.publish_subject(message("a.b")).await.expect("succeeds");
    assert_eq!((report.called, report.queued), (4, 0));
    assert_eq!(calls.all(), ["all", "itself", "any", "all again"]);
    assert_eq!(bus.publish_subject(message("a")).await.expect("succeeds").called, 2);
}

#[tokio::test]
async fn a_subject_that_nobody_matches_is_success() {
    let bus = Bus::new();
    assert_eq!(bus.publish_subject(message("a")).await.expect("succeeds").called, 0);
}

#[tokio::test]
async fn a_subscription_is_seen_by_the_next_publish_and_its_end_too() {
    let bus = Bus::new();
    let calls = Calls::default();
    for round in 1..=20 {
        // The route is known before the subscription comes.
        bus.publish_subject(message("a.b")).await.expect("succeeds");
        assert_eq!(calls.len(), round - 1);
        let subscription = record(&bus, "a.*", &calls);
        bus.publish_subject(message("a.b")).await.expect("succeeds");
        assert_eq!(calls.len(), round);
        drop(subscription);
        bus.publish_subject(message("a.b")).await.expect("succeeds");
        assert_eq!(calls.len(), round);
    }
}

#[tokio::test]
async fn unsubscribing_waits_and_lets_go_of_the_handler_though_its_route_was_found_before() {
    let bus = Bus::new();
    let held = Arc::new(());
    let seen: Weak<()> = Arc::downgrade(&held);
    let handler = move |_: &RawMessage| assert_eq!(Arc::strong_count(&held), 1);
    let subscription = bus.subject_subscription("a.>").expect("a pattern").run_sync(handler).expect("open");
    bus.publish_subject(message("a.b")).await.expect("succeeds");
    tokio::time::timeout(Duration::from_secs(10), subscription.unsubscribe()).await.expect("nobody is calling it");
    assert!(seen.upgrade().is_none());
}

#[tokio::test]
async fn a_pattern_given_up_and_taken_again_starts_anew() {
    let bus = Bus::new();
    let calls = Calls::default();
    let kept = record(&bus, "a.b", &calls);
    for _ in 0..3 {
        drop(record(&bus, "a.b", &calls));
        drop(bus.subject_subscription("a.b").expect("only a builder"));
    }
    bus.publish_subject(message("a.b")).await.expect("succeeds");
    assert_eq!(calls.len(), 1);
    kept.detach();
    drop(record(&bus, "a.b", &calls));
    bus.publish_subject(message("a.b")).await.expect("succeeds");
    assert_eq!(calls.len(), 2, "one that is detached stays");
}

#[tokio::test]
async fn queues_groups_and_inline_handlers_share_a_publish() {
    let bus = Bus::new();
    let calls = Calls::default();
    let _inline = record(&bus, "jobs.>", &calls);
    let queue = |pattern: &str, group: Option<&str>, calls: &Calls<String>| {
        let calls = calls.clone();
        let handler = move |message: Delivery<RawMessage>| {
            let calls = calls.clone();
            async move { calls.add(message.subject.to_string()) }
        };
        let queue = bus.subject_subscription(pattern).expect("a pattern").queue(64);
        let queue = if let Some(group) = group { queue.group(group) } else { queue };
        queue.run(handler).expect("open")
    };
    let (one, two, wide) = (Calls::default(), Calls::default(), Calls::default());
    let members = [queue("jobs.*", Some("g"), &one), queue("jobs.*", Some("g"), &two)];
    let wide_queue = queue(">", None, &wide);
    for number in 0..100 {
        let report = bus.publish_subject(message(&format!("jobs.{number}"))).await.expect("succeeds");
        assert_eq!((report.called, report.queued), (1, 2), "a group is one");
    }
    until(|| one.len() + two.len() == 100 && wide.len() == 100).await;
    assert_eq!(calls.len(), 100);
    assert_eq!(wide.all(), calls.all(), "in order");
    let mut accounted = 0;
    for member in members {
        accounted += member.unsubscribe().await.expect("a queue").total();
    }
    assert_eq!(accounted, 100);
    balanced(wide_queue.unsubscribe().await.expect("a queue"), 100);
}

#[tokio::test]
async fn a_publish_to_several_queues_reaches_all_or_none() {
    let bus = Bus::new();
    let gate = Arc::new(Semaphore::new(0));
    let calls = Calls::default();
    let _inline = record(&bus, "a.*", &calls);
    let blocked = {
        let gate = Arc::clone(&gate);
        move |_: Delivery<RawMessage>| {
            let gate = Arc::clone(&gate);
            async move { gate.acquire().await.expect("open").forget() }
        }
    };
    let full = bus.subject_subscription("a.b").expect("a pattern").queue(1).overflow(Overflow::Error);
    let full = full.run(blocked).expect("open");
    let wide = bus.subject_subscription(">").expect("a pattern").queue(64).run(|_: Delivery<RawMessage>| async {});
    let wide = wide.expect("open");
    let mut published = 0;
    let refused = loop {
        match bus.publish_subject(message("a.b")).await {
            Ok(_) => published += 1,
            Err(refused) => break refused,
        }
        tokio::task::yield_now().await;
    };
    assert!(matches!(&refused, PublishError::Full(message) if &*message.subject == "a.b"), "{refused:?}");
    assert_eq!(calls.len(), published, "the inline handler was not called for the refused one");
    gate.add_permits(published);
    until(|| full.stats().expect("a queue").delivered == published as u64).await;
    balanced(full.unsubscribe().await.expect("a queue"), published as u64);
    until(|| wide.stats().expect("a queue").delivered == published as u64).await;
    balanced(wide.unsubscribe().await.expect("a queue"), published as u64);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn publishers_that_wait_for_room_in_several_queues_do_not_wait_for_each_other() {
    let bus = Bus::builder().ring_capacity(1).build().expect("valid");
    let count = Arc::new(AtomicUsize::new(0));
    let mut queues = Vec::new();
    for pattern in ["a.b", "a.*", "*.b", ">"] {
        let count = Arc::clone(&count);
        let handler = move |_: Delivery<RawMessage>| {
            count.fetch_add(1, Ordering::Relaxed);
            async { tokio::task::yield_now().await }
        };
        queues.push(bus.subject_subscription(pattern).expect("a pattern").queue(1).run(handler).expect("open"));
    }
    let publishers: Vec<_> = (0..4)
        .map(|_| {
            let bus = bus.clone();
            tokio::spawn(async move {
                for _ in 0..500 {
                    bus.publish_subject(message("a.b")).await.expect("room comes");
                }
            })
        })
        .collect();
    for publisher in publishers {
        tokio::time::timeout(Duration::from_secs(60), publisher).await.expect("nobody hangs").expect("no panic");
    }
    until(|| count.load(Ordering::Relaxed) == 8000).await;
    for queue in queues {
        balanced(queue.unsubscribe().await.expect("a queue"), 2000);
    }
}

#[tokio::test]
async fn a_publisher_that_waits_for_one_queue_holds_no_room_in_another() {
    let bus = Bus::new();
    let drained = Calls::default();
    let recorder = drained.clone();
    let any = bus.subject_subscription("x.*").expect("a pattern").queue(1).run(move |message: Delivery<RawMessage>| {
        let calls = recorder.clone();
        async move { calls.add(message.subject.to_string()) }
    });
    let any = any.expect("open");
    let weak = bus.downgrade();
    // For each `x.b` it publishes an `x.c`, which only the other queue gets.
    let one = bus.subject_subscription("x.b").expect("a pattern").queue(1).run(move |_: Delivery<RawMessage>| {
        let bus = weak.upgrade().expect("alive");
        async move {
            tokio::task::yield_now().await;
            bus.publish_subject(message("x.c"))
                .await
                .map(drop)
                .map_err(|error| OutOf(if error.into_message().is_some() { "room" } else { "luck" }))
        }
    });
    let one = one.expect("open");
    let publishing = async {
        for _ in 0..200 {
            bus.publish_subject(message("x.b")).await.expect("room comes");
        }
    };
    tokio::time::timeout(Duration::from_secs(20), publishing).await.expect("nobody waits for the publisher");
    until(|| drained.len() == 400).await;
    balanced(one.unsubscribe().await.expect("a queue"), 200);
    balanced(any.unsubscribe().await.expect("a queue"), 400);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unsubscribing_waits_for_the_handlers_of_its_own_subject_alone() {
    let bus = Bus::new();
    let entered = Arc::new(Semaphore::new(0));
    let (open, gate) = std::sync::mpsc::channel::<()>();
    let gate = std::sync::Mutex::new(gate);
    let blocking = {
        let entered = Arc::clone(&entered);
        move |_: &RawMessage| {
            entered.add_permits(1);
            gate.lock().expect("no panic").recv().expect_err("nothing is sent: it is closed");
        }
    };
    let _blocking = bus.subject_subscription("a").expect("a pattern").run_sync(blocking).expect("open");
    let other = bus.subscribe_subject("b", |_: Delivery<RawMessage>| async {}).expect("open");
    bus.publish_subject(message("b")).await.expect("its route is known");
    let publishing = {
        let bus = bus.clone();
        tokio::spawn(async move { bus.publish_subject(message("a")).await.map(drop) })
    };
    entered.acquire().await.expect("open").forget();
    let ended = tokio::time::timeout(Duration::from_secs(10), other.unsubscribe()).await;
    drop(open);
    assert!(ended.is_ok(), "a handler of another subject was waited for");
    publishing.await.expect("no panic").expect("succeeds");
}

#[tokio::test]
async fn a_handler_that_publishes_into_its_own_full_queue_is_told() {
    let bus = Bus::builder().ring_capacity(1).build().expect("valid");
    let weak = bus.downgrade();
    let calls = Calls::default();
    let recorder = calls.clone();
    let handler = move |_: Delivery<RawMessage>| {
        let (bus, calls) = (weak.upgrade().expect("alive"), recorder.clone());
        async move {
            for _ in 0..2 {
                let refused = bus.publish_subject(message("loop.again")).await.err();
                calls.add(refused.is_some_and(|error| matches!(error, PublishError::WouldDeadlock(_))));
            }
        }
    };
    let queue = bus.subject_subscription("loop.*").expect("a pattern").queue(1).run(handler).expect("open");
    bus.publish_subject(message("loop.first")).await.expect("room");
    until(|| calls.all().contains(&true)).await;
    drop(queue);
}

#[tokio::test]
async fn failures_causes_metadata_and_inheritance_are_those_of_typed_messages() {
    let bus = Bus::new();
    let _failing = bus.subject_subscription("a").expect("a pattern").name("failing");
    let _failing = _failing.run(|_: Delivery<RawMessage>| async { Err(OutOf("luck")) }).expect("open");
    let error = bus.publish_subject(message("a")).await.expect_err("all fail");
    assert_eq!(error.to_string(), "1 of 1 handlers failed: handler `failing`: out of luck");

    let calls = Calls::default();
    let (recorder, weak) = (calls.clone(), bus.downgrade());
    let _parent = bus.subscribe_subject("parent", move |delivery: Delivery<RawMessage>| {
        let (calls, bus) = (recorder.clone(), weak.upgrade().expect("alive"));
        async move {
            calls.add(delivery.metadata().clone());
            drop(bus.publish_subject(message("child")).await);
        }
    });
    let recorder = calls.clone();
    let child = move |_: &RawMessage| recorder.add(Metadata::current().expect("in a handler"));
    let _child = bus.subject_subscription("child").expect("a pattern").run_sync(child).expect("open");
    let mut given = Metadata::new();
    given.trace = Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".parse().expect("valid"));
    bus.publish_subject_with(given.clone(), message("parent")).await.expect("succeeds");
    let seen = calls.all();
    assert_eq!(seen[0], given);
    assert_eq!(seen[1].causation, Some(given.id));
    assert_eq!((seen[1].correlation, &seen[1].trace), (given.correlation, &given.trace));
}

#[tokio::test]
async fn order_by_key_is_by_subject_or_by_the_partition_key() {
    let bus = Bus::new();
    let calls: Calls<(String, String)> = Calls::default();
    let recorder = calls.clone();
    let handler = move |delivery: Delivery<RawMessage>| {
        let calls = recorder.clone();
        async move {
            for _ in 0..fastrand::usize(..4) {
                tokio::task::yield_now().await;
            }
            let key = delivery.attributes.get("partitionkey").unwrap_or(&delivery.subject).to_owned();
            calls.add((key, String::from_utf8_lossy(&delivery.payload).into_owned()));
        }
    };
    let queue = bus.subject_subscription(">").expect("a pattern").queue(256).concurrency(4).ordered_by_key();
    let queue = queue.run(handler).expect("open");
    for number in 0..300_u32 {
        let subject = Subject::new(&format!("s.{}", number % 5)).expect("a subject");
        let mut message = RawMessage::new(subject, number.to_string());
        if number % 3 == 0 {
            message.attributes.insert("partitionkey", "thirds").expect("sound");
        }
        bus.publish_subject(message).await.expect("room");
    }
    until(|| calls.len() == 300).await;
    for key in ["s.0", "s.1", "s.2", "s.3", "s.4", "thirds"] {
        let of_key = calls.all().into_iter().filter(|(other, _)| other == key);
        let numbers: Vec<u32> = of_key.map(|(_, number)| number.parse().expect("a number")).collect();
        assert!(!numbers.is_empty() && numbers.is_sorted(), "{key}: {numbers:?}");
    }
    balanced(queue.unsubscribe().await.expect("a queue"), 300);
}

#[tokio::test]
async fn a_bus_that_is_shut_down_takes_no_subject() {
    let bus = Bus::new();
    let queue = bus.subject_subscription("a").expect("a pattern").queue(8).run(|_: Delivery<RawMessage>| async {});
    let queue = queue.expect("open");
    for _ in 0..5 {
        bus.publish_subject(message("a")).await.expect("room");
    }
    let report = bus.shutdown(Duration::from_secs(10)).await;
    assert_eq!(report.drained, 5);
    balanced(queue.stats().expect("a queue"), 5);
    assert!(matches!(bus.publish_subject(message("a")).await, Err(PublishError::Closed(_))));
    let refused = bus.subscribe_subject("a", |_: Delivery<RawMessage>| async {}).expect_err("closed");
    assert_eq!(refused, SubscribeError::Closed);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn subscribing_and_publishing_at_once_keeps_the_promise_of_each() {
    let bus = Bus::new();
    let publisher = {
        let bus = bus.clone();
        tokio::spawn(async move {
            for number in 0..5_000 {
                bus.publish_subject(message(&format!("s.{}", number % 7))).await.expect("succeeds");
            }
        })
    };
    while !publisher.is_finished() {
        let calls = Calls::default();
        let subscription = record(&bus, "s.*", &calls);
        let before = calls.len();
        let report = bus.publish_subject(message("s.3")).await.expect("succeeds");
        assert_eq!(report.called, 1);
        assert!(calls.len() > before);
        subscription.unsubscribe().await;
        let after = calls.len();
        bus.publish_subject(message("s.3")).await.expect("succeeds");
        assert_eq!(calls.len(), after);
    }
    publisher.await.expect("no panic");
}

/// The rules once more, by another way: a pattern as a list of tokens against a list of tokens.
fn matches(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => matches(pattern, subject),
        ([token, pattern @ ..], [other, subject @ ..]) => token == other && matches(pattern, subject),
        _ => false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig { failure_persistence: None, ..ProptestConfig::default() })]
    #[test]
    fn publishes_reach_what_a_list_of_patterns_says(
        steps in prop::collection::vec(
            (0..3_u8, prop::collection::vec(prop::sample::select(vec!["a", "b", "*", ">"]), 1..4)), 1..60),
    ) {
        let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
        runtime.block_on(async {
            let bus = Bus::new();
            let mut live = Vec::new();
            for (kind, tokens) in steps {
                let text = tokens.join(".");
                match kind {
                    0 => match bus.subject_subscription(&text) {
                        Ok(builder) => live.push((builder.run_sync(|_: &RawMessage| {}).expect("open"), tokens)),
                        Err(_) => prop_assert!(tokens[..tokens.len() - 1].contains(&">")),
                    },
                    1 if !live.is_empty() => drop(live.remove(text.len() * 7 % live.len())),
                    _ => {
                        let wild = tokens.iter().any(|token| *token == "*" || *token == ">");
                        let Ok(subject) = Subject::new(&text) else {
                            prop_assert!(wild);
                            continue;
                        };
                        prop_assert!(!wild);
                        let report = bus.publish_subject(RawMessage::new(subject, "")).await.expect("succeeds");
                        let wanted = live.iter().filter(|(_, pattern)| matches(pattern, &tokens)).count();
                        prop_assert_eq!(report.called, wanted);
                    }
                }
            }
            Ok(())
        })?;
    }
}
