//! The driver of the Open Container Initiative's validation suite: it runs the
//! suite's programs against runtimes, reads what they print, and compares with
//! what is known about each program.
//!
//! Not here: the programs themselves, which `conformance/suite/build` builds
//! outside the tree, and what is known about them: `conformance/suite/programs`.

pub mod driver;
pub mod expect;
pub mod knowledge;
pub mod left;
pub mod place;
pub mod record;
pub mod report;
pub mod run;
pub mod verdict;

/// What the driver cannot go on after.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// A file or a directory.
    #[error("cannot {verb} {path}: {source}")]
    File {
        /// What was to be done with it.
        verb: &'static str,
        /// Which one.
        path: String,
        /// Why not.
        source: std::io::Error,
    },
    /// A system call on something that has no path.
    #[error("cannot {what}: {source}")]
    System {
        /// What was to be done.
        what: &'static str,
        /// Why not.
        source: nix::errno::Errno,
    },
    /// A report that is to be read again.
    #[error("{path} is no report of this driver: {source}")]
    Json {
        /// The file.
        path: String,
        /// What is wrong in it.
        source: serde_json::Error,
    },
    /// A line of the knowledge file.
    #[error("{path}:{line}: {what}")]
    Knowledge {
        /// The file.
        path: String,
        /// Its line.
        line: usize,
        /// What is wrong in it.
        what: String,
    },
    /// The command line.
    #[error("{0}")]
    Usage(String),
}

impl Error {
    /// For `map_err`: an error of doing `verb` with the file at `path`.
    pub fn file(verb: &'static str, path: &std::path::Path) -> impl FnOnce(std::io::Error) -> Self {
        let path = path.display().to_string();
        move |source| Self::File { verb, path, source }
    }
}
