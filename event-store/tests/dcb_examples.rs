//! The six examples of the specification of dynamic consistency boundaries (dcb.events), as a user of the store would write them.

mod support;

use event_store::{
    Append, AppendCondition, AppendError, Appended, EventType, MemoryStore, NewEvent, Position, Query, QueryItem, Read,
    RecordedEvent, Tag,
};
use support::{kind, tag};

/// The events that a decision is made on, and the condition under which it holds.
struct Decision {
    events: Vec<RecordedEvent>,
    condition: AppendCondition,
}

/// Reads what `query` selects; the decision holds while nothing more of it has come.
fn decide_on(store: &MemoryStore, query: Query) -> Decision {
    let events = store.read_now(&Read::query(query.clone()));
    let condition = AppendCondition::fail_if_events_match(query);
    let known = events.last().map(RecordedEvent::position);
    Decision { events, condition: known.map_or(condition.clone(), |known| condition.after(known)) }
}

impl Decision {
    fn is_of(&self, name: &str) -> bool {
        self.events.iter().any(|event| event.event_type().as_str() == name)
    }

    fn count(&self, name: &str, with: &Tag) -> usize {
        let is_counted = |e: &&RecordedEvent| e.event_type().as_str() == name && e.tags().contains(with.as_str());
        self.events.iter().filter(is_counted).count()
    }
}

fn happened(name: &str, payload: &str, tags: &[&Tag]) -> NewEvent {
    NewEvent::new(kind(name), payload.to_owned()).with_tags(tags.iter().map(|tag| (*tag).clone()).collect())
}

fn of(types: &[&str], about: &Tag) -> QueryItem {
    let types = types.iter().map(|name| EventType::new(name).expect("a valid type"));
    QueryItem::tags([about.clone()]).expect("one tag").of_types(types)
}

fn refused(outcome: &Result<Appended, AppendError>) -> bool {
    matches!(outcome, Err(AppendError::ConditionFailed { .. }))
}

fn text(event: &RecordedEvent) -> &str {
    std::str::from_utf8(event.payload()).expect("written as text")
}

mod course_subscriptions {
    //! A course has room for some students, a student takes at most ten courses: one decision over two things, which no single
    //! stream could guard.

    use super::*;

    fn query(course: &Tag, student: &Tag) -> Query {
        let about_course = of(&["CourseDefined", "CapacityChanged", "StudentSubscribed"], course);
        Query::items([about_course, of(&["StudentSubscribed"], student)]).expect("two items")
    }

    fn decision(store: &MemoryStore, course: &Tag, student: &Tag) -> Result<Append, &'static str> {
        let decision = decide_on(store, query(course, student));
        let capacity = decision.events.iter().rev().find(|event| event.event_type().as_str() != "StudentSubscribed");
        let capacity: usize = capacity.ok_or("no such course")?.payload().len();
        if decision.count("StudentSubscribed", course) >= capacity {
            return Err("the course is full");
        }
        if decision.count("StudentSubscribed", student) >= 10 {
            return Err("the student has ten courses");
        }
        let both = |e: &RecordedEvent| e.tags().contains(course.as_str()) && e.tags().contains(student.as_str());
        if decision.events.iter().any(both) {
            return Err("the student has this course");
        }
        Ok(Append::events([happened("StudentSubscribed", "", &[course, student])]).condition(decision.condition))
    }

    fn define(store: &MemoryStore, course: &Tag, capacity: usize) {
        let defined = happened("CourseDefined", &"x".repeat(capacity), &[course]);
        let guard = AppendCondition::fail_if_exists(Query::item(of(&["CourseDefined"], course)));
        store.append_now(Append::events([defined]).condition(guard)).expect("a new course");
    }

    #[test]
    fn neither_the_course_nor_the_student_is_overbooked() {
        let store = MemoryStore::new();
        let student = tag("student:1");
        let courses: Vec<Tag> = (0..11).map(|number| tag(&format!("course:{number}"))).collect();
        courses.iter().for_each(|course| define(&store, course, 2));
        for course in &courses[..10] {
            store.append_now(decision(&store, course, &student).expect("room for both")).expect("nobody else decides");
        }
        assert_eq!(decision(&store, &courses[10], &student).unwrap_err(), "the student has ten courses");
        let course = &courses[0];
        assert_eq!(decision(&store, course, &student).unwrap_err(), "the student has ten courses");
        store.append_now(decision(&store, course, &tag("student:2")).expect("the second place")).expect("nobody else");
        assert_eq!(decision(&store, course, &tag("student:3")).unwrap_err(), "the course is full");
    }

    #[test]
    fn two_students_do_not_get_the_last_place() {
        let store = MemoryStore::new();
        let course = tag("course:1");
        define(&store, &course, 1);
        let rivals = [tag("student:1"), tag("student:2")].map(|student| decision(&store, &course, &student));
        let outcomes = rivals.map(|append| store.append_now(append.expect("both see room")));
        assert!(outcomes[0].is_ok() && refused(&outcomes[1]), "{outcomes:?}");
    }

    #[test]
    fn decisions_about_other_courses_and_students_do_not_meet() {
        let store = MemoryStore::new();
        let (one, two) = (tag("course:1"), tag("course:2"));
        define(&store, &one, 1);
        define(&store, &two, 1);
        let first = decision(&store, &one, &tag("student:1")).expect("room");
        let second = decision(&store, &two, &tag("student:2")).expect("room");
        store.append_now(second).expect("its own course");
        store.append_now(first).expect("nothing about this course or student has come since");
    }
}

