//! A TCP proxy that does harm on purpose, and counts it.

mod connection;
mod toxic;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::io;
use tokio::net::{TcpListener, TcpSocket};
use tokio::sync::watch;
use tokio::task::JoinHandle;
use tokio_postgres::Config;
use tokio_postgres::config::Host;

use crate::error::Error;
pub use toxic::{Direction, Toxic};

/// Where a proxy leads to.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub enum Upstream {
    /// A TCP port.
    Tcp(SocketAddr),
    /// A socket in the file system.
    Unix(PathBuf),
}

impl Upstream {
    /// The first host of a client's configuration.
    ///
    /// # Errors
    /// [`Error::Setting`] for a host that is no address.
    pub fn of(config: &Config) -> Result<Self, Error> {
        let port = config.get_ports().first().copied().unwrap_or(5432);
        let wrong = |reason: String| Error::Setting { name: "host".to_owned(), reason };
        match config.get_hosts().first() {
            Some(Host::Unix(dir)) => Ok(Self::Unix(dir.join(format!(".s.PGSQL.{port}")))),
            Some(Host::Tcp(host)) => {
                let address = if host == "localhost" { "127.0.0.1" } else { host };
                let address = address.parse().map_err(|_| wrong(format!("{host:?} is no address")))?;
                Ok(Self::Tcp(SocketAddr::new(address, port)))
            }
            None => Err(wrong("there is none".to_owned())),
        }
    }
}

/// Names a toxic that was added.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub struct ToxicId(u64);

/// What went through a proxy, and what it did: a test shows by these that the fault was felt.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub struct Counts {
    /// Connections that were taken.
    pub connections: u64,
    /// Connections that were refused, since the proxy refused all or its server did.
    pub refused: u64,
    /// Bytes that were delivered to the server.
    pub bytes_up: u64,
    /// Bytes that were delivered to the client.
    pub bytes_down: u64,
    /// Bytes that were held back in a [`Toxic::BlackHole`].
    pub held: u64,
    /// Bytes that were taken and not delivered, since their connection was cut.
    pub lost: u64,
    /// Connections that the proxy has closed or reset.
    pub cuts: u64,
}

#[derive(Debug, Default)]
struct Counters {
    connections: AtomicU64,
    refused: AtomicU64,
    bytes: [AtomicU64; 2],
    held: AtomicU64,
    lost: AtomicU64,
    cuts: AtomicU64,
}

/// What connections are told.
#[derive(Debug, Clone, Default)]
struct Orders {
    toxics: Vec<(ToxicId, Direction, Toxic)>,
    /// How often all connections were reset.
    resets: u64,
}

/// What a connection needs to know.
#[derive(Debug, Clone)]
struct Route {
    upstream: Upstream,
    orders: watch::Receiver<Orders>,
    counters: Arc<Counters>,
    seed: u64,
}

/// A proxy in front of a server. Dropping it closes its port and all its connections.
///
/// It passes bytes on as they are and half-closed streams too. It holds at most 1 MiB of a connection
/// in each direction; then the sender has to wait. The randomness of a toxic comes from the seed and the number of the connection.
#[derive(Debug)]
pub struct Proxy {
    address: SocketAddr,
    orders: watch::Sender<Orders>,
    route: Route,
    listening: Mutex<Option<JoinHandle<()>>>,
    next: AtomicU64,
}

