//! One cluster and its server process, in blocking terms. Whoever starts a cluster stays: the server dies with the thread.

use std::fs::{self, File};
use std::io::{Read, Seek, SeekFrom};
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::chown;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tokio::runtime::Runtime;
use tokio_postgres::{Config, NoTls};

use crate::cache;
use crate::discover::Binaries;
use crate::error::Error;
use crate::parent_death::dies_with_this_thread;
use crate::place::{self, Place, processes, server_user};

/// The name of the superuser.
pub(crate) const SUPERUSER: &str = "postgres";

/// How long a server may take to come up, and to go down when it is told to.
const PATIENCE: Duration = Duration::from_secs(60);

/// Bytes of a log that are shown.
const TAIL: u64 = 64 * 1024;

/// The port that names the socket of a server without TCP.
const SOCKET_PORT: u16 = 5432;

/// How the server is told to stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[non_exhaustive]
pub enum StopMode {
    /// Transactions are rolled back, clients disconnected, a checkpoint is written (SIGINT).
    Fast,
    /// At once, as in a crash: the next start recovers from the log (SIGQUIT).
    Immediate,
}

/// How a cluster is made.
#[derive(Debug, Clone)]
pub(crate) struct Options {
    pub(crate) durable: bool,
    pub(crate) tcp: bool,
    pub(crate) settings: Vec<(String, String)>,
}

/// A cluster of its own.
#[derive(Debug)]
pub(crate) struct Cluster {
    binaries: Binaries,
    options: Options,
    port: u16,
    password: String,
    postmaster: Option<Child>,
    /// Whether all its processes stand still.
    suspended: bool,
    // Last: it is removed after the server has gone.
    place: Place,
}

impl Cluster {
    /// Makes a cluster by copying one that was made once, and starts it. Runs on the thread that the server is to die with.
    pub(crate) fn start(binaries: Binaries, options: Options, runtime: &Runtime) -> Result<Self, Error> {
        place::may_search(&binaries.dir, "PG_BINDIR")?;
        let template = template(&binaries)?;
        let place = Place::new(options.durable)?;
        copy_tree(&template, &place.data())?;
        let password = format!("{:032x}", fastrand::u128(..));
        let mut cluster =
            Self { binaries, options, port: SOCKET_PORT, password, postmaster: None, suspended: false, place };
        cluster.first_run(runtime)?;
        Ok(cluster)
    }

    /// Finds a port and gives the superuser a password.
    fn first_run(&mut self, runtime: &Runtime) -> Result<(), Error> {
        for _ in 0..20 {
            if self.options.tcp {
                self.port = free_port().map_err(Error::io("127.0.0.1"))?;
            }
            match self.run(runtime) {
                // Somebody else has taken the port meanwhile.
                Err(Error::Start { log }) if self.options.tcp && is_clash(&log) => {
                    fs::remove_file(self.place.log()).map_err(Error::io(self.place.log()))?;
                }
                Err(error) => return Err(error),
                Ok(()) => {
                    let statement = format!("ALTER USER {SUPERUSER} PASSWORD '{}'", self.password);
                    return runtime.block_on(execute(&self.config(), &statement));
                }
            }
        }
        Err(Error::Start { log: "no free port was found".to_owned() })
    }

