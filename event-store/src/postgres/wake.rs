//! Who learns of appends, and how: at once in this process, by a notification from others, by asking otherwise.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use event_listener::{Event, EventListener};
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::types::Type;

use super::Shared;
use super::call::number;
use crate::event::Position;

/// The first pause after something has come; each next one is twice as long.
const SHORTEST_PAUSE: Duration = Duration::from_millis(2);
/// The longest pause while a connection listens.
const LISTENING_PAUSE: Duration = Duration::from_secs(1);
/// At most one notification in this time.
const NOTIFY_INTERVAL: Duration = Duration::from_millis(5);
/// How long somebody watches after the last subscription has slept.
const LINGER: Duration = Duration::from_secs(10);
/// The longest pause before a listening connection is tried again.
const RECONNECT: Duration = Duration::from_secs(5);

/// What is known of the head in this process, and who waits for more.
///
/// What others say is a reason to ask, and is not believed: anybody who may connect can notify.
#[derive(Debug, Default)]
pub(super) struct Wake {
    head: AtomicU64,
    /// What others are to be told, 0 for nothing.
    news: AtomicU64,
    is_closed: AtomicBool,
    moved: Event,
    /// Ends the pause of the one who watches.
    hurry: Notify,
    is_watched: AtomicBool,
    /// Whether a notification is about to go out.
    is_notifying: AtomicBool,
}

impl Wake {
    /// The last position that the server has told anybody in this process; 0 for none.
    pub(super) fn head(&self) -> u64 {
        self.head.load(Ordering::Acquire)
    }

    pub(super) fn is_closed(&self) -> bool {
        self.is_closed.load(Ordering::Acquire)
    }

    /// Tells those who sleep of a head; whether it is further than the last.
    pub(super) fn publish(&self, head: u64) -> bool {
        let is_further = self.head.fetch_max(head, Ordering::AcqRel) < head;
        if is_further {
            self.moved.notify(usize::MAX);
        }
        is_further
    }

    /// The server has been asked, and its head is before `known`, which was seen before the question: it was restored to an earlier state.
    fn go_back(&self, known: u64, head: u64) {
        if self.head.compare_exchange(known, head, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
            self.moved.notify(usize::MAX);
        }
    }

    /// Something that is told of the next head, and of the end. To be made before the last look at either.
    pub(super) fn listen(&self) -> EventListener {
        self.moved.listen()
    }

    pub(super) fn close(&self) {
        self.is_closed.store(true, Ordering::Release);
        self.moved.notify(usize::MAX);
        self.hurry.notify_one();
    }
}

impl Shared {
    /// Tells subscriptions that the head is at `last` at least: here now, elsewhere soon.
    pub(super) fn announce(self: &Arc<Self>, last: u64) {
        self.wake.publish(last);
        self.notify(last);
    }

    /// Lets subscriptions ask, because the head is said to be at `last`: here now, elsewhere soon.
    pub(super) fn suggest(self: &Arc<Self>, last: u64) {
        self.wake.hurry.notify_one();
        self.notify(last);
    }

    /// Tells other processes, soon and together with what comes meanwhile.
    fn notify(self: &Arc<Self>, last: u64) {
        if !self.options.notify {
            return;
        }
        self.wake.news.fetch_max(last, Ordering::AcqRel);
        if !self.wake.is_notifying.swap(true, Ordering::AcqRel) {
            let shared = Arc::clone(self);
            self.runtime.spawn(async move {
                sleep(NOTIFY_INTERVAL).await;
                // What comes from here on goes with the next one.
                shared.wake.is_notifying.store(false, Ordering::Release);
                let news = number(shared.wake.news.swap(0, Ordering::AcqRel)).to_string();
                let statement = "SELECT count(*) FROM pg_notify('es_' || 'es_head'::regclass::oid, $1)";
                // Without a notification others ask by themselves.
                let _ = shared.value::<i64>(statement, &[(&news, Type::TEXT)]).await;
            });
        }
    }

    /// Sees to it that somebody watches for what other processes append.
    pub(super) fn watch(self: &Arc<Self>) {
        if !self.wake.is_watched.swap(true, Ordering::AcqRel) {
            self.runtime.spawn(Watch { shared: Arc::clone(self), listening: None }.run());
        }
    }
}

/// The one who watches, for all subscriptions of a store. Whoever drops the store ends it.
struct Watch {
    shared: Arc<Shared>,
    listening: Option<JoinHandle<()>>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        if let Some(listening) = self.listening.take() {
            listening.abort();
        }
    }
}

impl Watch {
    async fn run(mut self) {
        let shared = Arc::clone(&self.shared);
        let wake = &shared.wake;
        let is_listening = Arc::new(AtomicBool::new(false));
        let mut pause = SHORTEST_PAUSE;
        let mut last_needed = Instant::now();
        while !wake.is_closed() {
            if self.listening.is_none() && shared.options.listen.is_some() {
                let listening = listen(Arc::clone(&shared), Arc::clone(&is_listening));
                self.listening = Some(shared.runtime.spawn(listening));
            }
            if wake.moved.total_listeners() > 0 {
                last_needed = Instant::now();
            } else if last_needed.elapsed() > LINGER {
                wake.is_watched.store(false, Ordering::Release);
                // A subscription that fell asleep just now relied on this one, unless it has found another.
                if wake.moved.total_listeners() == 0 || wake.is_watched.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
            let known = wake.head();
            let is_news = match shared.head().await.map(|head| head.map_or(0, Position::get)) {
                Ok(head) if head < known => {
                    wake.go_back(known, head);
                    false
                }
                Ok(head) => wake.publish(head),
                Err(_) => false,
            };
            let is_told = is_listening.load(Ordering::Acquire);
            let longest = if is_told { LISTENING_PAUSE } else { shared.options.poll_interval };
            pause = if is_news { SHORTEST_PAUSE } else { (pause * 2).min(longest) };
            let _ = timeout(pause, wake.hurry.notified()).await;
        }
    }
}

/// Keeps a connection that listens.
async fn listen(shared: Arc<Shared>, is_listening: Arc<AtomicBool>) {
    let mut pause = SHORTEST_PAUSE;
    while let Some(config) = shared.options.listen.clone() {
        let notified = Arc::downgrade(&shared);
        let on_notification = move |payload: &str| {
            // What this process has appended itself, for one, is known.
            if let Some(shared) = notified.upgrade()
                && payload.parse().is_ok_and(|head: u64| head > shared.wake.head())
            {
                shared.wake.hurry.notify_one();
            }
        };
        let patience = shared.options.answer_timeout;
        let connecting = timeout(patience, shared.options.connector.connect(config, Box::new(on_notification)));
        if let Ok(Ok((client, mut driving))) = connecting.await {
            let asking = async {
                let name = client.query_one("SELECT 'es_' || 'es_head'::regclass::oid", &[]).await?;
                client.batch_execute(&format!("LISTEN \"{}\"", name.try_get::<_, &str>(0)?)).await
            };
            let is_subscribed = tokio::select! {
                asked = timeout(patience, asking) => matches!(asked, Ok(Ok(()))),
                () = &mut driving => false,
            };
            if is_subscribed {
                pause = SHORTEST_PAUSE;
                is_listening.store(true, Ordering::Release);
                // What came before it listened is asked for.
                shared.wake.hurry.notify_one();
                driving.await;
                is_listening.store(false, Ordering::Release);
                shared.wake.hurry.notify_one();
            }
        }
        sleep(pause).await;
        pause = (pause * 2).min(RECONNECT);
    }
}
