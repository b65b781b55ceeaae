//! The small files of cgroup file systems and of /proc, in as few system calls as they take.
//!
//! Paths given here are of this host's cgroup file systems, where no link can be made; what a container may have made
//! below its own cgroup is only reached by descriptor (walk.rs).

use rustix::fs::{AtFlags, CWD, Mode, OFlags, openat, unlinkat};
use rustix::io::{Errno, read, write};

/// Room for a file that is read at once: the longest are lists of processors.
pub(crate) const TEXT: usize = 4096;

/// What a file holds, without white space at its ends. One read: for files whose text the kernel makes at once, such
/// as cgroup.events or freezer.state, not for lists such as cgroup.procs, where a read may be short.
pub(crate) fn read_text<'b>(path: &str, buffer: &'b mut [u8; TEXT]) -> Result<&'b str, Errno> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    let length = read(&file, &mut buffer[..])?;
    if length == buffer.len() {
        return Err(Errno::FBIG);
    }
    text(&buffer[..length])
}

/// Bytes of the kernel's as text, without white space at their ends.
pub(crate) fn text(bytes: &[u8]) -> Result<&str, Errno> {
    std::str::from_utf8(bytes).map(str::trim).map_err(|_| Errno::ILSEQ)
}

/// Appends to `bytes` all that a file holds.
pub(crate) fn read_all(file: impl std::os::fd::AsFd, bytes: &mut Vec<u8>) -> Result<(), Errno> {
    loop {
        bytes.reserve(4096);
        if read(&file, rustix::buffer::spare_capacity(bytes))? == 0 {
            return Ok(());
        }
    }
}

/// Writes `text` to a file in one write, as the kernel wants it.
pub(crate) fn write_text(path: &str, text: &str) -> Result<(), Errno> {
    let file = openat(CWD, path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty())?;
    write(&file, text.as_bytes()).map(drop)
}

/// rmdir(2). True when the directory is gone, now or before; false when there is something in it.
pub(crate) fn remove_directory(path: &str) -> Result<bool, Errno> {
    removed(unlinkat(CWD, path, AtFlags::REMOVEDIR))
}

/// What an rmdir of a cgroup says: see [`remove_directory`].
pub(crate) fn removed(result: Result<(), Errno>) -> Result<bool, Errno> {
    match result {
        // ENODEV: another rmdir was in the middle of it. ENOTDIR: the name is that of a file of the kernel's.
        Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::NOTDIR) => Ok(true),
        Err(Errno::BUSY | Errno::NOTEMPTY) => Ok(false),
        Err(errno) => Err(errno),
    }
}
