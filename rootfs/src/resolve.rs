//! Paths inside the container's root, resolved by descriptors: no link, no `..` and no race leads out of it.
//!
//! openat2(2) does it in one call; where that is missing, pathrs walks component by component.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{CWD, FileType, Mode, OFlags, ResolveFlags, mkdirat, openat, openat2, readlinkat};
use rustix::io::{Errno, Result};
use rustix::path::Arg;
use std::cell::Cell;
use std::ffi::{CStr, CString, OsStr};
use std::os::unix::ffi::OsStrExt;

/// As many links as the kernel follows.
const MAX_LINKS: usize = 40;
/// Calls of openat2 until it is believed that it will not succeed.
const MAX_TRIES: usize = 128;

/// A directory that is `/` for every path given here.
pub(crate) struct Dir {
    pub(crate) fd: OwnedFd,
    openat2: Cell<bool>,
    made: Cell<u64>,
}

/// What to create where a mount point is missing.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Missing {
    Directory,
    File,
}

impl Dir {
    pub(crate) fn new(fd: OwnedFd) -> Dir {
        Dir { fd, openat2: Cell::new(true), made: Cell::new(0) }
    }

    /// How many directories and files [`Dir::resolve_or_create`] has made so far.
    pub(crate) fn made(&self) -> u64 {
        self.made.get()
    }

    /// Opens a path for its name only (O_PATH), links followed inside the root.
    pub(crate) fn resolve(&self, path: &CStr) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH, ResolveFlags::IN_ROOT)
    }

    /// The same, but ELOOP if any component is a link.
    pub(crate) fn resolve_without_links(&self, path: &CStr) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
    }

    /// A directory that no link leads to; ENOTDIR if it is something else.
    pub(crate) fn resolve_real_directory(&self, path: &CStr) -> Result<OwnedFd> {
        self.open(path, OFlags::PATH | OFlags::DIRECTORY, ResolveFlags::IN_ROOT | ResolveFlags::NO_SYMLINKS)
    }

    /// Makes the last component of a path whose parent is there and reached through no link. Any error means that this
    /// was not so simple.
    pub(crate) fn make_last(&self, path: &CStr, missing: Missing) -> Result<OwnedFd> {
        let bytes = path.to_bytes();
        let at = bytes.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let parent = CString::new(if at == 0 { b"/" } else { &bytes[..at] }).map_err(|_| Errno::INVAL)?;
        let name = CString::new(&bytes[(at + 1).min(bytes.len())..]).map_err(|_| Errno::INVAL)?;
        let dir = self.resolve_real_directory(&parent)?;
        make(dir.as_fd(), &name, missing == Missing::File)?;
        self.resolve_without_links(path)
    }

    fn open(&self, path: &CStr, flags: OFlags, resolve: ResolveFlags) -> Result<OwnedFd> {
        if self.openat2.get() {
            match again(|| openat2(self.fd.as_fd(), path, flags | OFlags::CLOEXEC, Mode::empty(), resolve)) {
                Err(Errno::AGAIN) => {}
                Err(Errno::NOSYS | Errno::PERM) => self.openat2.set(false),
                answer => return answer,
            }
        }
        let found = self.walk(path, resolve.contains(ResolveFlags::NO_SYMLINKS))?;
        if flags.contains(OFlags::DIRECTORY)
            && FileType::from_raw_mode(rustix::fs::fstat(&found)?.st_mode) != FileType::Directory
        {
            return Err(Errno::NOTDIR);
        }
        Ok(found)
    }

    /// Without openat2.
    fn walk(&self, path: &CStr, no_links: bool) -> Result<OwnedFd> {
        let mut root = pathrs::RootRef::from_fd(self.fd.as_fd());
        if no_links {
            root.set_resolver_flags(pathrs::flags::ResolverFlags::NO_SYMLINKS);
        }
        match root.resolve(OsStr::from_bytes(path.to_bytes())) {
            Ok(handle) => Ok(handle.into()),
            Err(error) => Err(match error.kind() {
                pathrs::error::ErrorKind::OsError(Some(errno)) => Errno::from_raw_os_error(errno),
                _ => Errno::XDEV,
            }),
        }
    }

    /// Resolves a path whose missing components are made: directories, and at the end what `missing` says. A link
    /// that points to nothing is followed, inside the root, and what it points to is made.
    pub(crate) fn resolve_or_create(&self, path: &CStr, missing: Missing) -> Result<OwnedFd> {
        match self.resolve(path) {
            Err(Errno::NOENT) => self.create(path.to_bytes(), missing),
            answer => answer,
        }
    }

    fn create(&self, path: &[u8], missing: Missing) -> Result<OwnedFd> {
        let mut pending: Vec<Vec<u8>> = components(path).rev().collect();
        let mut done: Vec<u8> = Vec::new();
        let mut here = self.fd.try_clone().map_err(|_| Errno::MFILE)?;
        let mut links = 0;
        while let Some(name) = pending.pop() {
            let mut next = done.clone();
            next.push(b'/');
            next.extend_from_slice(&name);
            let next_path = CString::new(next.clone()).map_err(|_| Errno::INVAL)?;
            match self.resolve(&next_path) {
                Ok(fd) => here = fd,
                Err(Errno::NOENT) => {
                    let single = CString::new(name).map_err(|_| Errno::INVAL)?;
                    let last = pending.is_empty() && missing == Missing::File;
                    match make(here.as_fd(), &single, last) {
                        Ok(()) => {
                            self.made.set(self.made.get() + 1);
                            here = self.resolve(&next_path)?;
                        }
                        Err(Errno::EXIST) => {
                            links += 1;
                            if links > MAX_LINKS {
                                return Err(Errno::LOOP);
                            }
                            // A link to nothing: go on with what it says in place of its name.
                            let target = readlinkat(here.as_fd(), &*single, Vec::new())?.into_bytes();
                            pending.extend(components(&target).rev().collect::<Vec<_>>());
                            if target.first() == Some(&b'/') {
                                done.clear();
                                here = self.fd.try_clone().map_err(|_| Errno::MFILE)?;
                            }
                            continue;
                        }
                        Err(errno) => return Err(errno),
                    }
                }
                Err(errno) => return Err(errno),
            }
            done = next;
        }
        Ok(here)
    }
}

