//! What a layer hides of those below it. Its own entries are never hidden, in whichever order they come.

use super::super::Xattrs;
use super::attributes::is_whiteout;
use super::{Form, Result, Stop, Unpacker, open_directory, remove_tree, system};
use rustix::fd::{AsFd, BorrowedFd};
use rustix::fs::{AtFlags, Dir as Entries, FileType, Mode, XattrFlags, fsetxattr, mknodat, statat};
use rustix::io::Errno;
use std::ffi::CStr;

/// Bytes of paths of directories with marks in them that are noted down.
const MOST_NOTED: usize = if cfg!(test) { 4096 } else { 16 << 20 };

impl Xattrs {
    /// The attribute that has overlay show nothing of a directory from below.
    pub(in crate::store) fn opaque(self) -> &'static CStr {
        match self {
            Xattrs::Trusted => c"trusted.overlay.opaque",
            Xattrs::User => c"user.overlay.opaque",
        }
    }
}

impl Unpacker<'_> {
    /// Hides `name` of the layers below.
    pub(super) fn whiteout(&mut self, parent: &[u8], name: &CStr) -> Result<()> {
        let Form::Alone(_) = self.form else { return self.hide(parent, name) };
        let directory = self.parent(parent, false)?;
        let dir = directory.fd.as_fd();
        match mknodat(dir, name, FileType::CharacterDevice, Mode::empty(), 0) {
            Ok(()) => self.note_whiteout(dir)?,
            Err(Errno::EXIST) => {
                let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| system("stat", errno))?;
                if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                    let fd = open_directory(dir, name).map_err(|errno| system("open the directory", errno))?;
                    self.mark_opaque(fd.as_fd())?;
                }
            }
            Err(errno) => return Err(system("make the whiteout", errno)),
        }
        self.parent = Some(directory);
        Ok(())
    }

    /// Hides all in a directory of the layers below.
    pub(super) fn opaque(&mut self, path: &[u8]) -> Result<()> {
        if let Form::Alone(_) = self.form {
            if path.is_empty() {
                self.facts.opaque_root = true;
                return Ok(());
            }
            let directory = self.parent(path, false)?;
            let fd = open_directory(directory.fd.as_fd(), c".").map_err(|errno| system("open the directory", errno))?;
            self.mark_opaque(fd.as_fd())?;
            self.parent = Some(directory);
            return Ok(());
        }
        let Some(directory) = self.there(path)? else { return Ok(()) };
        self.remove_others(directory.as_fd())
    }

    pub(super) fn mark_opaque(&mut self, fd: BorrowedFd<'_>) -> Result<()> {
        match self.form {
            Form::Alone(xattrs) => fsetxattr(fd, xattrs.opaque(), b"y", XattrFlags::empty())
                .map_err(|errno| system("mark the directory as opaque", errno)),
            // Overlay does it by itself, or nothing is below.
            Form::Applied => Ok(()),
        }
    }

    /// A mark in a directory that no layer below has shows as a device that cannot be reached, so who makes an overlay
    /// of the layer has to know where marks are.
    fn note_whiteout(&mut self, dir: BorrowedFd<'_>) -> Result<()> {
        let relative = super::real_path(&self.root, dir).and_then(|path| String::from_utf8(path).ok());
        // A name that is no text could not be noted down, nor more than has room.
        let path = relative.ok_or(Stop::Depends)?;
        let length = path.len() + 32;
        if self.facts.whiteouts.insert(path) {
            self.noted += length;
        }
        if self.noted > MOST_NOTED { Err(Stop::Depends) } else { Ok(()) }
    }

    /// Of an applied layer: removes a name, and of a directory with entries of the layer's own all others.
    fn hide(&mut self, parent: &[u8], name: &CStr) -> Result<()> {
        let Some(directory) = self.there(parent)? else { return Ok(()) };
        self.remove_other(directory.as_fd(), name)
    }

    /// The directory at a path, if it is there.
    fn there(&mut self, path: &[u8]) -> Result<Option<rustix::fd::OwnedFd>> {
        match self.resolve_directory(path) {
            Ok((fd, stat)) => {
                self.keep_times_of(&fd, &stat, path);
                Ok(Some(fd))
            }
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            Err(errno) => Err(system("open the directory", errno)),
        }
    }

    fn remove_other(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        let stat = match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) => stat,
            Err(Errno::NOENT) => return Ok(()),
            Err(errno) => return Err(system("stat", errno)),
        };
        let parent = super::inode(dir).map_err(|errno| system("stat", errno))?;
        if !self.is_own_entry(parent, name, &stat) {
            return self.remove(dir, name);
        }
        if FileType::from_raw_mode(stat.st_mode) != FileType::Directory {
            return Ok(());
        }
        let fd = open_directory(dir, name).map_err(|errno| system("open the directory", errno))?;
        self.remove_others(fd.as_fd())
    }

    /// Removes from a directory, and from those in it that are the layer's own, all that is not.
    fn remove_others(&mut self, dir: BorrowedFd<'_>) -> Result<()> {
        self.parent = None;
        let enter = |dir: BorrowedFd<'_>, name: &CStr| open_directory(dir, name).map_err(|errno| system("open", errno));
        // Directories to come back to by `..`, so that depth costs no descriptors.
        let mut pending = vec![self.others(dir)?];
        let mut here = enter(dir, c".")?;
        while let Some(own) = pending.last_mut() {
            if let Some(name) = own.pop() {
                here = enter(here.as_fd(), &name)?;
                pending.push(self.others(here.as_fd())?);
                continue;
            }
            pending.pop();
            if !pending.is_empty() {
                here = enter(here.as_fd(), c"..")?;
            }
        }
        Ok(())
    }

    /// Removes all in a directory that is not the layer's own; the directories that are.
    fn others(&mut self, dir: BorrowedFd<'_>) -> Result<Vec<std::ffi::CString>> {
        let list = |errno| system("list the directory", errno);
        let fd = open_directory(dir, c".").map_err(list)?;
        let own_stat = rustix::fs::fstat(&fd).map_err(list)?;
        // All that came since is the layer's own. A mark may be said of each directory and of each above it.
        if !self.hidden.insert((own_stat.st_dev, own_stat.st_ino)) {
            return Ok(Vec::new());
        }
        let mut directories = Vec::new();
        let mut changed = false;
        let names = Entries::new(fd).map_err(list)?.map(|entry| entry.map(|entry| entry.file_name().to_owned()));
        for name in names.collect::<rustix::io::Result<Vec<_>>>().map_err(list)? {
            if matches!(name.to_bytes(), b"." | b"..") {
                continue;
            }
            let stat = statat(dir, &*name, AtFlags::SYMLINK_NOFOLLOW).map_err(list)?;
            if !self.is_own_entry((own_stat.st_dev, own_stat.st_ino), &name, &stat) {
                remove_tree(dir, &name).map_err(|errno| system("remove what is hidden", errno))?;
                changed = true;
            } else if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                directories.push(name);
            }
        }
        if changed {
            super::times::restore(dir, &own_stat).map_err(|errno| system("set the times of a directory", errno))?;
        }
        Ok(directories)
    }
}

/// Whether a directory hides what is below it.
pub(in crate::store) fn is_opaque(dir: BorrowedFd<'_>, xattrs: Xattrs) -> bool {
    let mut value = [0; 8];
    rustix::fs::fgetxattr(dir, xattrs.opaque(), &mut value).is_ok_and(|length| value[..length] == *b"y")
}

/// Whether what is there is a mark that hides a name.
pub(in crate::store) fn hides(dir: BorrowedFd<'_>, name: &CStr) -> bool {
    statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).is_ok_and(|stat| is_whiteout(&stat))
}
