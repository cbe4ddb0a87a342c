//! A server, its databases, and what can be done to it.

use std::env;
use std::fmt::{self, Write as _};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, Ordering};

use rustix::process::Signal;
use serde::{Deserialize, Serialize};
use tokio::runtime::Runtime;
use tokio_postgres::config::Host;
use tokio_postgres::{Client, Config, NoTls};

use crate::cluster::{Cluster, Options, StopMode, execute};
use crate::discover::{OLDEST, Search, Source, find};
use crate::error::Error;
use crate::keeper::{Errands, Keeper};
use crate::place;

/// What a server promises of what was committed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
#[non_exhaustive]
pub enum Profile {
    /// `fsync`, `synchronous_commit` and `full_page_writes` are on, and the cluster is not on a file system in memory. The one for
    /// figures.
    #[default]
    Durable,
    /// All three are off. For tests of behaviour.
    Fast,
}

/// How a server is to be; see [`Server::builder`].
#[derive(Debug, Clone)]
#[must_use]
pub struct ServerBuilder {
    profile: Profile,
    tcp: bool,
    lent: bool,
    settings: Vec<(String, String)>,
    search: Search,
}

impl ServerBuilder {
    /// What it promises; [`Profile::Durable`] if not said.
    pub fn profile(mut self, profile: Profile) -> Self {
        self.profile = profile;
        self
    }

    /// Whether it listens on a free port of 127.0.0.1 beside its socket; it does if not said. Over TCP the superuser has a random password.
    pub fn tcp(mut self, tcp: bool) -> Self {
        self.tcp = tcp;
        self
    }

    /// A setting of `postgresql.conf`. Those of the profile and the addresses can be overruled; what PostgreSQL refuses is
    /// [`Error::Start`] with its log. Without effect on a lent server.
    pub fn setting(mut self, name: impl Into<String>, value: impl fmt::Display) -> Self {
        self.settings.push((name.into(), value.to_string()));
        self
    }

    /// This major version and no other. A version that neither the machine nor the wheel has is [`Error::NotFound`].
    pub fn major(mut self, major: u32) -> Self {
        self.search.major = Some(major);
        self
    }

    /// Binaries of the wheel even where the machine has others.
    pub fn wheel(mut self) -> Self {
        self.search.wheel_only = true;
        self
    }

    /// Nothing is downloaded, as with `EPHEMERAL_PG_OFFLINE=1`.
    pub fn offline(mut self) -> Self {
        self.search.offline = true;
        self
    }

    /// A server of our own even where `DATABASE_URL` lends one.
    pub fn owned(mut self) -> Self {
        self.lent = false;
        self
    }

    /// Finds PostgreSQL, starts a server and waits for its first answer. If the future is dropped, the server is stopped.
    ///
    /// # Errors
    /// [`Error::NotFound`] with all places that were tried; [`Error::Checksum`], [`Error::Init`], [`Error::Start`], [`Error::Permission`],
    /// [`Error::Volatile`], [`Error::Setting`], [`Error::Io`]; [`Error::Sql`] for a lent server that does not answer.
    pub async fn start(self) -> Result<Server, Error> {
        let lent = env::var("DATABASE_URL").ok().filter(|url| self.lent && !url.is_empty());
        if let Some(url) = lent {
            return Server::lent(url).await;
        }
        if !cfg!(target_os = "linux") {
            return Err(Error::Unsupported);
        }
        let options = Options { durable: self.profile == Profile::Durable, tcp: self.tcp, settings: self.settings };
        let search = self.search;
        let make = move |runtime: &Runtime| {
            let cluster = Cluster::start(find(&search)?, options, runtime)?;
            let report = ServerReport {
                file_system: Some(place::file_system(cluster.dir())),
                directory: Some(cluster.dir().to_owned()),
                binaries: Some(cluster.binaries().dir.clone()),
                ..runtime.block_on(report(&cluster.config(), cluster.binaries().source))?
            };
            let (config, tcp_config) = (cluster.config(), cluster.tcp_config());
            Ok((Some(cluster), (config, tcp_config, report)))
        };
        let (keeper, (config, tcp_config, report)) = Keeper::start(make).await?;
        Ok(Server { url: url_of(&config), config, tcp_config, report, keeper })
    }
}

