//! Any texts as patterns and subjects: a typed error or a subscription, and a publish reaches as many as the rules say, token by token.
#![no_main]

use libfuzzer_sys::fuzz_target;
use message_bus::{Bus, RawMessage, Subject, SubjectPattern};

fn matches(pattern: &[&str], subject: &[&str]) -> bool {
    match (pattern, subject) {
        ([], []) => true,
        ([">"], [_, ..]) => true,
        (["*", pattern @ ..], [_, subject @ ..]) => matches(pattern, subject),
        ([token, pattern @ ..], [other, subject @ ..]) => token == other && matches(pattern, subject),
        _ => false,
    }
}

fuzz_target!(|texts: Vec<&str>| {
    let bus = Bus::new();
    let mut live = Vec::new();
    let runtime = tokio::runtime::Builder::new_current_thread().build().expect("a runtime");
    for (number, text) in texts.into_iter().enumerate() {
        let pattern = SubjectPattern::new(text);
        let subscribed = bus.subject_subscription(text).map(|builder| builder.run_sync(|_: &RawMessage| {}));
        assert_eq!(pattern.is_ok(), subscribed.is_ok());
        if let (Ok(pattern), Ok(subscription)) = (pattern, subscribed) {
            live.push((pattern, subscription.expect("open")));
        }
        if number % 3 == 2 {
            drop(live.drain(..live.len().min(1)));
        }
        if let Ok(subject) = Subject::new(text) {
            let tokens: Vec<&str> = subject.split('.').collect();
            let of = |pattern: &SubjectPattern| matches(&pattern.split('.').collect::<Vec<_>>(), &tokens);
            let wanted = live.iter().filter(|(pattern, _)| of(pattern)).count();
            assert_eq!(live.iter().filter(|(pattern, _)| pattern.matches(&subject)).count(), wanted);
            let report = runtime.block_on(bus.publish_subject(RawMessage::new(subject.clone(), ""))).expect("succeeds");
            assert_eq!(report.called, wanted);
        }
    }
});