    /// Starts the server process and waits for its first answer. Nothing happens if it runs.
    pub(crate) fn run(&mut self, runtime: &Runtime) -> Result<(), Error> {
        if self.is_running() {
            return Ok(());
        }
        let log = self.place.log();
        let out = File::options().create(true).append(true).open(&log).map_err(Error::io(&log))?;
        let from = out.metadata().map_err(Error::io(&log))?.len();
        let program = self.binaries.program("postgres");
        let mut command = as_server_user(&program);
        command.arg("-D").arg(self.place.data()).arg("-k").arg(self.place.dir()).arg("-p").arg(self.port.to_string());
        for (name, value) in self.settings() {
            command.arg("-c").arg(format!("{name}={value}"));
        }
        command.current_dir(self.place.data()).stderr(out.try_clone().map_err(Error::io(&log))?).stdout(out);
        dies_with_this_thread(&mut command);
        let postmaster = self.postmaster.insert(command.spawn().map_err(Error::io(&program))?);
        let until = Instant::now() + PATIENCE;
        let config = config(self.place.dir(), self.port);
        while runtime.block_on(execute(&config, "SELECT 1")).is_err() {
            let ended = postmaster.try_wait().map_err(Error::io(&program))?.is_some();
            if ended || Instant::now() > until {
                self.kill();
                return Err(Error::Start { log: tail(&log, from) });
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        Ok(())
    }

    fn settings(&self) -> impl Iterator<Item = (&str, &str)> {
        let safety = if self.options.durable { "on" } else { "off" };
        let listen = if self.options.tcp { "127.0.0.1" } else { "" };
        let ours = [
            ("fsync", safety),
            ("synchronous_commit", safety),
            ("full_page_writes", safety),
            ("listen_addresses", listen),
            ("logging_collector", "off"),
            ("log_timezone", "UTC"),
        ];
        ours.into_iter().chain(self.options.settings.iter().map(|(name, value)| (&**name, &**value)))
    }

    /// Stops the server process and waits for its end. One that does not go is killed, and that is an error.
    pub(crate) fn stop(&mut self, mode: StopMode) -> Result<(), Error> {
        let Some(postmaster) = &mut self.postmaster else { return Ok(()) };
        let signal = match mode {
            StopMode::Fast => Signal::INT,
            StopMode::Immediate => Signal::QUIT,
        };
        send(postmaster, signal);
        self.suspended = false;
        if wait(postmaster, PATIENCE) {
            self.postmaster = None;
            return Ok(());
        }
        self.kill();
        Err(Error::Killed(PATIENCE))
    }

    fn kill(&mut self) {
        if let Some(mut postmaster) = self.postmaster.take() {
            send(&postmaster, Signal::CONT);
            send(&postmaster, Signal::QUIT);
            if !wait(&mut postmaster, Duration::from_secs(5)) {
                send(&postmaster, Signal::KILL);
                let _ = postmaster.wait();
            }
        }
    }

    /// Whether the server process is there.
    pub(crate) fn is_running(&mut self) -> bool {
        let ended = self.postmaster.as_mut().is_none_or(|postmaster| !matches!(postmaster.try_wait(), Ok(None)));
        if ended {
            self.postmaster = None;
        }
        !ended
    }

    /// Sends a signal to a process of the server.
    pub(crate) fn signal(&self, pid: i32, signal: Signal) -> Result<(), Error> {
        let pid = processes(&self.place.data())
            .into_iter()
            .find(|found| found.as_raw_nonzero().get() == pid)
            .ok_or(Error::NoSuchBackend(pid))?;
        kill_process(pid, signal).map_err(|error| Error::Io { path: "kill".into(), source: error.into() })
    }

    /// Whether a client may hope for an answer.
    pub(crate) fn answers(&mut self) -> bool {
        self.is_running() && !self.suspended
    }

    /// Suspends all processes of the server, or lets them go on.
    pub(crate) fn suspend(&mut self, suspended: bool) -> Result<(), Error> {
        self.signal_all(if suspended { Signal::STOP } else { Signal::CONT })?;
        self.suspended = suspended;
        Ok(())
    }

    /// Sends a signal to all processes of the server, its children first.
    fn signal_all(&self, signal: Signal) -> Result<(), Error> {
        let postmaster = self.postmaster().ok_or(Error::Stopped)?;
        for pid in processes(&self.place.data()).into_iter().filter(|pid| *pid != postmaster) {
            // It may be gone by now.
            let _ = kill_process(pid, signal);
        }
        kill_process(postmaster, signal).map_err(|error| Error::Io { path: "kill".into(), source: error.into() })
    }

    /// The server process.
    pub(crate) fn postmaster(&self) -> Option<Pid> {
        self.postmaster.as_ref().map(Pid::from_child)
    }

    /// How the superuser connects over the socket.
    pub(crate) fn config(&self) -> Config {
        config(self.place.dir(), self.port)
    }

    /// How the superuser connects over TCP.
    pub(crate) fn tcp_config(&self) -> Option<Config> {
        self.options.tcp.then(|| {
            let mut config = Config::new();
            config.host(Ipv4Addr::LOCALHOST.to_string()).port(self.port);
            config.user(SUPERUSER).password(&self.password).dbname(SUPERUSER);
            config
        })
    }

    pub(crate) fn dir(&self) -> &Path {
        self.place.dir()
    }

    pub(crate) fn binaries(&self) -> &Binaries {
        &self.binaries
    }

    /// The end of what the server has logged.
    pub(crate) fn log(&self) -> String {
        tail(&self.place.log(), 0)
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        let _ = self.signal_all(Signal::CONT);
        self.kill();
    }
}

fn config(dir: &Path, port: u16) -> Config {
    let mut config = Config::new();
    config.host_path(dir).port(port).user(SUPERUSER).dbname(SUPERUSER).connect_timeout(Duration::from_secs(5));
    config
}

/// Runs statements on a connection of their own.
pub(crate) async fn execute(config: &Config, statements: &str) -> Result<(), Error> {
    let (client, connection) = config.connect(NoTls).await?;
    let connection = tokio::spawn(connection);
    let result = client.batch_execute(statements).await;
    drop(client);
    // It ends with its client.
    let _ = connection.await;
    Ok(result?)
}

/// A cluster that was made once, to be copied.
fn template(binaries: &Binaries) -> Result<PathBuf, Error> {
    let cache = cache::dir()?;
    place::may_search(&cache, cache::VARIABLE)?;
    // Nobody but its owner may read it.
    let name = cache::own(&format!("template-{}-{:08x}", binaries.version, hash(&binaries.dir)));
    cache::folder(&cache, &name, |dir| {
        if let Some(user) = server_user() {
            chown(dir, Some(user), Some(user)).map_err(Error::io(dir))?;
        }
        let program = binaries.program("initdb");
        let output = as_server_user(&program)
            .arg("-D")
            .arg(dir)
            .args(["--username", SUPERUSER, "--no-sync", "--encoding", "UTF8", "--locale", "C.UTF-8"])
            .args(["--auth-local", "trust", "--auth-host", "scram-sha-256"])
            .current_dir(dir)
            .output()
            .map_err(Error::io(&program))?;
        if output.status.success() {
            return Ok(());
        }
        let said = [output.stdout, output.stderr].concat();
        Err(Error::Init { log: String::from_utf8_lossy(&said).trim().to_owned() })
    })
}

/// Tells folders of programs apart, the same in every run (FNV-1a).
fn hash(path: &Path) -> u32 {
    let bytes = path.as_os_str().as_encoded_bytes();
    bytes.iter().fold(0x811c_9dc5, |hash, byte| (hash ^ u32::from(*byte)).wrapping_mul(0x0100_0193))
}

/// A program run as the user of the server, without what the environment says to clients of PostgreSQL.
fn as_server_user(program: &Path) -> Command {
    let mut command = Command::new(program);
    command.stdin(Stdio::null()).env("LC_ALL", "C.UTF-8").env("TZ", "UTC");
    for (name, _) in std::env::vars_os().filter(|(name, _)| name.as_encoded_bytes().starts_with(b"PG")) {
        command.env_remove(name);
    }
    if let Some(user) = server_user() {
        command.uid(user).gid(user);
    }
    command
}

/// Copies a folder with all in it, for the user of the server alone.
fn copy_tree(from: &Path, to: &Path) -> Result<(), Error> {
    use std::os::unix::fs::DirBuilderExt;
    let user = server_user();
    let owned = |path: &Path| user.map_or(Ok(()), |user| chown(path, Some(user), Some(user))).map_err(Error::io(path));
    fs::DirBuilder::new().mode(0o700).create(to).map_err(Error::io(to))?;
    owned(to)?;
    for entry in fs::read_dir(from).map_err(Error::io(from))? {
        let entry = entry.map_err(Error::io(from))?;
        let target = to.join(entry.file_name());
        if entry.file_type().map_err(Error::io(from))?.is_dir() {
            copy_tree(&entry.path(), &target)?;
        } else {
            fs::copy(entry.path(), &target).map_err(Error::io(&target))?;
            owned(&target)?;
        }
    }
    Ok(())
}

/// A port that nobody has at the moment.
fn free_port() -> std::io::Result<u16> {
    Ok(TcpListener::bind((Ipv4Addr::LOCALHOST, 0))?.local_addr()?.port())
}

fn is_clash(log: &str) -> bool {
    log.contains("Address already in use") || log.contains("could not create any TCP/IP sockets")
}

fn send(child: &Child, signal: Signal) {
    // A child that was not waited for keeps its number, so no other process is meant.
    let _ = kill_process(Pid::from_child(child), signal);
}

fn wait(child: &mut Child, patience: Duration) -> bool {
    let until = Instant::now() + patience;
    while Instant::now() < until {
        if !matches!(child.try_wait(), Ok(None)) {
            return true;
        }
        std::thread::sleep(Duration::from_millis(1));
    }
    false
}

/// The end of a log, from an offset on.
fn tail(path: &Path, from: u64) -> String {
    let read = || -> std::io::Result<Vec<u8>> {
        let mut file = File::open(path)?;
        let start = file.metadata()?.len().saturating_sub(TAIL).max(from);
        file.seek(SeekFrom::Start(start))?;
        let mut bytes = Vec::new();
        file.take(TAIL).read_to_end(&mut bytes)?;
        Ok(bytes)
    };
    match read() {
        Ok(bytes) => String::from_utf8_lossy(&bytes).trim().to_owned(),
        Err(error) => format!("{}: {error}", path.display()),
    }
}
