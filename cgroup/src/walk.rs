//! Goes through a cgroup and all below it, by descriptor, holding two at a time however deep a container has nested.
//!
//! The tree may change meanwhile: what is not there any more is passed over.

use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd};

use rustix::fs::{AtFlags, CWD, FileType, Mode, OFlags, RawDir, openat, unlinkat};
use rustix::io::Errno;

use crate::error::{Context, Error};
use crate::files::{read_all, removed, text};

const DIRECTORY: OFlags = OFlags::RDONLY.union(OFlags::DIRECTORY).union(OFlags::NOFOLLOW).union(OFlags::CLOEXEC);

/// Removes all cgroups below `path`, but for those that have processes in them.
pub(crate) fn remove_below(path: &str) -> Result<(), Error> {
    let remove = |parent: BorrowedFd<'_>, name: &CStr| removed(unlinkat(parent, name, AtFlags::REMOVEDIR)).map(drop);
    walk(path, &mut |_| Ok(()), &mut { remove }).context("remove the cgroups below", path)
}

/// Adds to `pids` the processes of a cgroup and of those below it, as far as they are visible in this pid namespace.
pub(crate) fn processes(path: &str, pids: &mut Vec<i32>) -> Result<(), Error> {
    let mut bytes = Vec::new();
    let mut list = |directory: BorrowedFd<'_>| {
        bytes.clear();
        match openat(directory, c"cgroup.procs", OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())
            .and_then(|file| read_all(&file, &mut bytes))
        {
            // EOPNOTSUPP: a threaded cgroup; its processes are those of the cgroup above.
            Ok(()) | Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => {}
            Err(errno) => return Err(errno),
        }
        for line in text(&bytes)?.lines() {
            match line.parse() {
                // 0 is a process that this pid namespace does not show.
                Ok(pid) if pid > 0 => pids.push(pid),
                Ok(_) => {}
                Err(_) => return Err(Errno::ILSEQ),
            }
        }
        Ok(())
    };
    walk(path, &mut list, &mut |_, _| Ok(())).context("list the processes of", path)
}

/// Writes `text` to that file of a cgroup and of all below it, where it is there.
pub(crate) fn write_below(path: &str, file: &CStr, value: &str) -> Result<(), Error> {
    let mut write = |directory: BorrowedFd<'_>| {
        let opened = openat(directory, file, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty());
        match opened.and_then(|file| rustix::io::write(&file, value.as_bytes())) {
            Ok(_) | Err(Errno::NOENT | Errno::NODEV) => Ok(()),
            Err(errno) => Err(errno),
        }
    };
    let file = file.to_string_lossy();
    walk(path, &mut write, &mut |_, _| Ok(())).context(&format!("write {value:?} to {file} below"), path)
}

/// Calls `enter` with each directory before, and `leave` with the directory above and the name after those below it.
/// `leave` is not called for `path` itself. A `path` that does not exist is an empty walk.
fn walk(
    path: &str,
    enter: &mut dyn FnMut(BorrowedFd<'_>) -> Result<(), Errno>,
    leave: &mut dyn FnMut(BorrowedFd<'_>, &CStr) -> Result<(), Errno>,
) -> Result<(), Errno> {
    let mut current = match openat(CWD, path, DIRECTORY, Mode::empty()) {
        Ok(fd) => fd,
        Err(Errno::NOENT) => return Ok(()),
        Err(errno) => return Err(errno),
    };
    enter(current.as_fd())?;
    // One level for each directory from `path` to the current one: its children still to do. The last child taken
    // from a level is the directory that the next level is about.
    let mut levels = vec![children(current.as_fd())?];
    while let Some(level) = levels.last_mut() {
        match level.next() {
            Some(name) => match openat(&current, name, DIRECTORY, Mode::empty()) {
                Ok(child) => {
                    enter(child.as_fd())?;
                    levels.push(children(child.as_fd())?);
                    current = child;
                }
                Err(Errno::NOENT | Errno::NODEV) => {}
                Err(errno) => return Err(errno),
            },
            None => {
                levels.pop();
                if let Some(above) = levels.last() {
                    // Always the same directory: cgroups cannot be moved, only renamed in place, on v1.
                    let parent = openat(&current, c"..", DIRECTORY, Mode::empty())?;
                    leave(parent.as_fd(), above.current())?;
                    current = parent;
                }
            }
        }
    }
    Ok(())
}

/// The names of the directories in a directory, one after the other.
struct Names {
    names: Vec<CString>,
    next: usize,
}

impl Names {
    fn next(&mut self) -> Option<&CStr> {
        let name = self.names.get(self.next)?;
        self.next += 1;
        Some(name)
    }

    /// The name that `next` gave last.
    fn current(&self) -> &CStr {
        self.next.checked_sub(1).and_then(|at| self.names.get(at)).map_or(c"", CString::as_c_str)
    }
}

fn children(directory: BorrowedFd<'_>) -> Result<Names, Errno> {
    let mut names = Vec::new();
    let mut buffer = [MaybeUninit::<u8>::uninit(); 4096];
    let mut entries = RawDir::new(directory, &mut buffer);
    while let Some(entry) = entries.next() {
        match entry {
            Ok(entry) if entry.file_type() != FileType::Directory => {}
            Ok(entry) if matches!(entry.file_name().to_bytes(), b"." | b"..") => {}
            Ok(entry) => names.push(entry.file_name().to_owned()),
            // The directory was removed while it was read.
            Err(Errno::NOENT | Errno::NODEV) => break,
            Err(errno) => return Err(errno),
        }
    }
    Ok(Names { names, next: 0 })
}
