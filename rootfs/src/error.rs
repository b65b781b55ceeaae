//! How a step fails: where in the plan, at what, and the errno. Small and without allocation, so that it can cross
//! from the container's process to the one that writes the sentence.

use rustix::io::Errno;

/// The result of every step.
pub type Result<T> = core::result::Result<T, Failure>;

/// A step that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// The entry of the plan it was about.
    pub item: Item,
    /// What was attempted, in words that fit between the item and the errno.
    pub what: &'static str,
    /// What the kernel said.
    pub errno: Errno,
}

/// Entries of the plan, by index.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Item {
    /// `root`.
    Root,
    /// The layers that `root` is made of.
    Layers,
    /// `mounts[i]`.
    Mount(u16),
    /// The source of `mounts[i]`.
    MountSource(u16),
    /// `linux.devices`, the default ones included.
    Device(u16),
    /// A link in /dev.
    Links,
    /// `linux.maskedPaths[i]`.
    Masked(u16),
    /// `linux.readonlyPaths[i]`.
    Readonly(u16),
    /// /dev/console and its terminal.
    Console,
}

impl Item {
    /// Attaches the entry to what a system call answered.
    pub fn at<T>(self, what: &'static str, result: rustix::io::Result<T>) -> Result<T> {
        result.map_err(|errno| Failure { item: self, what, errno })
    }

    /// A failure that no system call reported.
    pub fn fail<T>(self, what: &'static str, errno: Errno) -> Result<T> {
        Err(Failure { item: self, what, errno })
    }
}
