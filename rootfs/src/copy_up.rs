//! `tmpcopyup`: a tmpfs starts with what is in the directory that it covers.
//!
//! The image may hold anything there. Nothing is followed: every entry is looked at and opened by its name in a
//! directory that is open already, and what it is copied to is new.

use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Mode, OFlags, RawDir, Stat, chmodat, chownat, fchmod, fchown, fstat, mkdirat, mknodat, openat,
    readlinkat, statat, symlinkat,
};
use rustix::io::{Errno, Result, read, write};
use std::ffi::{CStr, CString};
use std::mem::MaybeUninit;

/// How many directories deep; each is one level of recursion and two open descriptors.
const DEPTH: u32 = 128;

/// Copies what is in the directory `from`, which may be opened with O_PATH, into `to`, and the mode and owner of the
/// directory itself too. Owners, modes, links and fifos are as they were; sockets are left out. Hard links become files
/// of their own, and extended attributes are not copied.
///
/// # Errors
/// The first that the kernel reports; ENAMETOOLONG where directories are more than 128 deep.
pub(crate) fn copy_up(from: BorrowedFd<'_>, to: BorrowedFd<'_>) -> Result<()> {
    let source = directory(from, c".")?;
    let target = directory(to, c".")?;
    directory_into(source, target.as_fd(), DEPTH)
}

fn directory(at: BorrowedFd<'_>, name: &CStr) -> Result<OwnedFd> {
    openat(at, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn directory_into(source: OwnedFd, target: BorrowedFd<'_>, depth: u32) -> Result<()> {
    let depth = depth.checked_sub(1).ok_or(Errno::NAMETOOLONG)?;
    let mut buffer = vec![MaybeUninit::uninit(); 8192];
    // The reader's own, as its place in the directory is shared.
    let mut entries = RawDir::new(directory(source.as_fd(), c".")?, &mut buffer);
    while let Some(entry) = entries.next() {
        let entry = entry?;
        let name = entry.file_name();
        if name != c"." && name != c".." {
            copy(source.as_fd(), target, name, depth)?;
        }
    }
    let stat = fstat(&source)?;
    fchown(target, Some(owner(&stat)), Some(group(&stat)))?;
    fchmod(target, mode(&stat))
}

fn copy(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr, depth: u32) -> Result<()> {
    let stat = statat(source, name, AtFlags::SYMLINK_NOFOLLOW)?;
    match FileType::from_raw_mode(stat.st_mode) {
        FileType::Directory => {
            mkdirat(target, name, Mode::RWXU)?;
            directory_into(directory(source, name)?, directory(target, name)?.as_fd(), depth)
        }
        FileType::RegularFile => file(source, target, name),
        FileType::Symlink => {
            let link: CString = readlinkat(source, name, Vec::new())?;
            symlinkat(&link, target, name)?;
            chownat(target, name, Some(owner(&stat)), Some(group(&stat)), AtFlags::SYMLINK_NOFOLLOW)
        }
        FileType::Socket => Ok(()),
        kind => {
            mknodat(target, name, kind, Mode::RUSR, stat.st_rdev)?;
            chownat(target, name, Some(owner(&stat)), Some(group(&stat)), AtFlags::SYMLINK_NOFOLLOW)?;
            chmodat(target, name, mode(&stat), AtFlags::empty())
        }
    }
}

fn file(source: BorrowedFd<'_>, target: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    // What was a file may have become something that opening waits for.
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let from = openat(source, name, flags, Mode::empty())?;
    let stat = fstat(&from)?;
    if FileType::from_raw_mode(stat.st_mode) != FileType::RegularFile {
        return Err(Errno::STALE);
    }
    let to = openat(target, name, OFlags::WRONLY | OFlags::CREATE | OFlags::EXCL | OFlags::CLOEXEC, Mode::RUSR)?;
    let mut buffer = vec![0u8; 1 << 16];
    loop {
        let length = read(&from, &mut buffer)?;
        if length == 0 {
            break;
        }
        let mut rest = &buffer[..length];
        while !rest.is_empty() {
            rest = &rest[write(&to, rest)?..];
        }
    }
    fchown(&to, Some(owner(&stat)), Some(group(&stat)))?;
    // After the owner, which clears set-user-ID bits.
    fchmod(&to, mode(&stat))
}

fn owner(stat: &Stat) -> rustix::fs::Uid {
    rustix::fs::Uid::from_raw(stat.st_uid)
}

fn group(stat: &Stat) -> rustix::fs::Gid {
    rustix::fs::Gid::from_raw(stat.st_gid)
}

fn mode(stat: &Stat) -> Mode {
    Mode::from_raw_mode(stat.st_mode & 0o7777)
}