fn components(path: &[u8]) -> impl DoubleEndedIterator<Item = Vec<u8>> {
    path.split(|byte| *byte == b'/').filter(|name| !name.is_empty() && *name != b".").map(<[u8]>::to_vec)
}

/// One component, never through a link.
pub(crate) fn make(dir: BorrowedFd<'_>, name: &CStr, file: bool) -> Result<()> {
    if !file {
        return mkdirat(dir, name, Mode::from_raw_mode(0o755));
    }
    let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
    openat(dir, name, flags, Mode::from_raw_mode(0o644)).map(drop)
}

/// Lexically cleaned, absolute: `.` and empty components dropped, `..` taken back as far as the root.
pub fn clean(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." => drop(parts.pop()),
            part => parts.push(part),
        }
    }
    format!("/{}", parts.join("/"))
}

/// Opens a path as a process with this root would, with openat2(2): no link leads out of it, and none of proc is
/// followed.
///
/// # Errors
/// What the kernel says.
pub fn open_in_root(root: BorrowedFd<'_>, path: impl Arg + Copy, flags: OFlags) -> Result<OwnedFd> {
    let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
    again(|| openat2(root, path, flags | OFlags::CLOEXEC, Mode::empty(), resolve))
}

/// A rename elsewhere on the machine makes openat2(2) answer EAGAIN, and a signal EINTR.
pub(crate) fn again(open: impl Fn() -> Result<OwnedFd>) -> Result<OwnedFd> {
    for _ in 0..MAX_TRIES {
        match open() {
            Err(Errno::AGAIN | Errno::INTR) => {}
            answer => return answer,
        }
    }
    Err(Errno::AGAIN)
}

/// Opens a path of the host for its name only.
pub(crate) fn open_host(path: &CStr) -> Result<OwnedFd> {
    openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::symlink;

    #[test]
    fn paths_of_a_root() {
        let root = std::env::temp_dir().join(format!("rootfs-in-root-{}", std::process::id()));
        std::fs::create_dir_all(root.join("etc")).unwrap();
        std::fs::write(root.join("etc/passwd"), "the root's").unwrap();
        symlink("/etc/passwd", root.join("absolute")).unwrap();
        symlink("../../etc/passwd", root.join("climbing")).unwrap();
        symlink("/proc/self/root", root.join("etc/proc")).unwrap();
        let dir = open_host(&CString::new(root.as_os_str().as_bytes()).unwrap()).unwrap();
        for path in ["etc/passwd", "/etc/passwd", "absolute", "climbing", "../etc/../../etc/passwd"] {
            let file = std::fs::File::from(open_in_root(dir.as_fd(), path, OFlags::RDONLY).unwrap());
            assert_eq!(std::io::read_to_string(file).unwrap(), "the root's", "{path}");
        }
        assert_eq!(open_in_root(dir.as_fd(), "etc/proc", OFlags::PATH).unwrap_err(), Errno::NOENT);
        std::fs::remove_dir_all(&root).unwrap();
    }

    #[test]
    fn what_a_rename_disturbs_is_tried_again() {
        let tries = Cell::new(0);
        let opened = again(|| {
            tries.set(tries.get() + 1);
            if tries.get() < 3 { Err(Errno::AGAIN) } else { open_host(c"/") }
        });
        assert!(opened.is_ok());
        assert_eq!(again(|| Err(Errno::AGAIN)).unwrap_err(), Errno::AGAIN);
    }
}