/// A PostgreSQL server for as long as this value lives: dropping it, or the end of the process, however it comes, stops the server at once.
///
/// Unless `DATABASE_URL` lends one: then databases of our own are made there and dropped again, and nothing else is touched.
#[derive(Debug)]
pub struct Server {
    url: String,
    config: Config,
    tcp_config: Option<Config>,
    report: ServerReport,
    keeper: Keeper,
}

impl Server {
    /// A durable server with a socket and a TCP port, wherever PostgreSQL is found.
    pub fn builder() -> ServerBuilder {
        ServerBuilder {
            profile: Profile::Durable,
            tcp: true,
            lent: true,
            settings: Vec::new(),
            search: Search::default(),
        }
    }

    /// [`ServerBuilder::start`] with nothing but a profile.
    ///
    /// # Errors
    /// Those of [`ServerBuilder::start`].
    pub async fn start(profile: Profile) -> Result<Self, Error> {
        Self::builder().profile(profile).start().await
    }

    async fn lent(url: String) -> Result<Self, Error> {
        let config: Config = url.parse()?;
        let report = report(&config, Source::Lent).await?;
        if report.version_number / 10_000 < OLDEST {
            let reason = format!("PostgreSQL {} is older than {OLDEST}", report.version);
            return Err(Error::Setting { name: "DATABASE_URL".to_owned(), reason });
        }
        let (keeper, ()) = Keeper::start(|_| Ok((None, ()))).await?;
        let is_tcp = config.get_hosts().iter().any(|host| matches!(host, Host::Tcp(_)));
        Ok(Self { url, tcp_config: is_tcp.then(|| config.clone()), config, report, keeper })
    }

    /// Where the superuser connects: over the socket, or as `DATABASE_URL` says.
    #[must_use]
    pub fn url(&self) -> &str {
        &self.url
    }

    /// [`url`](Self::url) over TCP, with a password; `None` for a server that does not listen.
    #[must_use]
    pub fn tcp_url(&self) -> Option<String> {
        self.tcp_config.as_ref().map(url_of)
    }

    /// [`url`](Self::url) for a client in this process.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// [`tcp_url`](Self::tcp_url) for a client in this process.
    #[must_use]
    pub fn tcp_config(&self) -> Option<&Config> {
        self.tcp_config.as_ref()
    }

    /// What the server is, as it said itself when it came up.
    #[must_use]
    pub fn report(&self) -> &ServerReport {
        &self.report
    }

