//! Copies a directory with all that can be told of it: owners, modes, times, attributes, links, holes.
//!
//! The source is an image's, which may hold anything; the target is new and nobody else's. Both are walked by
//! descriptors, see [`crate::tree`].

use super::{Budget, attributes};
use crate::host::is_in_user_namespace;
use crate::tree::{self, Step, Stopped, Visit, at};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, fstat, ftruncate, ioctl_ficlone, linkat, mkdirat, mknodat, openat,
    readlinkat, seek, statat, symlinkat,
};
use rustix::io::{Errno, Result, read, write};
use std::collections::HashMap;
use std::ffi::{CStr, CString};

/// Copies what is in `from`, which may be opened with O_PATH, into the empty directory `to`, and what `from` is itself.
/// Sockets are left out, and devices in a user namespace, where none can be made.
pub(super) fn tree(from: BorrowedFd<'_>, to: BorrowedFd<'_>, budget: &mut Budget) -> std::result::Result<(), Stopped> {
    let stopped = |(what, errno)| Stopped { what, path: Default::default(), errno };
    let mut copy = Copy::new(to, budget).map_err(stopped)?;
    let stat = at("look at", fstat(from)).map_err(stopped)?;
    tree::walk(from, &mut copy)?;
    copy.attributes(from, None, &stat).map_err(stopped)
}

struct Copy<'b> {
    budget: &'b mut Budget,
    root: OwnedFd,
    /// The directory that is being filled.
    here: OwnedFd,
    /// For each directory below the root: what its source was before it was read, and the place of the one above.
    above: Vec<(Stat, (u64, u64))>,
    /// Where files with several names were copied to first: the directory and the name.
    links: HashMap<(u64, u64), (Vec<u8>, CString)>,
    buffer: Vec<u8>,
    /// Whether the file systems may share blocks, and whether the kernel copies between them; until one says no.
    clones: bool,
    copies: bool,
    in_user_namespace: bool,
}

impl Copy<'_> {
    fn new<'b>(to: BorrowedFd<'_>, budget: &'b mut Budget) -> Step<Copy<'b>> {
        Ok(Copy {
            budget,
            root: at("open", tree::reopen(to))?,
            here: at("open", tree::reopen(to))?,
            above: Vec::new(),
            links: HashMap::new(),
            buffer: Vec::new(),
            clones: true,
            copies: true,
            in_user_namespace: is_in_user_namespace(),
        })
    }

    /// What `from` has beside its content, for `to` or the directory that is being filled.
    fn attributes(&mut self, from: BorrowedFd<'_>, to: Option<BorrowedFd<'_>>, stat: &Stat) -> Step<()> {
        let copied = attributes::copy(from, to.unwrap_or(self.here.as_fd()), stat)?;
        at("copy the attributes of", self.budget.take_bytes(copied))
    }

    /// One more name for a file that is there already. False: it has to be copied.
    fn link(&self, stat: &Stat, name: &CStr) -> Step<bool> {
        let Some((way, first)) = self.links.get(&tree::place(stat)) else { return Ok(false) };
        let way = if way.is_empty() { c".".to_owned() } else { CString::new(way.clone()).unwrap_or_default() };
        let linked = tree::open(self.root.as_fd(), &way, OFlags::PATH | tree::DIRECTORY)
            .and_then(|dir| linkat(dir, first, &self.here, name, AtFlags::empty()));
        match linked {
            Ok(()) => Ok(true),
            // As many names as the file system has for one file, or too deep for a path.
            Err(Errno::MLINK | Errno::NAMETOOLONG) => Ok(false),
            Err(errno) => at("make a hard link", Err(errno)),
        }
    }

    fn file(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Step<()> {
        // What was a file may have become something that opening waits for.
        let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY;
        let from = at("open", tree::open(dir, name, flags))?;
        let stat = at("look at", fstat(&from))?;
        if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
            return at("open", Err(Errno::STALE));
        }
        let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC;
        let to = at("create", openat(&self.here, name, flags, Mode::RUSR | Mode::WUSR))?;
        at("copy", self.content(from.as_fd(), to.as_fd(), &stat))?;
        self.attributes(from.as_fd(), Some(to.as_fd()), &stat)
    }

    /// What is in a file; holes stay holes.
    fn content(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, stat: &Stat) -> Result<()> {
        let size = stat.st_size.unsigned_abs();
        if size == 0 {
            return Ok(());
        }
        if self.clones {
            match ioctl_ficlone(to, from) {
                // Shared until one of the two is written to.
                Ok(()) => return self.budget.take_bytes(stat.st_blocks.unsigned_abs().saturating_mul(512)),
                // Full, or over a quota: copying would be so too.
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => return Err(errno),
                Err(_) => self.clones = false,
            }
        }
        let mut done = 0;
        while done < size {
            let start = match seek(from, SeekFrom::Data(done)) {
                Ok(start) => start,
                Err(Errno::NXIO) => break,
                // A file system without holes.
                Err(_) => done,
            };
            let end = seek(from, SeekFrom::Hole(start)).unwrap_or(size).clamp(start, size);
            if start >= size || end == start {
                break;
            }
            self.budget.take_bytes(end - start)?;
            self.range(from, to, start, end)?;
            done = end;
        }
        ftruncate(to, size)
    }

    fn range(&mut self, from: BorrowedFd<'_>, to: BorrowedFd<'_>, start: u64, end: u64) -> Result<()> {
        let (mut at_from, mut at_to) = (start, start);
        while self.copies && at_from < end {
            let length = usize::try_from(end - at_from).unwrap_or(usize::MAX).min(1 << 30);
            match rustix::fs::copy_file_range(from, Some(&mut at_from), to, Some(&mut at_to), length) {
                // Some file systems say so instead of an error.
                Ok(0) => break,
                Ok(_) | Err(Errno::INTR) => {}
                Err(errno @ (Errno::NOSPC | Errno::DQUOT | Errno::IO)) => return Err(errno),
                Err(_) => self.copies = false,
            }
        }
        if at_from < end {
            seek(from, SeekFrom::Start(at_from))?;
            seek(to, SeekFrom::Start(at_from))?;
            self.buffer.resize(1 << 17, 0);
        }
        while at_from < end {
            let wanted = usize::try_from(end - at_from).unwrap_or(usize::MAX).min(self.buffer.len());
            let length = match read(from, &mut self.buffer[..wanted]) {
                // It became shorter meanwhile.
                Ok(0) => break,
                Err(Errno::INTR) => continue,
                answer => answer?,
            };
            write_all(to, &self.buffer[..length])?;
            at_from += length as u64;
        }
        Ok(())
    }

    /// A link, a fifo or a device. False: it is left out.
    fn other(&mut self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Step<bool> {
        let source = at("open", tree::open(dir, name, OFlags::PATH | OFlags::NOFOLLOW))?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Symlink => {
                let link = at("read the link", readlinkat(&source, c"", Vec::new()))?;
                at("make a link", symlinkat(&link, &self.here, name))?;
            }
            FileType::Socket => return Ok(false),
            kind => match mknodat(&self.here, name, kind, Mode::RUSR, stat.st_rdev) {
                Err(Errno::PERM) if self.in_user_namespace && kind != FileType::Fifo => return Ok(false),
                made => at("make a special file", made)?,
            },
        }
        let target = at("open", tree::open(self.here.as_fd(), name, OFlags::PATH | OFlags::NOFOLLOW))?;
        self.attributes(source.as_fd(), Some(target.as_fd()), stat)?;
        Ok(true)
    }
}