impl Proxy {
    /// Listens on a free port of 127.0.0.1, with seed 0.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn start(upstream: Upstream) -> Result<Self, Error> {
        Self::with_seed(upstream, 0).await
    }

    /// [`start`](Self::start) with a seed.
    ///
    /// # Errors
    /// [`Error::Io`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn with_seed(upstream: Upstream, seed: u64) -> Result<Self, Error> {
        let listener = listen(SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).map_err(Error::io("127.0.0.1"))?;
        let address = listener.local_addr().map_err(Error::io("127.0.0.1"))?;
        let (orders, received) = watch::channel(Orders::default());
        let route = Route { upstream, orders: received, counters: Arc::default(), seed };
        let listening = tokio::spawn(accept(listener, route.clone()));
        Ok(Self { address, orders, route, listening: Mutex::new(Some(listening)), next: AtomicU64::new(0) })
    }

    /// Where clients connect.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.address
    }

    /// A client's configuration that leads through the proxy.
    #[must_use]
    pub fn config(&self, server: &Config) -> Config {
        let mut config = Config::new();
        config.host(self.address.ip().to_string()).port(self.address.port());
        if let Some(user) = server.get_user() {
            config.user(user);
        }
        if let Some(password) = server.get_password() {
            config.password(password);
        }
        if let Some(database) = server.get_dbname() {
            config.dbname(database);
        }
        config
    }

    /// Does harm to a direction from now on, until it is [removed](Self::remove). Several add up in the order they were added.
    ///
    /// # Errors
    /// [`Error::Setting`] for numbers that make no sense.
    pub fn add(&self, direction: Direction, toxic: Toxic) -> Result<ToxicId, Error> {
        toxic.check().map_err(|reason| Error::Setting { name: format!("{toxic:?}"), reason: reason.to_owned() })?;
        let id = ToxicId(self.next.fetch_add(1, Ordering::Relaxed));
        self.orders.send_modify(|orders| orders.toxics.push((id, direction, toxic)));
        Ok(id)
    }

    /// Ends a toxic. Nothing happens if it was removed.
    pub fn remove(&self, id: ToxicId) {
        self.orders.send_modify(|orders| orders.toxics.retain(|(other, ..)| *other != id));
    }

    /// Ends all toxics.
    pub fn heal(&self) {
        self.orders.send_modify(|orders| orders.toxics.clear());
    }

    /// Resets every connection that is open, on both sides (RST). New ones are taken. [`Counts::cuts`] tells how many there were.
    pub fn reset_all(&self) {
        self.orders.send_modify(|orders| orders.resets += 1);
    }

    /// Closes the port: new connections are refused by the system, those that are open go on.
    pub async fn refuse(&self) {
        let listening = self.listening().take();
        if let Some(listening) = listening {
            listening.abort();
            // Until it is gone, the port is open.
            let _ = listening.await;
        }
    }

    /// Opens the port again.
    ///
    /// # Errors
    /// [`Error::Io`] if somebody else has taken it.
    pub async fn accept_again(&self) -> Result<(), Error> {
        if self.listening().is_none() {
            let listener = listen(self.address).map_err(Error::io("127.0.0.1"))?;
            *self.listening() = Some(tokio::spawn(accept(listener, self.route.clone())));
        }
        Ok(())
    }

    /// What has happened so far.
    #[must_use]
    pub fn counts(&self) -> Counts {
        let counters = &self.route.counters;
        let get = |counter: &AtomicU64| counter.load(Ordering::Acquire);
        Counts {
            connections: get(&counters.connections),
            refused: get(&counters.refused),
            bytes_up: get(&counters.bytes[0]),
            bytes_down: get(&counters.bytes[1]),
            held: get(&counters.held),
            lost: get(&counters.lost),
            cuts: get(&counters.cuts),
        }
    }

    fn listening(&self) -> MutexGuard<'_, Option<JoinHandle<()>>> {
        self.listening.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Some(listening) = self.listening().take() {
            listening.abort();
        }
    }
}

fn listen(address: SocketAddr) -> io::Result<TcpListener> {
    let socket = TcpSocket::new_v4()?;
    // The port is opened again while its old connections are still in the system's memory.
    socket.set_reuseaddr(true)?;
    socket.bind(address)?;
    socket.listen(1024)
}

async fn accept(listener: TcpListener, route: Route) {
    loop {
        let Ok((client, _)) = listener.accept().await else {
            // Too many files, say: it passes.
            tokio::time::sleep(Duration::from_millis(10)).await;
            continue;
        };
        let number = route.counters.connections.fetch_add(1, Ordering::AcqRel);
        // A task of its own: connections outlive a port that is closed.
        tokio::spawn(connection::serve(client, route.clone(), number));
    }
}
