//! Removes a tree by descriptors, however deep it is, and follows no link.

use super::open_directory;
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Dir as Entries, FileType, unlinkat};
use rustix::io::{Errno, Result};
use std::ffi::{CStr, CString};

/// Removes what has this name, with all that is in it. It need not be there.
pub(in crate::store) fn remove_tree(dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
    match unlinkat(dir, name, AtFlags::empty()) {
        Ok(()) | Err(Errno::NOENT) => return Ok(()),
        Err(Errno::ISDIR) => {}
        Err(errno) => return Err(errno),
    }
    if remove_empty(dir, name)? {
        return Ok(());
    }
    // The way back is by `..`: descriptors of all levels would be too many.
    let mut here = open_directory(dir, name)?;
    let mut levels = vec![(name.to_owned(), clear(here.as_fd())?)];
    while let Some((own, pending)) = levels.last_mut() {
        if let Some(next) = pending.pop() {
            if !remove_empty(here.as_fd(), &next)? {
                here = open_directory(here.as_fd(), &next)?;
                levels.push((next, clear(here.as_fd())?));
            }
            continue;
        }
        let own = std::mem::take(own);
        levels.pop();
        if levels.is_empty() {
            break;
        }
        here = open_directory(here.as_fd(), c"..")?;
        unlinkat(&here, &*own, AtFlags::REMOVEDIR)?;
    }
    unlinkat(dir, name, AtFlags::REMOVEDIR)
}

/// Removes an empty directory; false if it is not empty.
fn remove_empty(dir: BorrowedFd<'_>, name: &CStr) -> Result<bool> {
    match unlinkat(dir, name, AtFlags::REMOVEDIR) {
        Ok(()) | Err(Errno::NOENT) => Ok(true),
        Err(Errno::NOTEMPTY | Errno::EXIST) => Ok(false),
        Err(errno) => Err(errno),
    }
}

/// Removes all from a directory but directories, which it returns.
fn clear(dir: BorrowedFd<'_>) -> Result<Vec<CString>> {
    let mut directories = Vec::new();
    let mut others = Vec::new();
    for entry in Entries::read_from(dir)? {
        let entry = entry?;
        let name = entry.file_name();
        if matches!(name.to_bytes(), b"." | b"..") {
            continue;
        }
        match entry.file_type() {
            FileType::Directory => directories.push(name.to_owned()),
            _ => others.push(name.to_owned()),
        }
    }
    for name in others {
        match unlinkat(dir, &*name, AtFlags::empty()) {
            Ok(()) | Err(Errno::NOENT) => {}
            // Some file systems do not say in a listing what is what.
            Err(Errno::ISDIR) => directories.push(name),
            Err(errno) => return Err(errno),
        }
    }
    Ok(directories)
}
