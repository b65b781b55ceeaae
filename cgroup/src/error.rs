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
    /// `linux.cgroupsPath` is not of the form that the systemd driver wants.
    #[error(
        "linux.cgroupsPath: expected cgroupsPath to be of format \"slice:prefix:name\" for systemd cgroups, got {path:?} instead"
    )]
    NoScopePath {
        /// The path as it was given.
        path: String,
    },
    /// systemd has not done what it was asked to.
    #[error("systemd: {step}: {problem}")]
    Systemd {
        /// What it was asked to do, to which unit.
        step: String,
        /// Why it was not done.
        problem: String,
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
    /// A limit could not be put into force.
    #[error("linux.resources.{name}: {source}")]
    Limit {
        /// The limit: its path below `linux.resources`, such as `memory.limit`.
        name: String,
        /// Why not.
        source: Box<Error>,
    },
    /// A limit that cgroup v2 has not, for a controller that is not in v1 on this host.
    #[error("cgroup v2 has no such limit, and the controller {controller:?} of cgroup v1 is not on this machine")]
    NoV1 {
        /// Its name in v1.
        controller: String,
    },
    /// A file of cgroup v2 is named where there is no cgroup v2.
    #[error("needs cgroup v2, which is not on this machine")]
    NoUnified,
    /// A file of cgroup v2 is named that is none, or none to be written.
    #[error("{reason}")]
    BadUnified {
        /// What is wrong with its name.
        reason: &'static str,
    },
    /// The cgroup has the controller, but not the file.
    #[error("{path} does not exist: this kernel has no such limit")]
    NoFile {
        /// The file.
        path: String,
    },
    /// The controller is not in cgroup v2, or not handed down to the container's cgroup.
    #[error("the controller {controller:?} is not available in {path}: {reason}")]
    NoController {
        /// Its name.
        controller: String,
        /// The cgroup's directory.
        path: String,
        /// Why, as far as the kernel says.
        reason: String,
    },
    /// A cgroup below a threaded one takes no whole processes.
    #[error("{path} is below a threaded cgroup, or one made so by handing out controllers, and can hold no container")]
    Threaded {
        /// The cgroup's directory.
        path: String,
    },
    /// cgroup v1 takes no limit below what is in use.
    #[error("unable to set memory limit to {limit} (current usage: {usage}, peak usage: {peak})")]
    MemoryInUse {
        /// The limit, in bytes.
        limit: String,
        /// What is in use, in bytes.
        usage: u64,
        /// The most that ever was, in bytes.
        peak: u64,
    },
    /// A limit is below what is in use, and was to be refused then.
    #[error("rejecting {what} limit {limit} <= usage {usage}")]
    BelowUsage {
        /// `memory` or `memory+swap`.
        what: &'static str,
        /// The limit, in bytes.
        limit: u64,
        /// What is in use, in bytes.
        usage: u64,
    },
    /// Memory with swap is less than memory.
    #[error("{swap} is below memory.limit {limit}, which it includes")]
    SwapBelowLimit {
        /// In bytes.
        swap: u64,
        /// In bytes.
        limit: u64,
    },
    /// A limit on memory with swap alone means nothing to cgroup v2.
    #[error("needs a memory.limit, which it includes")]
    SwapWithoutLimit,
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
    /// The errno of the system call that failed, if one did; what it would have been where the reason was looked up.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Error::Sys { source, .. } => source.raw_os_error(),
            Error::Limit { source, .. } => source.errno(),
            Error::NoFile { .. } | Error::NoController { .. } => Some(libc::ENOENT),
            Error::MemoryInUse { .. } => Some(libc::EBUSY),
            _ => None,
        }
    }

    /// Names the limit that it is about.
    pub(crate) fn limit(self, name: impl Into<String>) -> Error {
        Error::Limit { name: name.into(), source: Box::new(self) }
    }

    pub(crate) fn sys(operation: String, path: String, errno: Errno) -> Error {
        Error::Sys { operation, path, source: errno.into() }
    }

    pub(crate) fn no_v1(controller: &str) -> Error {
        Error::NoV1 { controller: controller.to_owned() }
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