mod unique_username {
    //! A name is taken once at a time; an account that is closed gives its name back.

    use super::*;

    const ABOUT: [&str; 3] = ["AccountRegistered", "UsernameChanged", "AccountClosed"];

    fn claim(store: &MemoryStore, name: &Tag) -> Result<Append, &'static str> {
        let decision = decide_on(store, Query::item(of(&ABOUT, name)));
        // The last word about the name says whether it is free.
        if decision.events.last().is_some_and(|event| event.event_type().as_str() != "AccountClosed") {
            return Err("the name is taken");
        }
        Ok(Append::events([happened("AccountRegistered", "", &[name])]).condition(decision.condition))
    }

    #[test]
    fn of_two_claims_of_a_name_one_holds() {
        let store = MemoryStore::new();
        let name = tag("username:ada");
        let claims = [claim(&store, &name), claim(&store, &name)];
        let outcomes = claims.map(|append| store.append_now(append.expect("both see it free")));
        assert!(outcomes[0].is_ok() && refused(&outcomes[1]), "{outcomes:?}");
        assert_eq!(claim(&store, &name).unwrap_err(), "the name is taken");
    }

    #[test]
    fn a_name_that_was_given_back_is_free() {
        let store = MemoryStore::new();
        let name = tag("username:ada");
        store.append_now(claim(&store, &name).expect("free")).expect("nobody else");
        store.append_now(Append::events([happened("AccountClosed", "", &[&name])])).expect("no condition");
        store.append_now(claim(&store, &name).expect("free again")).expect("nobody else");
    }
}

mod invoice_number {
    //! Invoices are numbered without a gap.

    use super::*;

    fn next_invoice(store: &MemoryStore) -> Append {
        let issued = Query::item(QueryItem::types([kind("InvoiceIssued")]).expect("one type"));
        // The last invoice alone tells the next number; its position is where the decision stands.
        let last = store.read_now(&Read::query(issued.clone()).backwards().limit(1)).pop();
        let number = last.as_ref().map_or(1, |last| text(last).parse::<u64>().expect("a number") + 1);
        let condition = AppendCondition::fail_if_events_match(issued);
        let condition = last.map_or(condition.clone(), |last| condition.after(last.position()));
        Append::events([happened("InvoiceIssued", &number.to_string(), &[])]).condition(condition)
    }

    #[test]
    fn numbers_have_no_gap_and_no_twin_under_contention() {
        let store = MemoryStore::new();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    let mut issued = 0;
                    while issued < 25 {
                        match store.append_now(next_invoice(&store)) {
                            Ok(_) => issued += 1,
                            Err(AppendError::ConditionFailed { .. }) => {}
                            Err(error) => panic!("{error}"),
                        }
                    }
                });
            }
        });
        let numbers: Vec<u64> =
            store.read_now(&Read::all()).iter().map(|e| text(e).parse().expect("a number")).collect();
        assert_eq!(numbers, (1..=100).collect::<Vec<u64>>());
    }
}

mod opt_in_token {
    //! A sign-up is confirmed with its token, once, and in time.

    use super::*;
    use event_store::Timestamp;

    const VALID_FOR: i64 = 60 * 60 * 1_000_000;

    fn confirm(store: &MemoryStore, email: &Tag, token: &Tag, now: Timestamp) -> Result<Append, &'static str> {
        let about = QueryItem::tags([email.clone(), token.clone()]).expect("two tags");
        let about = about.of_types([kind("SignUpInitiated"), kind("SignUpConfirmed")]);
        let decision = decide_on(store, Query::item(about));
        let initiated = decision.events.first().ok_or("no such sign-up")?;
        if decision.is_of("SignUpConfirmed") {
            return Err("the token is used");
        }
        if now.as_micros() - initiated.time().as_micros() > VALID_FOR {
            return Err("the token is too old");
        }
        Ok(Append::events([happened("SignUpConfirmed", "", &[email, token])]).condition(decision.condition))
    }

    #[test]
    fn a_token_confirms_its_own_address_once_and_in_time() {
        let store = MemoryStore::new();
        let (email, token, began) = (tag("email:ada@example.org"), tag("otp:4711"), Timestamp::from_micros(1_000));
        let initiated = happened("SignUpInitiated", "", &[&email, &token]).with_time(began);
        store.append_now(Append::events([initiated])).expect("no condition");
        let soon = Timestamp::from_micros(2_000);
        assert_eq!(confirm(&store, &email, &tag("otp:4712"), soon).unwrap_err(), "no such sign-up");
        assert_eq!(confirm(&store, &tag("email:eve@example.org"), &token, soon).unwrap_err(), "no such sign-up");
        let late = Timestamp::from_micros(began.as_micros() + VALID_FOR + 1);
        assert_eq!(confirm(&store, &email, &token, late).unwrap_err(), "the token is too old");
        let both = [confirm(&store, &email, &token, soon), confirm(&store, &email, &token, soon)];
        let outcomes = both.map(|append| store.append_now(append.expect("both see it unused")));
        assert!(outcomes[0].is_ok() && refused(&outcomes[1]), "{outcomes:?}");
        assert_eq!(confirm(&store, &email, &token, soon).unwrap_err(), "the token is used");
    }
}

