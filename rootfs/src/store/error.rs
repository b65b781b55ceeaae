//! Why the store cannot do something.

use crate::image;
use rustix::io::Errno;
use std::path::{Path, PathBuf};

/// Why the store cannot do something. One sentence each, for people.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A system call on a file of the store.
    #[error("{what} {}: {}", path.display(), std::io::Error::from(*errno))]
    File {
        /// The operation.
        what: &'static str,
        /// The file.
        path: PathBuf,
        /// What the kernel said.
        errno: Errno,
    },
    /// The image cannot be read.
    #[error(transparent)]
    Image(#[from] image::Error),
    /// A layer that cannot be unpacked.
    #[error("layer {layer}: {why}")]
    Layer {
        /// Its diff id.
        layer: String,
        /// What is wrong, with the entry.
        why: String,
    },
    /// The marks of what is there are not those that the caller can use.
    #[error("{what} was unpacked for another kind of user, with whom no store can be shared")]
    OtherMarks {
        /// The layer or image.
        what: String,
    },
    /// The directory is somebody else's.
    #[error("{}: is no store of proa, and is not empty", .0.display())]
    NoStore(PathBuf),
    /// No image has this name or id.
    #[error("no image {name:?} in the store {}", store.display())]
    NoImage {
        /// What was asked for.
        name: String,
        /// The store.
        store: PathBuf,
    },
    /// Several images have an id that begins so.
    #[error("{name:?} is the beginning of several ids: {}", ids.join(", "))]
    Ambiguous {
        /// What was asked for.
        name: String,
        /// The ids.
        ids: Vec<String>,
    },
    /// A record that cannot be read.
    #[error("the store's {}: {why}", path.display())]
    Record {
        /// The file.
        path: PathBuf,
        /// What is wrong.
        why: String,
    },
}

pub(crate) type Result<T> = std::result::Result<T, Error>;

/// Attaches operation and file to what a call answered.
pub(crate) trait At<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T>;
}

impl<T> At<T> for rustix::io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|errno| Error::File { what, path: path.to_owned(), errno })
    }
}

impl<T> At<T> for std::io::Result<T> {
    fn at(self, what: &'static str, path: &Path) -> Result<T> {
        self.map_err(|error| Error::File {
            what,
            path: path.to_owned(),
            errno: Errno::from_io_error(&error).unwrap_or(Errno::IO),
        })
    }
}
