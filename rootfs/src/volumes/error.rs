//! What can go wrong with volumes and quotas, each as one sentence.

use crate::tree::{self, Stopped};
use rustix::io::Errno;
use std::path::Path;

/// The result of what is done to volumes and quotas.
pub type Result<T> = std::result::Result<T, Error>;

/// An operation on volumes or quotas that was not done.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// A system call failed.
    #[error("{what}: {}", words(*errno))]
    Sys {
        /// The operation and its arguments.
        what: String,
        /// What the kernel said.
        errno: Errno,
    },
    /// There is no volume of this name.
    #[error("no such volume: {0}")]
    NoVolume(String),
    /// There is one already.
    #[error("there is a volume {0} already")]
    Exists(String),
    /// A volume that something needs.
    #[error("volume {name} is in use by {by}")]
    InUse {
        /// The volume.
        name: String,
        /// Who needs it, as the end of a sentence.
        by: String,
    },
    /// What was asked for cannot be done, or makes no sense; the whole sentence.
    #[error("{0}")]
    Refused(String),
}

impl Error {
    /// What was on the way through a tree that begins at `root`.
    pub(super) fn stopped(doing: &str, root: &Path, stopped: Stopped) -> Error {
        let Stopped { what, path, errno } = stopped;
        let path = tree::joined(root, &path);
        match errno {
            Errno::XDEV => Error::Refused(format!("{doing}: something is mounted at {}", path.display())),
            _ => Error::Sys { what: format!("{doing}: {what} {}", path.display()), errno },
        }
    }
}

/// The errno in the words of strerror(3), in lower case.
fn words(errno: Errno) -> String {
    if errno == Errno::LOOP {
        return "too many levels of symbolic links".to_owned();
    }
    let mut text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    text.truncate(text.find(" (os error").unwrap_or(text.len()));
    if text.chars().nth(1).is_some_and(char::is_lowercase) {
        text[..1].make_ascii_lowercase();
    }
    text
}

/// Names the operation that a system call was part of.
pub(crate) trait Context<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T>;
}

impl<T> Context<T> for rustix::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|errno| Error::Sys { what: what(), errno })
    }
}