impl Visit for Copy<'_> {
    fn passes(_: Errno) -> bool {
        false
    }

    fn entry(&mut self, dir: BorrowedFd<'_>, name: &CStr, kind: FileType, way: &[CString]) -> Step<bool> {
        self.budget.take_entry()?;
        if kind == FileType::Directory {
            at("make a directory", self.budget.take_bytes(4096))?;
            at("make a directory", mkdirat(&self.here, name, Mode::RWXU))?;
            return Ok(true);
        }
        let stat = at("look at", statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
        if stat.st_nlink > 1 && self.link(&stat, name)? {
            return Ok(false);
        }
        let made = match FileType::from_raw_mode(stat.st_mode) {
            FileType::RegularFile => self.file(dir, name).map(|()| true)?,
            _ => self.other(dir, name, &stat)?,
        };
        if made && stat.st_nlink > 1 {
            let way = way.iter().map(|name| name.to_bytes()).collect::<Vec<_>>().join(&b'/');
            self.links.insert(tree::place(&stat), (way, name.to_owned()));
        }
        Ok(false)
    }

    fn enter(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Step<()> {
        let stat = at("look at", fstat(dir))?;
        let above = tree::place(&at("look at", fstat(&self.here))?);
        self.here = at("open", tree::open(self.here.as_fd(), name, OFlags::RDONLY | tree::DIRECTORY))?;
        self.above.push((stat, above));
        Ok(())
    }

    fn leave(&mut self, _: BorrowedFd<'_>, dir: OwnedFd, _: &CStr) -> Step<()> {
        let Some((stat, above)) = self.above.pop() else { return Ok(()) };
        self.attributes(dir.as_fd(), None, &stat)?;
        self.here = at("go back up from", tree::open_parent(self.here.as_fd(), above))?;
        Ok(())
    }
}

pub(super) fn write_all(to: BorrowedFd<'_>, mut bytes: &[u8]) -> Result<()> {
    while !bytes.is_empty() {
        match write(to, bytes) {
            Ok(0) => return Err(Errno::IO),
            Ok(length) => bytes = &bytes[length..],
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(())
}
