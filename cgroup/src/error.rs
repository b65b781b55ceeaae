//! What can go wrong with cgroups: the operation, what it was done to, and the errno.

use std::io;
use std::time::Duration;

use rustix::io::Errno;

/// An operation on cgroups that did not work.
#[derive(Debug, thiserror::Error)]
pub enum Error {
    /// `linux.cgroupsPath`, or the id that stands in for it, names no place.
    #[error("linux.cgroupsPath {path:?}: {reason}")]
    BadPath {
        /// The path as it was given.
        path: String,
        /// What is wrong with it, as the end of a sentence.
        reason: &'static str,
    },
    /// A path given to enter a sub-cgroup does not stay below the container's cgroup.
    #[error("sub-cgroup {path:?}: {reason}")]
    BadSubPath {
        /// The path as it was given.
        path: String,
        /// What is wrong with it, as the end of a sentence.
        reason: &'static str,
    },
    /// A system call failed.
    #[error("{operation} {path}: {}", words(source))]
    Sys {
        /// The operation, such as `mkdir` or `write "1" to`.
        operation: String,
        /// The file or directory it was done to.
        path: String,
        /// The errno.
        source: io::Error,
    },
    /// No cgroup file system is mounted where it can be found.
    #[error("no cgroup file system at /sys/fs/cgroup, nor any in /proc/self/mountinfo")]
    NotMounted,
    /// A file of the kernel does not look as documented.
    #[error("{file}: cannot make sense of {line:?}")]
    Malformed {
        /// The file.
        file: String,
        /// The line, or the part of it that is not understood.
        line: String,
    },
    /// No path leads to a process's cgroup: it is outside this cgroup namespace, or outside what is mounted.
    #[error(
        "cgroup {cgroup:?} of process {process} cannot be reached below {mount}, so that a relative linux.cgroupsPath, or joining it there, has no base"
    )]
    OutOfReach {
        /// The process, `self` or a pid.
        process: String,
        /// Its cgroup as /proc/PID/cgroup gives it.
        cgroup: String,
        /// Where the hierarchy is mounted.
        mount: String,
    },
    /// The cgroup of a new container has processes in it already.
    #[error("container's cgroup is not empty: {processes} process(es) found in {path}")]
    NotEmpty {
        /// The cgroup's directory.
        path: String,
        /// How many.
        processes: usize,
    },
    /// The cgroup of a new container is frozen, so that it would never start.
    #[error("container's cgroup {path} is unexpectedly frozen")]
    Frozen {
        /// The cgroup's directory.
        path: String,
    },
    /// A cgroup could not be removed in time, as there are processes in it.
    #[error("rmdir {path}: still busy after {waited:?}, processes {processes:?}")]
    Busy {
        /// The cgroup's directory.
        path: String,
        /// How long its processes were waited for.
        waited: Duration,
        /// The processes in it; empty when those of them that can be seen have gone.
        processes: Vec<i32>,
    },
    /// The processes did not all freeze in time; they run again.
    #[error("freeze {path}: not frozen after {waited:?}")]
    FreezeTimeout {
        /// The cgroup's directory.
        path: String,
        /// How long it was waited for.
        waited: Duration,
    },
    /// Processes went on being born while they were killed.
    #[error("kill the processes of {path}: there are still new ones after {rounds} rounds")]
    KillTimeout {
        /// A directory of the cgroup.
        path: String,
        /// How many times the processes were listed and killed.
        rounds: u32,
    },
    /// There is nothing to freeze with: no cgroup, or no v1 freezer and no v2.
    #[error("this container has no cgroup that can be frozen")]
    NoFreezer,
    /// Device rules cannot be applied: no v1 devices controller and no v2.
    #[error("device rules need the devices controller of cgroup v1, or cgroup v2: neither is there")]
    NoDeviceControl,
    /// cgroup v1 would silently ignore a device rule.
    #[error("device rule {rule:?} overlaps the earlier {earlier:?} without being equal: cgroup v1 would ignore it")]
    DeviceOverlap {
        /// The rule, as cgroup v1 writes it: `c 1:3 rwm`.
        rule: String,
        /// The rule it was to take something away from.
        earlier: String,
    },
    /// A controller is named that the container's cgroup has not.
    #[error("the container has no cgroup of the controller {name:?}")]
    UnknownController {
        /// The name.
        name: String,
    },
}

/// strerror(3) as Go prints it, in lower case and without the number.
fn words(error: &io::Error) -> String {
    let mut text = error.to_string();
    text.truncate(text.find(" (os error").unwrap_or(text.len()));
    if text.get(1..2).is_some_and(|second| second.chars().all(char::is_lowercase)) {
        text[..1].make_ascii_lowercase();
    }
    text
}

impl Error {
    /// The errno of the system call that failed, if one did.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Sys { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }
}

/// Gives an errno the operation and the path that make a sentence of it.
pub(crate) trait Context<T> {
    /// Names what was done, and to which file or directory.
    fn context(self, operation: &str, path: &str) -> Result<T, Error>;
}

impl<T> Context<T> for Result<T, Errno> {
    fn context(self, operation: &str, path: &str) -> Result<T, Error> {
        self.map_err(|errno| Error::Sys {
            operation: operation.to_owned(),
            path: path.to_owned(),
            source: errno.into(),
        })
    }
}
