//! Numbers in files, little-endian, in a folder that all contenders share.

use std::path::{Path, PathBuf};
use std::{env, fs, io};

/// A file that could not be read or written.
#[derive(Debug, thiserror::Error)]
#[error("{path}: {source}")]
pub struct FileError {
    /// The file.
    pub path: PathBuf,
    /// What the system said.
    pub source: io::Error,
}

impl FileError {
    pub(crate) fn of(path: &Path) -> impl Fn(io::Error) -> Self {
        move |source| Self { path: path.to_owned(), source }
    }
}

/// A folder below the target folder that this binary was built into. Its name changes with what is stored: an index of something else is
/// never taken for one of this.
pub(crate) fn folder() -> Result<PathBuf, FileError> {
    let binary = env::current_exe().unwrap_or_default();
    let target = binary.ancestors().nth(2).unwrap_or_else(|| Path::new("target"));
    let folder = target.join("memory-store-corpus-1");
    fs::create_dir_all(&folder).map_err(FileError::of(&folder))?;
    Ok(folder)
}

/// A kind of number.
pub(crate) trait Number<const BYTES: usize>: Copy {
    fn to_bytes(self) -> [u8; BYTES];
    fn of_bytes(bytes: [u8; BYTES]) -> Self;
}

macro_rules! number {
    ($($kind:ty: $bytes:literal),*) => {$(
        impl Number<$bytes> for $kind {
            fn to_bytes(self) -> [u8; $bytes] {
                self.to_le_bytes()
            }
            fn of_bytes(bytes: [u8; $bytes]) -> Self {
                Self::from_le_bytes(bytes)
            }
        }
    )*};
}

number!(f32: 4, f64: 8, u32: 4);

/// The numbers of `path`, which are made and written if the file is not there or has another number of them.
pub(crate) fn kept<const B: usize, N: Number<B>>(
    path: &Path,
    count: usize,
    make: impl FnOnce() -> Vec<N>,
) -> Result<Vec<N>, FileError> {
    if let Ok(bytes) = fs::read(path)
        && bytes.len() == count * B
    {
        let (numbers, _) = bytes.as_chunks::<B>();
        return Ok(numbers.iter().map(|&bytes| N::of_bytes(bytes)).collect());
    }
    let numbers = make();
    let bytes: Vec<u8> = numbers.iter().flat_map(|number| number.to_bytes()).collect();
    // Under another name first: what was cut off is never taken for the whole.
    let unfinished = path.with_extension(format!("{}.tmp", std::process::id()));
    fs::write(&unfinished, bytes).map_err(FileError::of(&unfinished))?;
    fs::rename(&unfinished, path).map_err(FileError::of(path))?;
    Ok(numbers)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_kept_is_made_once_and_again_if_the_count_is_another() {
        let path = env::temp_dir().join(format!("kept-{}.f32", std::process::id()));
        let made: Vec<f32> = kept(&path, 2, || vec![1.5, -2.0]).expect("written");
        let read: Vec<f32> = kept(&path, 2, || unreachable!("it is there")).expect("read");
        assert_eq!(made, read);
        let others: Vec<f32> = kept(&path, 3, || vec![0.0; 3]).expect("written");
        assert_eq!(others.len(), 3);
        fs::remove_file(&path).expect("it was there");
    }
}
