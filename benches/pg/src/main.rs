//! `ephemeral-postgres up | down | url | status`: a server to work with by hand.

use std::env;
use std::error::Error;
use std::fs::File;
use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::process::{Command, ExitCode, Stdio};
use std::time::{Duration, Instant};

use ephemeral_postgres::{Holder, Profile, Server, Standing};
use tokio::signal::unix::{SignalKind, signal};

const USAGE: &str = "\
A throw-away PostgreSQL.

ephemeral-postgres up [--fast] [--detach]   start a server and hold it until Ctrl-C; --fast without fsync, --detach in the background
ephemeral-postgres down                     stop the server that is up
ephemeral-postgres url [--tcp]              where it is
ephemeral-postgres status                   what it is

It is looked for in DATABASE_URL, PG_BINDIR, PATH, pg_config --bindir, the usual folders, and a wheel from PyPI.
Exit codes: 0 done, 1 failed, or no server is up, 2 wrong usage.";

fn main() -> ExitCode {
    let arguments: Vec<String> = env::args().skip(1).collect();
    let words: Vec<&str> = arguments.iter().map(String::as_str).collect();
    let done = match &*words {
        ["up", flags @ ..] if flags.iter().all(|flag| ["--fast", "--detach"].contains(flag)) => {
            let profile = if flags.contains(&"--fast") { Profile::Fast } else { Profile::Durable };
            if flags.contains(&"--detach") { detach(profile) } else { up(profile) }
        }
        ["down"] => down(),
        ["url"] => url(false),
        ["url", "--tcp"] => url(true),
        ["status"] => status(),
        ["--help" | "-h" | "help"] => say(USAGE).map(|()| ExitCode::SUCCESS),
        _ => {
            let _ = writeln!(io::stderr(), "{USAGE}");
            return ExitCode::from(2);
        }
    };
    done.unwrap_or_else(|error| {
        let _ = writeln!(io::stderr(), "ephemeral-postgres: {error}");
        ExitCode::FAILURE
    })
}

type Done = Result<ExitCode, Box<dyn Error>>;

/// Prints a line. Whoever reads it may have gone: no reason to go too.
fn say(line: &str) -> Result<(), Box<dyn Error>> {
    match writeln!(io::stdout(), "{line}") {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error.into()),
        _ => Ok(()),
    }
}

fn up(profile: Profile) -> Done {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    runtime.block_on(async {
        let (mut terminate, mut interrupt) = (signal(SignalKind::terminate())?, signal(SignalKind::interrupt())?);
        let mut hang_up = signal(SignalKind::hangup())?;
        let holder = Holder::new()?;
        let server = Server::start(profile).await?;
        holder.announce(&server)?;
        say(server.url())?;
        say(&server.report().to_string())?;
        // In the background a terminal that closes is no reason to end.
        let is_detached = env::var_os(DETACHED).is_some();
        loop {
            tokio::select! {
                _ = terminate.recv() => break,
                _ = interrupt.recv() => break,
                _ = hang_up.recv() => if !is_detached { break },
            }
        }
        drop(server);
        drop(holder);
        Ok(ExitCode::SUCCESS)
    })
}

/// Set for the process in the background.
const DETACHED: &str = "EPHEMERAL_PG_DETACHED";

/// How many seconds `up --detach` waits for the server.
const PATIENCE: &str = "EPHEMERAL_PG_UP_SECONDS";

fn patience() -> Result<Duration, ephemeral_postgres::Error> {
    let Some(seconds) = env::var_os(PATIENCE) else { return Ok(Duration::from_secs(120)) };
    let seconds = seconds.to_str().and_then(|seconds| seconds.parse().ok()).map(Duration::from_secs);
    let reason = "it is no number of seconds".to_owned();
    seconds.ok_or(ephemeral_postgres::Error::Setting { name: PATIENCE.to_owned(), reason })
}

/// Starts `up` in a process of its own, and waits until its server answers. One that does not in time is ended.
fn detach(profile: Profile) -> Done {
    if let Some(standing) = Standing::find()? {
        return Err(ephemeral_postgres::Error::IsUp { url: standing.url }.into());
    }
    let patience = patience()?;
    let said = env::temp_dir().join(format!("ephemeral-postgres-{}.log", std::process::id()));
    let mut command = Command::new(env::current_exe()?);
    command.arg("up").env(DETACHED, "1").process_group(0).stdin(Stdio::null()).stdout(Stdio::null());
    if profile == Profile::Fast {
        command.arg("--fast");
    }
    let mut holder = command.stderr(File::create(&said)?).spawn()?;
    let began = Instant::now();
    let standing = loop {
        if let Some(standing) = Standing::find()? {
            break Ok(standing);
        }
        if holder.try_wait()?.is_some() {
            break Err("the server did not come up".to_owned());
        }
        if began.elapsed() > patience {
            // Its server goes with it.
            holder.kill()?;
            holder.wait()?;
            break Err(format!("the server did not come up within {patience:?}"));
        }
        std::thread::sleep(Duration::from_millis(5));
    };
    let log = std::fs::read_to_string(&said)?;
    std::fs::remove_file(&said)?;
    match standing {
        Ok(standing) => {
            say(&standing.url)?;
            Ok(ExitCode::SUCCESS)
        }
        Err(why) => Err(format!("{why}: {}", log.trim()).into()),
    }
}

fn down() -> Done {
    Standing::find()?.ok_or("no server is up")?.end()?;
    Ok(ExitCode::SUCCESS)
}

fn url(tcp: bool) -> Done {
    let standing = Standing::find()?.ok_or("no server is up")?;
    say(if tcp { standing.tcp_url.as_deref().ok_or("it does not listen")? } else { &standing.url })?;
    Ok(ExitCode::SUCCESS)
}

fn status() -> Done {
    let standing = Standing::find()?.ok_or("no server is up")?;
    say(&format!("{}\nheld by process {}\n{}", standing.url, standing.holder, standing.report))?;
    Ok(ExitCode::SUCCESS)
}
