//! Stamped files in windows of ten seconds by the time at which they were stamped, whatever the order in which they come. What comes late is
//! accepted for five seconds more and corrects its window; what comes later still is dropped, counted, and named.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use bridge_orchestrator::reduce::{Firing, GroupBy, Item, Output, Reducer, Timestamp, Windowing};

fn seconds(seconds: i64) -> Timestamp {
    Timestamp::from_micros(seconds * 1_000_000)
}

/// A file of `kilobytes` that was stamped at `second`.
fn stamped(second: i64, namespace: &'static str, kilobytes: u64) -> Item<'static> {
    Item {
        stamp_id: "stamp",
        file_hash: "af1349b9",
        file_path: "/in/a.pdf",
        file_size: kilobytes << 10,
        namespace,
        content_type: "application/pdf",
        workflow_id: "batch-7",
        workflow_state: "processing",
        created_at: seconds(second),
    }
}

/// What was fired: why, where its window begins, and count and kilobytes of each group.
type Fired = Vec<(Firing, i64, Vec<(String, u64, i128)>)>;

fn fired(output: &Output<'_>) -> Fired {
    let panes = output.panes().map(|pane| {
        let start = pane.window().start().map_or(0, |start| start.as_micros() / 1_000_000);
        let groups = pane.groups().map(|group| (group.key().to_owned(), group.count(), group.bytes() >> 10));
        (pane.firing().expect("it was fired"), start, groups.collect())
    });
    panes.collect()
}

fn show(what: &str, fired: &Fired) {
    println!("{what}");
    for (why, start, groups) in fired {
        println!("    {why:?}, from second {start}: {groups:?}");
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut reducer = Reducer::builder(GroupBy::Namespace)
        .windowing(Windowing::Tumbling(Duration::from_secs(10)))
        .allowed_lateness(Duration::from_secs(5))
        .build()?;

    // In no order, and of two windows: nothing is fired before the watermark says that a window is whole.
    let items =
        [stamped(12, "invoices", 8), stamped(3, "letters", 1), stamped(9, "invoices", 2), stamped(4, "letters", 1)];
    assert_eq!(fired(&reducer.push(&items)?), []);

    // All up to second 10 are expected to have come.
    let on_time = fired(&reducer.advance_watermark(seconds(10)));
    show("the watermark is at 10", &on_time);
    let first = |letters| vec![("letters".to_owned(), letters, i128::from(letters)), ("invoices".to_owned(), 1, 2)];
    assert_eq!(on_time, [(Firing::OnTime, 0, first(2))]);

    // One was on its way for longer. Its window is held until second 15, and is fired again as it is by now.
    let late = fired(&reducer.push(&[stamped(5, "letters", 1)])?);
    show("one comes late", &late);
    assert_eq!(late, [(Firing::Late, 0, first(3))]);

    // Another one comes when its window is gone. It is not lost silently.
    let second = fired(&reducer.advance_watermark(seconds(20)));
    show("the watermark is at 20", &second);
    assert_eq!(second, [(Firing::OnTime, 10, vec![("invoices".to_owned(), 1, 8)])]);
    let items = [stamped(21, "letters", 1), stamped(6, "letters", 1)];
    let dropped = reducer.push(&items)?.dropped().to_vec();
    println!("dropped: {dropped:?} of the last two");
    assert_eq!(dropped, [1]);

    let last = fired(&reducer.finish());
    show("the end", &last);
    assert_eq!(last, [(Firing::OnTime, 20, vec![("letters".to_owned(), 1, 1)])]);

    let totals = reducer.totals();
    println!("{totals:?}");
    assert_eq!((totals.items, totals.on_time, totals.late_accepted, totals.dropped_late), (7, 5, 1, 1));
    assert_eq!(totals.items, totals.on_time + totals.late_accepted + totals.dropped_late);
    Ok(())
}
