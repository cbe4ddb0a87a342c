//! Requests and scattered requests: answers, deadlines, bounds, and nothing left behind.

mod support;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use message_bus::{
    Bus, Delivery, FailurePolicy, HandlerError, PublishError, RawMessage, RequestError, Subject, TraceContext,
};
use support::{Calls, OutOf, balanced, until};
use tokio::sync::Semaphore;
use tokio::task::yield_now;

const LIMIT: Duration = Duration::from_secs(20);

fn message(subject: &str, payload: &'static str) -> RawMessage {
    RawMessage::new(Subject::new(subject).expect("a subject"), payload)
}

async fn echo(request: Delivery<RawMessage>) -> Result<Bytes, HandlerError> {
    yield_now().await;
    Ok(request.payload.clone())
}

#[tokio::test]
async fn a_request_gets_the_answer_of_who_is_subscribed() {
    let bus = Bus::new();
    let _inline = bus.respond("echo.*", echo).expect("open");
    let answer = bus.request(message("echo.this", "hello"), LIMIT).await.expect("answered");
    assert_eq!(&answer.payload[..], b"hello");
    let queue = bus.subject_subscription("later").expect("a pattern").queue(8).run(bus.responder(echo)).expect("open");
    let answer = bus.request(message("later", "hello"), LIMIT).await.expect("answered");
    assert_eq!(&answer.payload[..], b"hello");
    let stats = queue.unsubscribe().await.expect("a queue");
    assert_eq!(stats.delivered, 1);
    balanced(stats, 1);
    assert_eq!(bus.unclaimed_answers(), 0);
}

#[tokio::test]
async fn an_answer_belongs_to_the_conversation_of_its_request() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let responder = move |request: Delivery<RawMessage>| {
        recorder.add(request.metadata().clone());
        async { Ok::<_, HandlerError>(Bytes::new()) }
    };
    let _responder = bus.respond("a", responder).expect("open");
    let answer = bus.request(message("a", ""), LIMIT).await.expect("answered");
    let request = &calls.all()[0];
    assert_eq!(answer.metadata().causation, Some(request.id));
    assert_eq!(answer.metadata().correlation, request.correlation);
    assert_eq!(answer.metadata().trace, None::<TraceContext>);
}

#[tokio::test]
async fn a_request_that_nobody_answers_has_its_error() {
    let bus = Bus::builder().pending_requests(1).build().expect("valid");
    let error = bus.request(message("nobody", ""), LIMIT).await.expect_err("nobody");
    assert!(matches!(&error, RequestError::NoResponders(subject) if &**subject == "nobody"), "{error:?}");

    let failing = bus.respond("a", |_| async { Err::<Bytes, _>(OutOf("luck")) }).expect("open");
    let error = bus.request(message("a", ""), LIMIT).await.expect_err("fails");
    assert!(matches!(&error, RequestError::Publish(PublishError::HandlersFailed(_))), "{error:?}");
    assert!(error.to_string().contains("out of luck"), "{error}");
    drop(failing);

    let silent = bus.subscribe_subject("a", |_: Delivery<RawMessage>| async {}).expect("open");
    let error = bus.request(message("a", ""), Duration::from_millis(20)).await.expect_err("silent");
    assert!(matches!(error, RequestError::Timeout), "{error:?}");
    drop(silent);

    let stuck = |_: Delivery<RawMessage>| std::future::pending::<Result<Bytes, HandlerError>>();
    let _stuck = bus.respond("a", stuck).expect("open");
    let (one, two) = tokio::join!(
        bus.request(message("a", ""), Duration::from_millis(50)),
        bus.request(message("a", "two"), Duration::from_millis(50)),
    );
    assert!(matches!(one, Err(RequestError::Timeout)), "{one:?}");
    let Err(RequestError::TooMany(message_back)) = two else { panic!("only one may wait: {two:?}") };
    assert_eq!(&message_back.payload[..], b"two");

    bus.shutdown(Duration::ZERO).await;
    let error = bus.request(message("a", ""), LIMIT).await.expect_err("closed");
    assert!(matches!(&error, RequestError::Publish(PublishError::Closed(_))), "{error:?}");
}

#[tokio::test]
async fn with_failures_collected_a_request_that_all_failed_does_not_wait() {
    let bus = Bus::builder().failure_policy(FailurePolicy::Collect).build().expect("valid");
    let _failing = bus.respond("a", |_| async { Err::<Bytes, _>(OutOf("luck")) }).expect("open");
    let error = bus.request(message("a", ""), LIMIT).await.expect_err("fails");
    assert!(matches!(error, RequestError::Publish(PublishError::HandlersFailed(_))));
}

#[tokio::test]
async fn an_answer_counts_whoever_else_fails() {
    let bus = Bus::builder().failure_policy(FailurePolicy::AnyFailed).build().expect("valid");
    let _responder = bus.respond("a", echo).expect("open");
    let _logger = bus.subscribe_subject(">", |_: Delivery<RawMessage>| async { Err(OutOf("disk")) }).expect("open");
    let answer = bus.request(message("a", "hello"), LIMIT).await.expect("one has answered");
    assert_eq!((&answer.payload[..], bus.unclaimed_answers()), (&b"hello"[..], 0));
}

