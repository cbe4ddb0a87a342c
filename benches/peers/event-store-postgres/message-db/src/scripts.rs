//! The scripts of the npm package, which is fetched by `npm pack` and kept in the target folder.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

const PACKAGE: &str = "@eventide/message-db@1.3.1";

/// What is executed, in this order; views and privileges are not needed.
const SCRIPTS: [&str; 18] = [
    "schema/message-store",
    "extensions/pgcrypto",
    "tables/messages",
    "types/message",
    "functions/message-store-version",
    "functions/hash-64",
    "functions/acquire-lock",
    "functions/category",
    "functions/is-category",
    "functions/id",
    "functions/cardinal-id",
    "functions/stream-version",
    "functions/write-message",
    "functions/get-stream-messages",
    "functions/get-category-messages",
    "indexes/messages-category",
    "indexes/messages-id",
    "indexes/messages-stream",
];

/// The scripts with their names.
pub(crate) fn fetched() -> Result<Vec<(&'static str, String)>, String> {
    let folder = folder()?.join("message-db-1.3.1");
    let database = folder.join("package").join("database");
    if !database.exists() {
        fetch(&folder)?;
    }
    let read = |name: &'static str| {
        let path = database.join(name).with_extension("sql");
        fs::read_to_string(&path).map(|script| (name, script)).map_err(|error| format!("{}: {error}", path.display()))
    };
    SCRIPTS.into_iter().map(read).collect()
}

fn fetch(folder: &Path) -> Result<(), String> {
    // Under another name first: what was cut off is never taken for the whole.
    let unfinished = folder.with_extension(std::process::id().to_string());
    fs::create_dir_all(&unfinished).map_err(|error| error.to_string())?;
    run(Command::new("npm").args(["pack", "--silent", PACKAGE]).current_dir(&unfinished))?;
    let archive = fs::read_dir(&unfinished).map_err(|error| error.to_string())?.flatten().map(|entry| entry.path());
    let archive = archive.into_iter().find(|path| path.extension().is_some_and(|own| own == "tgz"));
    let archive = archive.ok_or("npm pack left no archive")?;
    run(Command::new("tar").arg("xzf").arg(archive).current_dir(&unfinished))?;
    match fs::rename(&unfinished, folder) {
        // Another process was sooner.
        Err(_) if folder.exists() => fs::remove_dir_all(&unfinished).map_err(|error| error.to_string()),
        outcome => outcome.map_err(|error| error.to_string()),
    }
}

fn run(command: &mut Command) -> Result<(), String> {
    let output = command.output().map_err(|error| format!("{}: {error}", command.get_program().display()))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("{}: {}", command.get_program().display(), String::from_utf8_lossy(&output.stderr).trim()))
}

/// The target folder that this program was built in.
fn folder() -> Result<PathBuf, String> {
    let program = env::current_exe().map_err(|error| error.to_string())?;
    let folder = program.ancestors().nth(2).ok_or("this program is nowhere")?;
    Ok(folder.to_owned())
}
