//! Where a benchmark spends its time: its binary runs under the harness's sampling profiler, which draws.

use std::collections::HashMap;
use std::fs::{self, File};
use std::path::{Path, PathBuf};
use std::process::Stdio;

use harness::record::replace_file;

use crate::run::{Entry, TIME_LIMIT, failure, wait};

/// A flamegraph and the stacks that it was drawn from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Flamegraph {
    /// The picture; it opens in a browser, where it can be searched and zoomed.
    pub svg: PathBuf,
    /// The stacks in the folded form: `outer;inner count`, one a line.
    pub stacks: PathBuf,
}

impl Flamegraph {
    /// Profiles `entry` for `seconds` and puts both files into `folder`, under its id with `/` written as `+`.
    ///
    /// # Errors
    /// Why there is none: the benchmark fails, takes too long, or is not timed.
    pub fn of(entry: &Entry, seconds: u32, folder: &Path) -> Result<Self, String> {
        let name = entry.bench.replace('/', "+");
        let work = folder.join(format!("{name}.running"));
        let io = |path: &Path| {
            let path = path.display().to_string();
            move |error: std::io::Error| format!("{path}: {error}")
        };
        if work.exists() {
            fs::remove_dir_all(&work).map_err(io(&work))?;
        }
        fs::create_dir_all(&work).map_err(io(&work))?;
        let log = work.join("log.txt");
        let output = File::create(&log).and_then(|file| Ok((file.try_clone()?, file)));
        let (stdout, stderr) = output.map_err(io(&log))?;
        let mut child = entry
            .command()
            .args(["--bench", "--profile-time", &seconds.to_string(), "--exact", &entry.bench])
            .env("CRITERION_HOME", &work)
            .env("GATE_RUN", &work)
            .env_remove("CARGO_CRITERION_PORT")
            .stdin(Stdio::null())
            .stdout(stdout)
            .stderr(stderr)
            .spawn()
            .map_err(|error| format!("does not start: {error}"))?;
        let status = wait(&mut child, TIME_LIMIT)?;
        if !status.success() {
            return Err(failure(status, &log, &log));
        }
        let drawn = find(&work, "flamegraph.svg").and_then(|svg| Some((find(&work, "stacks.folded")?, svg)));
        let Some((stacks, svg)) = drawn else {
            let said = fs::read_to_string(&log).unwrap_or_default();
            let last = said.lines().rfind(|line| !line.trim().is_empty()).unwrap_or("it said nothing");
            return Err(format!(
                "it draws no flamegraph: is it counted instead of timed, or without the harness's profiler? ({last})"
            ));
        };
        let kept = Self { svg: folder.join(format!("{name}.svg")), stacks: folder.join(format!("{name}.folded")) };
        for (from, to) in [(&svg, &kept.svg), (&stacks, &kept.stacks)] {
            fs::read(from).and_then(|bytes| replace_file(to, &bytes)).map_err(io(to))?;
        }
        fs::remove_dir_all(&work).map_err(io(&work))?;
        Ok(kept)
    }
}

/// The file called `name` somewhere below `folder`.
fn find(folder: &Path, name: &str) -> Option<PathBuf> {
    let entries = fs::read_dir(folder).ok()?.filter_map(Result::ok).map(|entry| entry.path());
    entries.into_iter().find_map(|path| {
        if path.is_dir() {
            return find(&path, name);
        }
        path.file_name().is_some_and(|own| own == name).then_some(path)
    })
}

/// All samples of folded stacks, and the functions by how many of them each took itself, the most first. Lines of another form count
/// for nothing.
#[must_use]
pub fn hottest(stacks: &str) -> (u64, Vec<(String, u64)>) {
    let mut own: HashMap<&str, u64> = HashMap::new();
    let lines = stacks.lines().filter_map(|line| {
        let (stack, count) = line.rsplit_once(' ')?;
        Some((stack.rsplit(';').next()?, count.parse::<u64>().ok()?))
    });
    for (function, count) in lines {
        *own.entry(function).or_default() += count;
    }
    let mut functions: Vec<(String, u64)> = own.into_iter().map(|(name, count)| (name.to_owned(), count)).collect();
    functions.sort_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
    (functions.iter().map(|(_, count)| count).sum(), functions)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_function_of_a_stack_took_the_time() {
        let stacks = "main;load;hash 30\nmain;load 5\nmain;save;hash 20\nno count\n\n";
        let functions = vec![("hash".to_owned(), 50), ("load".to_owned(), 5)];
        assert_eq!(hottest(stacks), (55, functions));
        assert_eq!(hottest(""), (0, Vec::new()));
    }
}
