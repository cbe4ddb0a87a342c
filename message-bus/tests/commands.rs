//! Commands: one handler, one reply.

mod support;

use std::sync::Arc;
use std::time::Duration;

use message_bus::{Bus, Cause, HandleError, HandlerError, Metadata, SendError, command};
use support::{Calls, OutOf};
use tokio::task::yield_now;

#[derive(Debug, PartialEq)]
struct Ship(u64);
#[derive(Debug, PartialEq)]
struct Receipt(u64);
command!(Ship => Receipt, "test.ship");

#[derive(Debug, PartialEq)]
struct Cancel;
command!(Cancel => ());

async fn ship(command: Ship) -> Result<Receipt, OutOf> {
    yield_now().await;
    match command.0 {
        0 => Err(OutOf("parcels")),
        1 => panic!("a parcel of one"),
        2 => std::future::pending().await,
        number => Ok(Receipt(number * 2)),
    }
}

#[tokio::test]
async fn the_handler_gets_the_command_and_its_reply_comes_back() {
    let bus = Bus::new();
    assert!(!bus.handles::<Ship>());
    let subscription = bus.handle(ship).expect("the first");
    assert!(bus.handles::<Ship>() && !bus.handles::<Cancel>());
    for number in 3..10 {
        assert_eq!(bus.send(Ship(number)).await.expect("answered"), Receipt(number * 2));
    }
    drop(subscription);
    assert!(!bus.handles::<Ship>());
}

#[tokio::test]
async fn each_way_to_fail_has_its_error() {
    let bus = Bus::new();
    let refused = bus.send(Ship(9)).await.expect_err("no handler");
    assert!(matches!(refused, SendError::NoHandler(Ship(9))), "{refused:?}");
    assert_eq!(refused.into_command(), Some(Ship(9)));
    let _subscription = bus.command().name("shipping").run(ship).expect("the first");
    for _ in 0..3 {
        let Err(SendError::Handler(failure)) = bus.send(Ship(0)).await else { panic!("the handler fails") };
        assert_eq!(&*failure.handler, "shipping");
        assert!(matches!(&failure.cause, Cause::Error(error) if error.source().is::<OutOf>()));
        let Err(SendError::Handler(failure)) = bus.send(Ship(1)).await else { panic!("the handler panics") };
        assert!(matches!(&failure.cause, Cause::Panicked(text) if text == "a parcel of one"));
        let late = bus.send_within(Duration::from_millis(5), Ship(2)).await;
        assert!(matches!(late, Err(SendError::Timeout)));
        assert_eq!(bus.send(Ship(5)).await.expect("the bus is whole"), Receipt(10));
    }
    bus.shutdown(Duration::ZERO).await;
    assert!(matches!(bus.send(Ship(3)).await, Err(SendError::Closed(Ship(3)))));
    assert_eq!(bus.handle(ship).err(), Some(HandleError::Closed));
}

#[tokio::test]
async fn a_second_handler_is_refused_until_the_first_is_gone() {
    let bus = Bus::new();
    let first = bus.command::<Cancel>().name("first").run(async |_| Ok::<_, OutOf>(())).expect("the first");
    let refused = bus.command::<Cancel>().run(async |_| Ok::<_, OutOf>(())).expect_err("the second");
    assert_eq!(refused, HandleError::AlreadyHandled("first".into()));
    drop(first);
    let second = bus.handle::<Cancel>(async |_| Ok::<_, OutOf>(())).expect("free again");
    bus.send(Cancel).await.expect("answered");
    drop(second);
}

#[tokio::test]
async fn what_is_beyond_the_bound_is_given_back() {
    let bus = Bus::new();
    let gate = Arc::new(tokio::sync::Semaphore::new(0));
    let handler = {
        let gate = Arc::clone(&gate);
        move |command: Ship| {
            let gate = Arc::clone(&gate);
            async move {
                gate.acquire().await?.forget();
                Ok::<_, HandlerError>(Receipt(command.0))
            }
        }
    };
    let _subscription = bus.command().at_most(2).run(handler).expect("the first");
    let mut sending: Vec<_> = (0..2)
        .map(|number| {
            tokio::spawn({
                let bus = bus.clone();
                async move { bus.send(Ship(number)).await }
            })
        })
        .collect();
    yield_now().await;
    let rejected = bus.send(Ship(9)).await.expect_err("two are at work");
    assert!(matches!(rejected, SendError::Rejected(Ship(9))), "{rejected:?}");
    sending.pop().expect("two").abort();
    yield_now().await;
    gate.add_permits(1);
    assert_eq!(sending.pop().expect("one").await.expect("no panic").expect("answered"), Receipt(0));
    gate.add_permits(1);
    assert_eq!(bus.send(Ship(7)).await.expect("a dropped call has left its place"), Receipt(7));
}

#[tokio::test]
async fn unsubscribe_waits_for_the_command_at_work() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let slow = move |_: Cancel| {
        let calls = recorder.clone();
        async move {
            tokio::time::sleep(Duration::from_millis(10)).await;
            calls.add("done");
            Ok::<_, OutOf>(())
        }
    };
    let subscription = bus.handle(slow).expect("the first");
    let sending = tokio::spawn({
        let bus = bus.clone();
        async move { bus.send(Cancel).await }
    });
    yield_now().await;
    subscription.unsubscribe().await;
    assert_eq!(calls.all(), ["done"]);
    sending.await.expect("no panic").expect("answered");
    assert!(matches!(bus.send(Cancel).await, Err(SendError::NoHandler(Cancel))));
}

#[tokio::test]
async fn commands_of_several_buses_do_not_meet() {
    let (one, other) = (Bus::new(), Bus::new());
    let _one = one.handle(async |c: Ship| Ok::<_, OutOf>(Receipt(c.0))).expect("the first");
    let _other = other.handle(async |c: Ship| Ok::<_, OutOf>(Receipt(c.0 + 100))).expect("the first of its bus");
    assert_eq!(one.send(Ship(1)).await.expect("answered"), Receipt(1));
    assert_eq!(other.send(Ship(1)).await.expect("answered"), Receipt(101));
}

#[tokio::test]
async fn a_command_sent_by_a_handler_belongs_to_its_conversation() {
    let bus = Bus::new();
    let calls = Calls::default();
    let recorder = calls.clone();
    let _cancel = bus
        .handle(move |_: Cancel| {
            recorder.add(Metadata::current().expect("a handler is running"));
            std::future::ready(Ok::<_, OutOf>(()))
        })
        .expect("the first");
    let recorder = calls.clone();
    let sender = bus.clone();
    let _ship = bus
        .handle(move |command: Ship| {
            let (bus, calls) = (sender.clone(), recorder.clone());
            async move {
                calls.add(Metadata::current().expect("a handler is running"));
                bus.send(Cancel).await.map_err(|_| OutOf("luck"))?;
                Ok::<_, HandlerError>(Receipt(command.0))
            }
        })
        .expect("the first");
    bus.send(Ship(3)).await.expect("answered");
    let [ship, cancel] = &calls.all()[..] else { panic!("two") };
    assert_eq!((cancel.correlation, cancel.causation), (ship.id, Some(ship.id)));
    bus.shutdown(Duration::ZERO).await;
}
