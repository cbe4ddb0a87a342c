//! Any texts as patterns and subjects: a typed error or a subscription, and a publish reaches as many as a list of
//! patterns says, each of which is asked.
#![no_main]

use libfuzzer_sys::fuzz_target;
use message_bus::{Bus, RawMessage, Subject, SubjectPattern};

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
            let wanted = live.iter().filter(|(pattern, _)| pattern.matches(&subject)).count();
            let report = runtime.block_on(bus.publish_subject(RawMessage::new(subject.clone(), ""))).expect("succeeds");
            assert_eq!(report.called, wanted);
        }
    }
});