#[tokio::test]
async fn answers_that_come_late_or_second_are_counted() {
    let bus = Bus::new();
    let gate = Arc::new(Semaphore::new(0));
    let behind = Arc::clone(&gate);
    let slow = bus.responder(move |_| {
        let gate = Arc::clone(&behind);
        async move {
            gate.acquire().await.expect("open").forget();
            Ok::<_, HandlerError>(Bytes::new())
        }
    });
    let queue = bus.subject_subscription("slow").expect("a pattern").queue(8).run(slow).expect("open");
    let error = bus.request(message("slow", ""), Duration::from_millis(10)).await.expect_err("late");
    assert!(matches!(error, RequestError::Timeout));
    gate.add_permits(1);
    until(|| bus.unclaimed_answers() == 1).await;
    let stats = queue.unsubscribe().await.expect("a queue");
    assert_eq!(stats.delivered, 1);
    balanced(stats, 1);

    let _both = [bus.respond("two", echo).expect("open"), bus.respond("*", echo).expect("open")];
    bus.request(message("two", ""), LIMIT).await.expect("one is enough");
    assert_eq!(bus.unclaimed_answers(), 2);
}

#[tokio::test]
async fn scattered_answers_are_gathered_until_all_have_come() {
    let bus = Bus::new();
    let _inline = [bus.respond("price.*", echo).expect("open"), bus.respond("price.>", echo).expect("open")];
    let queue = bus.subject_subscription(">").expect("a pattern").queue(8).run(bus.responder(echo)).expect("open");
    let report = bus.scatter(message("price.tea", "2"), LIMIT).await.expect("asked");
    assert!(report.is_complete(), "{report:?}");
    assert_eq!((report.answers.len(), report.asked, report.failures.len()), (3, 3, 0));
    assert!(report.answers.iter().all(|answer| &answer.payload[..] == b"2"));
    balanced(queue.unsubscribe().await.expect("a queue"), 1);
    let nobody = bus.scatter(message("nobody", ""), LIMIT).await;
    assert!(matches!(nobody, Err(RequestError::NoResponders(_))));
}

#[tokio::test]
async fn a_scattered_request_goes_on_without_those_that_fail_or_are_late() {
    let bus = Bus::builder().failure_policy(FailurePolicy::AnyFailed).build().expect("valid");
    let _failing = bus.respond("a", |_| async { Err::<Bytes, _>(OutOf("luck")) }).expect("open");
    let _answering = bus.respond("a", echo).expect("open");
    let report = bus.scatter(message("a", ""), LIMIT).await.expect("asked");
    assert_eq!((report.answers.len(), report.asked, report.failures.len()), (1, 2, 1));
    assert!(!report.is_complete());

    let stuck = |_: Delivery<RawMessage>| std::future::pending::<Result<Bytes, HandlerError>>();
    let _stuck = bus.respond("a", stuck).expect("open");
    let report = bus.scatter(message("a", ""), Duration::from_millis(50)).await.expect("asked");
    assert_eq!((report.answers.len(), report.asked), (1, 3), "what had come by then");
}

#[tokio::test]
async fn a_responder_also_handles_what_asks_for_no_answer() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let responder = move |_: Delivery<RawMessage>| {
        recorder.add(());
        async { Ok::<_, HandlerError>(Bytes::new()) }
    };
    let _responder = bus.respond("a", responder).expect("open");
    assert_eq!(bus.publish_subject(message("a", "")).await.expect("succeeds").called, 1);
    assert_eq!((calls.len(), bus.unclaimed_answers()), (1, 0));
}

#[tokio::test]
async fn a_handler_may_answer_by_itself_and_more_than_once() {
    let bus = Bus::new();
    let weak = bus.downgrade();
    let _manual = bus.subscribe_subject("count", move |request: Delivery<RawMessage>| {
        let bus = weak.upgrade().expect("alive");
        async move {
            let Some(reply_to) = request.reply_to.clone() else { return };
            for number in ["one", "two"] {
                drop(bus.publish_subject(RawMessage::new(reply_to.clone(), number)).await);
            }
        }
    });
    let report = bus.scatter(message("count", ""), LIMIT).await.expect("asked");
    assert_eq!(&report.answers[0].payload[..], b"one");
    assert_eq!(report.answers.len() as u64 + bus.unclaimed_answers(), 2);
}

#[tokio::test]
async fn a_responder_does_not_keep_its_bus_alive() {
    let bus = Bus::new();
    let weak = bus.downgrade();
    bus.respond("a", echo).expect("open").detach();
    drop(bus);
    assert!(weak.upgrade().is_none());
}

#[tokio::test]
async fn requests_that_are_dropped_leave_nothing_behind() {
    let bus = Bus::builder().pending_requests(1).build().expect("valid");
    let _responder = bus.respond("a", echo).expect("open");
    for polls in 0..200 {
        let mut left = polls % 5;
        let mut request = std::pin::pin!(bus.request(message("a", ""), LIMIT));
        let cut = std::future::poll_fn(|context| {
            if left == 0 {
                return std::task::Poll::Ready(None);
            }
            left -= 1;
            request.as_mut().poll(context).map(Some)
        });
        drop(cut.await);
    }
    bus.request(message("a", ""), LIMIT).await.expect("the only place is free");
}