    /// A client of the superuser's database. Its connection is driven by a task of the current runtime.
    ///
    /// # Errors
    /// [`Error::Sql`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(&self) -> Result<Client, Error> {
        connect(&self.config).await
    }

    /// A new, empty database, dropped with the value, whoever is still connected.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn database(&self) -> Result<Database, Error> {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let name = format!("ephemeral_{}_{number}_{:08x}", std::process::id(), fastrand::u32(..));
        // Before it is there, so that a future dropped in between leaves nothing.
        let database = Database {
            config: with_database(&self.config, &name),
            tcp_config: self.tcp_config.as_ref().map(|config| with_database(config, &name)),
            admin: self.config.clone(),
            errands: self.keeper.errands(),
            name,
        };
        execute(&self.config, &format!("CREATE DATABASE {} TEMPLATE template0", database.name)).await?;
        Ok(database)
    }

    /// Connections and workers of the server but the one that asks.
    ///
    /// # Errors
    /// [`Error::Sql`].
    pub async fn backends(&self) -> Result<Vec<Backend>, Error> {
        let statement =
            "SELECT pid, backend_type, datname, state, query FROM pg_stat_activity WHERE pid <> pg_backend_pid()";
        let rows = self.connect().await?.query(statement, &[]).await?;
        let text = |row: &tokio_postgres::Row, at: usize| row.get::<_, Option<String>>(at).unwrap_or_default();
        Ok(rows
            .iter()
            .map(|row| Backend {
                pid: row.get(0),
                kind: text(row, 1),
                database: row.get(2),
                state: row.get(3),
                query: text(row, 4),
            })
            .collect())
    }

    /// Ends one connection from the server's side, by `pg_terminate_backend`: its client sees SQLSTATE 57P01. All others go on.
    ///
    /// # Errors
    /// [`Error::NoSuchBackend`], [`Error::NotOwned`], [`Error::Sql`].
    pub async fn terminate_backend(&self, pid: i32) -> Result<(), Error> {
        self.with_cluster(|_, _| Ok(())).await?;
        let row = self.connect().await?.query_one("SELECT pg_terminate_backend($1)", &[&pid]).await?;
        if row.get(0) { Ok(()) } else { Err(Error::NoSuchBackend(pid)) }
    }

    /// Signals one process of the server.
    ///
    /// # Errors
    /// [`Error::NoSuchBackend`] for a process that is not the server's; [`Error::NotOwned`], [`Error::Io`].
    pub async fn signal_backend(&self, pid: i32, signal: BackendSignal) -> Result<(), Error> {
        self.with_cluster(move |cluster, _| cluster.signal(pid, signal.signal())).await
    }

    /// Suspends every process of the server: connections stay, and nothing answers. If this process is killed meanwhile, they stay until the
    /// next start, which kills them.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::NotOwned`], [`Error::Io`].
    pub async fn pause(&self) -> Result<(), Error> {
        self.with_cluster(|cluster, _| cluster.suspend(true)).await
    }

    /// Lets a suspended server go on.
    ///
    /// # Errors
    /// Those of [`pause`](Self::pause).
    pub async fn resume(&self) -> Result<(), Error> {
        self.with_cluster(|cluster, _| cluster.suspend(false)).await
    }

    /// Stops the server and waits for its end, at most a minute. Nothing happens if it is stopped.
    ///
    /// # Errors
    /// [`Error::Killed`] for a server that had to be killed, [`Error::NotOwned`].
    pub async fn stop(&self, mode: StopMode) -> Result<(), Error> {
        self.with_cluster(move |cluster, _| cluster.stop(mode)).await
    }

    /// Starts a stopped server again, on the same socket and port, and waits for its first answer. Nothing happens if it runs.
    ///
    /// # Errors
    /// [`Error::Start`] with its log, [`Error::NotOwned`].
    pub async fn run(&self) -> Result<(), Error> {
        self.with_cluster(|cluster, runtime| cluster.run(runtime)).await
    }

    /// [`stop`](Self::stop), then [`run`](Self::run).
    ///
    /// # Errors
    /// Those of both.
    pub async fn restart(&self, mode: StopMode) -> Result<(), Error> {
        self.with_cluster(move |cluster, runtime| {
            cluster.stop(mode)?;
            cluster.run(runtime)
        })
        .await
    }

    /// The number of the server process.
    ///
    /// # Errors
    /// [`Error::Stopped`], [`Error::NotOwned`].
    pub async fn process(&self) -> Result<i32, Error> {
        self.with_cluster(|cluster, _| {
            cluster.is_running();
            cluster.postmaster().map(|pid| pid.as_raw_nonzero().get()).ok_or(Error::Stopped)
        })
        .await
    }

    /// The last 64 KiB of the server's log.
    ///
    /// # Errors
    /// [`Error::NotOwned`].
    pub async fn log(&self) -> Result<String, Error> {
        self.with_cluster(|cluster, _| Ok(cluster.log())).await
    }

    async fn with_cluster<T: Send + 'static>(
        &self,
        job: impl FnOnce(&mut Cluster, &Runtime) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        self.keeper.ask(|cluster, runtime| job(cluster.ok_or(Error::NotOwned)?, runtime)).await
    }
}

