//! Everything that can go wrong, each as one sentence for a person. Engines match some of the phrases.

use rustix::io::Errno;
use std::fmt::Display;

pub(crate) type Result<T> = std::result::Result<T, Error>;

#[derive(Debug, thiserror::Error)]
pub(crate) enum Error {
    /// A property of config.json, or an argument, whose value cannot be used.
    #[error("{property}: {problem}")]
    Property { property: String, problem: String },
    /// config.json is not there, or not JSON of the right shape.
    #[error("{file}: {problem}")]
    Document { file: String, problem: String },
    #[error("container does not exist: {0}")]
    NoContainer(String),
    #[error("container with given ID already exists: {0}")]
    Exists(String),
    #[error("container not running: {0}")]
    NotRunning(String),
    /// A command that the container's status forbids.
    #[error("cannot {verb} {article} {status} container: {id}")]
    Status { verb: &'static str, article: &'static str, status: &'static str, id: String },
    /// The same in runc's words.
    #[error("{what}: {id}")]
    Refused { what: &'static str, id: String },
    #[error("cannot delete container {id} that is not stopped: {status}")]
    NotStopped { id: String, status: &'static str },
    /// A step in the container's process failed; the sentence is made from the plan.
    #[error("unable to start container process: {0}")]
    Child(String),
    /// The same, before the sentence was made.
    #[error("unable to start container process: {}: {}", .0.what, text(Errno::from_raw_os_error(.0.number)))]
    Step(crate::sync::Failure),
    /// The container's process ended without a word.
    #[error("the container's init process {0}")]
    ChildDied(String),
    /// The same, for want of memory. Engines look for the words.
    #[error("container init was OOM-killed (memory limit too low?)")]
    OutOfMemory,
    #[error("{stage} hook {index} {path:?} {problem}")]
    Hook { stage: &'static str, index: usize, path: String, problem: String },
    #[error(transparent)]
    Cgroup(#[from] cgroup::Error),
    /// A system call that failed; `what` names the operation and its arguments.
    #[error("{what}: {}", text(*errno))]
    Sys { what: String, errno: Errno },
    /// Another command holds what this one would wait for no longer.
    #[error("{0}")]
    Busy(String),
    /// A file of the state directory that does not read back.
    #[error("state of container {id}: {problem}")]
    State { id: String, problem: String },
    #[error("{0}")]
    Usage(String),
    /// What failed, and what failed of taking it back.
    #[error("{0}; {1}")]
    Twice(Box<Error>, Box<Error>),
}

/// A property and what is wrong with it.
pub(crate) fn bad(property: impl Display, problem: impl Display) -> Error {
    Error::Property { property: property.to_string(), problem: problem.to_string() }
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

impl<T> Context<T> for std::io::Result<T> {
    fn context(self, what: impl FnOnce() -> String) -> Result<T> {
        self.map_err(|error| Error::Sys { what: what(), errno: Errno::from_io_error(&error).unwrap_or(Errno::IO) })
    }
}

/// The errno in the words of strerror(3), in lower case as Go has it, since engines look for those.
pub(crate) fn text(errno: Errno) -> String {
    // musl has other words for this one.
    if errno == Errno::LOOP {
        return "too many levels of symbolic links".to_owned();
    }
    let mut text = std::io::Error::from_raw_os_error(errno.raw_os_error()).to_string();
    if let Some(at) = text.find(" (os error") {
        text.truncate(at);
    }
    let lower_first = text.get(..2).is_some_and(|two| two.chars().skip(1).all(char::is_lowercase));
    if lower_first {
        text[..1].make_ascii_lowercase();
    }
    text
}