mod dynamic_product_price {
    //! A shopper pays the price that was shown: the one that holds, or the one before for a while after a change.

    use super::*;
    use event_store::Timestamp;

    const GRACE: i64 = 10 * 60 * 1_000_000;

    fn set_price(store: &MemoryStore, product: &Tag, price: u64, at: i64) {
        let event = happened("PriceSet", &price.to_string(), &[product]).with_time(Timestamp::from_micros(at));
        store.append_now(Append::events([event])).expect("no condition");
    }

    fn order(store: &MemoryStore, basket: &[(Tag, u64)], now: i64) -> Result<Append, &'static str> {
        let items = basket.iter().map(|(product, _)| of(&["PriceSet"], product));
        let decision = decide_on(store, Query::items(items).expect("a basket is not empty"));
        for (product, shown) in basket {
            let prices: Vec<&RecordedEvent> =
                decision.events.iter().filter(|event| event.tags().contains(product.as_str())).collect();
            let (last, before) = prices.split_last().ok_or("no such product")?;
            let is_price = |event: &RecordedEvent| text(event).parse() == Ok(*shown);
            let is_fresh = now - last.time().as_micros() <= GRACE;
            let held_before = before.last().is_some_and(|before| is_price(before));
            if !(is_price(last) || is_fresh && held_before) {
                return Err("the price has changed");
            }
        }
        let products: Vec<&Tag> = basket.iter().map(|(product, _)| product).collect();
        Ok(Append::events([happened("ProductsOrdered", "", &products)]).condition(decision.condition))
    }

    #[test]
    fn the_shown_price_holds_for_a_while_after_a_change() {
        let store = MemoryStore::new();
        let (book, pen) = (tag("product:book"), tag("product:pen"));
        set_price(&store, &book, 10, 0);
        set_price(&store, &pen, 2, 0);
        let basket = |price| [(book.clone(), price), (pen.clone(), 2)];
        set_price(&store, &book, 12, 100 * GRACE);
        assert!(order(&store, &basket(10), 100 * GRACE + GRACE).is_ok(), "within the grace");
        assert!(order(&store, &basket(12), 100 * GRACE + 1).is_ok(), "the price of now");
        assert_eq!(order(&store, &basket(10), 102 * GRACE).unwrap_err(), "the price has changed");
        assert_eq!(order(&store, &basket(9), 100 * GRACE).unwrap_err(), "the price has changed");
        assert_eq!(order(&store, &[(tag("product:cat"), 1)], 0).unwrap_err(), "no such product");
    }

    #[test]
    fn a_price_that_changes_between_look_and_order_is_noticed() {
        let store = MemoryStore::new();
        let (book, pen) = (tag("product:book"), tag("product:pen"));
        set_price(&store, &book, 10, 0);
        set_price(&store, &pen, 2, 0);
        let looked = || order(&store, &[(book.clone(), 10)], 0).expect("the price of now");
        let (first, second) = (looked(), looked());
        set_price(&store, &pen, 3, 1);
        store.append_now(first).expect("another product's price is nothing to it");
        set_price(&store, &book, 11, 2);
        assert!(refused(&store.append_now(second)));
    }
}

mod no_duplicate_record {
    //! A request that arrives twice, with ids made anew each time, is recorded once.

    use super::*;

    fn record(store: &MemoryStore, key: &Tag) -> Result<Appended, AppendError> {
        let guard = AppendCondition::fail_if_exists(Query::item(of(&["OrderPlaced"], key)));
        store.append_now(Append::events([happened("OrderPlaced", "{}", &[key])]).condition(guard))
    }

    #[test]
    fn the_second_request_with_a_key_is_refused_and_names_the_first() {
        let store = MemoryStore::new();
        record(&store, &tag("idempotency:1")).expect("the first");
        record(&store, &tag("idempotency:2")).expect("another one");
        let Err(AppendError::ConditionFailed { position, .. }) = record(&store, &tag("idempotency:1")) else {
            panic!("it is recorded twice")
        };
        assert_eq!(position, Position::FIRST);
        assert_eq!(store.head_now(), Position::new(2));
    }
}