/// What a server is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[non_exhaustive]
pub struct ServerReport {
    /// Where it comes from.
    pub source: Source,
    /// Its version: `15.18 (Debian 15.18-0+deb12u1)`.
    pub version: String,
    /// Its version as a number: 150018.
    pub version_number: u32,
    /// Whether it waits for its disk: `on` or `off`.
    pub fsync: String,
    /// What a commit waits for.
    pub synchronous_commit: String,
    /// Whether pages are logged as a whole after a checkpoint.
    pub full_page_writes: String,
    /// Its cache.
    pub shared_buffers: String,
    /// How many may connect.
    pub max_connections: String,
    /// The file system of its cluster; unknown for a lent one.
    pub file_system: Option<String>,
    /// The folder of its cluster, with the socket.
    pub directory: Option<PathBuf>,
    /// The folder of its programs.
    pub binaries: Option<PathBuf>,
}

impl ServerReport {
    /// A program beside the server's, such as `pgbench`, if it is there.
    #[must_use]
    pub fn program(&self, name: &str) -> Option<PathBuf> {
        self.binaries.as_ref().map(|dir| dir.join(name)).filter(|path| path.is_file())
    }

    /// Whether an acknowledged commit survives the machine's death.
    #[must_use]
    pub fn is_durable(&self) -> bool {
        self.fsync == "on" && self.synchronous_commit != "off" && self.full_page_writes == "on"
    }
}

impl fmt::Display for ServerReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "PostgreSQL {} from {}", self.version, self.source)?;
        write!(f, ", fsync {}, synchronous_commit {}", self.fsync, self.synchronous_commit)?;
        write!(f, ", full_page_writes {}, shared_buffers {}", self.full_page_writes, self.shared_buffers)?;
        write!(f, ", max_connections {}", self.max_connections)?;
        match (&self.directory, &self.file_system) {
            (Some(dir), Some(file_system)) => write!(f, ", {} on {file_system}", dir.display()),
            _ => Ok(()),
        }
    }
}

async fn report(config: &Config, source: Source) -> Result<ServerReport, Error> {
    let client = connect(config).await?;
    let statement =
        "SELECT current_setting('server_version'), current_setting('server_version_num'), current_setting('fsync'),
        current_setting('synchronous_commit'), current_setting('full_page_writes'), current_setting('shared_buffers'),
        current_setting('max_connections')";
    let row = client.query_one(statement, &[]).await?;
    Ok(ServerReport {
        source,
        version: row.get(0),
        version_number: row.get::<_, String>(1).parse().unwrap_or_default(),
        fsync: row.get(2),
        synchronous_commit: row.get(3),
        full_page_writes: row.get(4),
        shared_buffers: row.get(5),
        max_connections: row.get(6),
        file_system: None,
        directory: None,
        binaries: None,
    })
}

/// A process of a server, as `pg_stat_activity` shows it.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct Backend {
    /// Its number.
    pub pid: i32,
    /// `client backend`, `checkpointer`, …
    pub kind: String,
    /// The database it is connected to.
    pub database: Option<String>,
    /// `active`, `idle`, `idle in transaction`, …
    pub state: Option<String>,
    /// What it runs, or has run last.
    pub query: String,
}

/// What is done to one process of a server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum BackendSignal {
    /// It is killed. The server takes this for a crash of its memory: it disconnects everybody and recovers.
    Kill,
    /// It stands still, its connection stays open.
    Suspend,
    /// It goes on.
    Resume,
}

impl BackendSignal {
    fn signal(self) -> Signal {
        match self {
            Self::Kill => Signal::KILL,
            Self::Suspend => Signal::STOP,
            Self::Resume => Signal::CONT,
        }
    }
}

/// A database for one test.
#[derive(Debug)]
pub struct Database {
    name: String,
    config: Config,
    tcp_config: Option<Config>,
    admin: Config,
    errands: Errands,
}

impl Database {
    /// Its name.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where the superuser connects to it: over the socket, or as `DATABASE_URL` says.
    #[must_use]
    pub fn url(&self) -> String {
        url_of(&self.config)
    }

    /// [`url`](Self::url) for a client in this process.
    #[must_use]
    pub fn config(&self) -> &Config {
        &self.config
    }

    /// How it is reached over TCP; `None` for a server that does not listen.
    #[must_use]
    pub fn tcp_config(&self) -> Option<&Config> {
        self.tcp_config.as_ref()
    }

    /// A client. Its connection is driven by a task of the current runtime.
    ///
    /// # Errors
    /// [`Error::Sql`].
    ///
    /// # Panics
    /// Outside of a tokio runtime.
    pub async fn connect(&self) -> Result<Client, Error> {
        connect(&self.config).await
    }
}

impl Drop for Database {
    fn drop(&mut self) {
        let (admin, statement) = (self.admin.clone(), format!("DROP DATABASE IF EXISTS {} WITH (FORCE)", self.name));
        self.errands.leave(move |cluster, runtime| {
            // With a server of our own that is stopped or suspended, it goes when the server does.
            if cluster.is_none_or(Cluster::answers) {
                let patience = std::time::Duration::from_secs(5);
                let _ = runtime.block_on(async { tokio::time::timeout(patience, execute(&admin, &statement)).await });
            }
        });
    }
}

async fn connect(config: &Config) -> Result<Client, Error> {
    let (client, connection) = config.connect(NoTls).await?;
    tokio::spawn(connection);
    Ok(client)
}

fn with_database(config: &Config, name: &str) -> Config {
    let mut config = config.clone();
    config.dbname(name);
    config
}

/// A URL of the first host, as libpq and tokio-postgres read it.
fn url_of(config: &Config) -> String {
    let mut url = "postgresql://".to_owned();
    if let Some(user) = config.get_user() {
        escape(&mut url, user.as_bytes());
        if let Some(password) = config.get_password() {
            url.push(':');
            escape(&mut url, password);
        }
        url.push('@');
    }
    match config.get_hosts().first() {
        Some(Host::Tcp(name)) => escape(&mut url, name.as_bytes()),
        #[cfg(unix)]
        Some(Host::Unix(path)) => escape(&mut url, Path::as_os_str(path).as_encoded_bytes()),
        _ => {}
    }
    if let Some(port) = config.get_ports().first() {
        let _ = write!(url, ":{port}");
    }
    url.push('/');
    escape(&mut url, config.get_dbname().unwrap_or_default().as_bytes());
    url
}

/// Percent-encodes what is not plain in every part of a URL (RFC 3986, 2.3).
fn escape(url: &mut String, bytes: &[u8]) {
    for &byte in bytes {
        if byte.is_ascii_alphanumeric() || b"-._~".contains(&byte) {
            url.push(char::from(byte));
        } else {
            let _ = write!(url, "%{byte:02X}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn url_reads_back_as_what_it_was_made_of() {
        let mut socket = Config::new();
        socket.host_path("/tmp/a b").port(54321).user("postgres").dbname("x");
        let url = url_of(&socket);
        assert_eq!(url, "postgresql://postgres@%2Ftmp%2Fa%20b:54321/x");
        let read: Config = url.parse().expect("a URL");
        assert_eq!((read.get_hosts(), read.get_ports()), (socket.get_hosts(), socket.get_ports()));
        let mut tcp = Config::new();
        tcp.host("127.0.0.1").port(5432).user("a@b").password("p:/w").dbname("näm/e");
        let read: Config = url_of(&tcp).parse().expect("a URL");
        assert_eq!((read.get_user(), read.get_password()), (Some("a@b"), Some(&b"p:/w"[..])));
        assert_eq!(read.get_dbname(), Some("näm/e"));
    }
}
