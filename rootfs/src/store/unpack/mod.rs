//! One layer into one tree. The archive is hostile: its names lead nowhere but below the tree's root, as they would
//! after chroot(2), since every directory is reached by a descriptor from there ([`resolve::Dir`]).
//!
//! A tree is in overlay's form or plain:
//!
//! - [`Form::Alone`]: what the layer itself has, with marks that overlay understands for what it hides of layers below.
//!   That is possible only if the layer has all directories above its entries, and all files that it links to; if not
//!   it is [`Stop::Depends`], and the tree is good for nothing.
//! - [`Form::Applied`]: the tree has the layers below already, by an overlay mount or because there are none, and the
//!   layer changes it as commands would.

mod attributes;
mod file;
mod names;
mod parent;
mod remove;
#[cfg(test)]
mod tests;
mod times;
mod whiteout;

pub(super) use attributes::{Warnings, copy_xattrs};
pub(super) use remove::remove_tree;
pub(super) use whiteout::{hides, is_opaque};

use super::Xattrs;
use super::budget::Share;
use crate::image::tar::{Entry, Input, Kind, Reader};
use crate::resolve::Dir;
use attributes::is_whiteout;
use names::Name;
use parent::{Parent, real_path};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, Stat, fstat, mkdirat, openat, statat};
use rustix::io::Errno;
use std::collections::{BTreeSet, HashSet};
use std::ffi::{CStr, CString};
use std::io;
use times::Times;

/// What tree is made; see above.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Form {
    Alone(Xattrs),
    Applied,
}

/// What a layer turned out to be.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(super) struct Facts {
    /// Bytes that the tree takes on disk.
    pub(super) size: u64,
    pub(super) entries: u64,
    /// It says what the root directory is like.
    pub(super) root: bool,
    /// It hides all that is below it, from the root on, which no mark on a root could say.
    pub(super) opaque_root: bool,
    /// Directories with marks for hidden names.
    pub(super) whiteouts: BTreeSet<String>,
}

/// Why unpacking has stopped.
#[derive(Debug)]
pub(super) enum Stop {
    /// It takes the layers below to understand this one.
    Depends,
    /// The layer cannot be read or made.
    Failed(String),
}

pub(super) type Result<T> = std::result::Result<T, Stop>;

/// Unpacks a whole layer below `root`, a directory that is empty or has the layers below.
pub(super) fn unpack<R: Input>(
    root: OwnedFd,
    form: Form,
    reader: &mut Reader<R>,
    warnings: &Warnings<'_>,
    share: &Share,
) -> Result<Facts> {
    let root_inode = inode(root.as_fd()).map_err(|errno| failed("the root", "stat", errno))?;
    let mut unpacker = Unpacker {
        root: Dir::new(root),
        root_inode,
        form,
        parent: None,
        removals: 0,
        times: Times::default(),
        own: HashSet::new(),
        own_names: HashSet::new(),
        copied_up: HashSet::new(),
        hidden: HashSet::new(),
        noted: 0,
        facts: Facts::default(),
        warnings,
        share,
    };
    while let Some(entry) = reader.next().map_err(read_failed)? {
        for _ in 0..=entry.extensions {
            share.take_entry().map_err(read_failed)?;
        }
        unpacker.facts.entries += 1;
        unpacker.entry(&entry, reader)?;
        unpacker.spill_times()?;
    }
    reader.end().map_err(read_failed)?;
    unpacker.times.apply(&unpacker.root)?;
    Ok(unpacker.facts)
}

/// Device and inode, which name a file while it is there.
type Inode = (u64, u64);

struct Unpacker<'a> {
    root: Dir,
    root_inode: Inode,
    form: Form,
    parent: Option<Parent>,
    /// Counted, since what has been removed may have been on the way to the directory in the cache.
    removals: u64,
    times: Times,
    /// Of an applied layer: directories that it made, changed or has something in, which its own whiteouts spare. An
    /// inode that is used again is the layer's own too.
    own: HashSet<Inode>,
    /// All else, by directory and name: inodes may have names of the layers below too.
    own_names: HashSet<(Inode, CString)>,
    /// Files of the layers below that overlay has copied, as the layer links to them.
    copied_up: HashSet<(Inode, CString)>,
    /// Directories of an applied layer that have nothing of the layers below any more.
    hidden: HashSet<Inode>,
    /// Bytes of the paths of the facts.
    noted: usize,
    facts: Facts,
    warnings: &'a Warnings<'a>,
    share: &'a Share,
}

impl Unpacker<'_> {
    fn entry<R: Input>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let name = Name::of(&entry.path).map_err(|why| about(&entry.path, why))?;
        if matches!(name, Name::Root | Name::Entry(..)) && (entry.uid == u32::MAX || entry.gid == u32::MAX) {
            return Err(about(&entry.path, "its owner is no id"));
        }
        match name {
            // What aufs keeps for itself.
            Name::Dropped => Ok(()),
            Name::Root => self.root_directory(entry),
            Name::Opaque(parent) => self.opaque(&parent).map_err(|stop| stop.named(&entry.path)),
            Name::Whiteout(parent, name) => self.whiteout(&parent, &name).map_err(|stop| stop.named(&entry.path)),
            Name::Entry(parent, name) => {
                self.make(&parent, &name, entry, reader).map_err(|stop| stop.named(&entry.path))
            }
        }
    }

    fn root_directory(&mut self, entry: &Entry) -> Result<()> {
        if entry.kind != Kind::Directory {
            return Err(about(&entry.path, "the root is no directory"));
        }
        self.facts.root = true;
        let root = open_directory(self.root.fd.as_fd(), c".").map_err(|errno| failed("the root", "open", errno))?;
        self.directory_attributes(root.as_fd(), entry, b"", c".", true)
    }

    /// Makes an entry in the directory at `parent`.
    fn make<R: Input>(&mut self, parent: &[u8], name: &CStr, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let directory = self.parent(parent, true)?;
        let dir = directory.fd.as_fd();
        let removals = self.removals;
        match entry.kind {
            Kind::Directory => self.directory(dir, parent, name, entry),
            Kind::HardLink => self.hard_link(dir, name, &entry.link),
            _ => match self.replace(dir, name, |unpacker| unpacker.node(&directory, name, entry))? {
                Some(Made::File(file)) => self.content(&file, entry, reader, directory.sets_group),
                Some(Made::Node) => self.node_attributes(dir, name, entry),
                None => Ok(()),
            },
        }?;
        self.note_own(dir, name)?;
        if self.removals == removals {
            self.parent = Some(directory);
        }
        Ok(())
    }

    fn note_own(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        if self.form != Form::Applied {
            return Ok(());
        }
        match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if FileType::from_raw_mode(stat.st_mode) == FileType::Directory => {
                self.own.insert((stat.st_dev, stat.st_ino));
            }
            Ok(_) => {
                let parent = inode(dir).map_err(|errno| system("stat", errno))?;
                self.own_names.insert((parent, name.to_owned()));
            }
            // A device that may not be made.
            Err(Errno::NOENT) => {}
            Err(errno) => return Err(system("stat", errno)),
        }
        Ok(())
    }

    /// Whether what has this name in an applied layer's tree is the layer's own.
    fn is_own_entry(&self, dir: Inode, name: &CStr, stat: &Stat) -> bool {
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => self.own.contains(&(stat.st_dev, stat.st_ino)),
            _ => self.own_names.contains(&(dir, name.to_owned())),
        }
    }

    fn directory(&mut self, dir: BorrowedFd<'_>, parent: &[u8], name: &CStr, entry: &Entry) -> Result<()> {
        let mode = Mode::from_raw_mode(0o700);
        let (mut existed, mut replaced) = (false, false);
        if let Err(errno) = mkdirat(dir, name, mode) {
            if errno != Errno::EXIST {
                return Err(system("make the directory", errno));
            }
            let stat = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW).map_err(|errno| system("stat", errno))?;
            existed = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
            if !existed {
                self.remove(dir, name)?;
                mkdirat(dir, name, mode).map_err(|errno| system("make the directory", errno))?;
                replaced = true;
            }
        }
        let fd = open_directory(dir, name).map_err(|errno| system("open the directory", errno))?;
        if replaced {
            // What it replaces, or what was hidden by name, has hidden a directory of a layer below.
            self.mark_opaque(fd.as_fd())?;
        }
        if !existed {
            self.pay(4096)?;
        }
        self.directory_attributes(fd.as_fd(), entry, parent, name, existed)
    }

    /// Makes something under a name that has to be free; what is there is removed.
    fn replace<T>(
        &mut self,
        dir: BorrowedFd<'_>,
        name: &CStr,
        make: impl Fn(&mut Self) -> std::result::Result<T, (&'static str, Errno)>,
    ) -> Result<T> {
        match make(self) {
            Err((_, Errno::EXIST)) => {
                self.remove(dir, name)?;
                make(self).map_err(|(what, errno)| system(what, errno))
            }
            done => done.map_err(|(what, errno)| system(what, errno)),
        }
    }

    fn remove(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        self.parent = None;
        self.removals += 1;
        remove_tree(dir, name).map_err(|errno| system("remove what was there", errno))
    }

    fn hard_link(&mut self, dir: BorrowedFd<'_>, name: &CStr, link: &[u8]) -> Result<()> {
        let shown = || String::from_utf8_lossy(link).into_owned();
        let Some((above, target)) = names::split(link) else {
            return Err(Stop::Failed(format!("a hard link to {:?}", shown())));
        };
        let missing = |form: Form| match form {
            Form::Alone(_) => Stop::Depends,
            Form::Applied => Stop::Failed(format!("a hard link to {:?}, which is not there", shown())),
        };
        let c_above =
            CString::new(if above.is_empty() { b"/".to_vec() } else { above }).map_err(|_| missing(self.form))?;
        let from = match self.root.resolve(&c_above) {
            Ok(from) => from,
            Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Err(missing(self.form)),
            Err(errno) => return Err(system("open the directory of a hard link", errno)),
        };
        let stat = match statat(&from, &*target, AtFlags::SYMLINK_NOFOLLOW) {
            Ok(stat) if !is_whiteout(&stat) => stat,
            Ok(_) | Err(Errno::NOENT | Errno::NOTDIR) => return Err(missing(self.form)),
            Err(errno) => return Err(system("stat what a hard link is to", errno)),
        };
        if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
            return Err(Stop::Failed(format!("a hard link to {:?}, a directory", shown())));
        }
        if statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            .is_ok_and(|there| there.st_ino == stat.st_ino && there.st_dev == stat.st_dev)
        {
            return Ok(());
        }
        self.pay_for_copy(from.as_fd(), &target, &stat)?;
        self.replace(dir, name, |_| {
            rustix::fs::linkat(&from, &*target, dir, name, AtFlags::empty())
                .map_err(|errno| ("make the hard link", errno))
        })
    }

    /// Overlay copies a whole file of the layers below for the first link to it.
    fn pay_for_copy(&mut self, dir: BorrowedFd<'_>, name: &CStr, stat: &Stat) -> Result<()> {
        if self.form != Form::Applied {
            return Ok(());
        }
        let parent = inode(dir).map_err(|errno| system("stat", errno))?;
        if self.is_own_entry(parent, name, stat) || !self.copied_up.insert((parent, name.to_owned())) {
            return Ok(());
        }
        self.pay(stat.st_blocks.unsigned_abs().saturating_mul(512))
    }

    /// For what takes room on the disk without being in the archive.
    fn pay(&mut self, bytes: u64) -> Result<()> {
        self.share.take_bytes(bytes).map_err(read_failed)?;
        self.facts.size += bytes;
        Ok(())
    }
}

/// What was made, to be filled.
enum Made {
    File(OwnedFd),
    Node,
}

fn inode(fd: BorrowedFd<'_>) -> rustix::io::Result<Inode> {
    fstat(fd).map(|stat| (stat.st_dev, stat.st_ino))
}

fn open_directory(dir: BorrowedFd<'_>, name: &CStr) -> rustix::io::Result<OwnedFd> {
    openat(dir, name, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

fn system(what: &str, errno: Errno) -> Stop {
    Stop::Failed(format!("{what}: {}", io::Error::from(errno)))
}

fn failed(name: &str, what: &str, errno: Errno) -> Stop {
    Stop::Failed(format!("{name}: {what}: {}", io::Error::from(errno)))
}

fn about(path: &[u8], why: &str) -> Stop {
    Stop::Failed(why.to_owned()).named(path)
}

fn read_failed(error: io::Error) -> Stop {
    Stop::Failed(error.to_string())
}

impl Stop {
    /// The same with the entry that it is about.
    fn named(self, path: &[u8]) -> Stop {
        match self {
            Stop::Depends => Stop::Depends,
            Stop::Failed(why) => {
                // Names may have anything in them, and be long.
                let shown = String::from_utf8_lossy(path);
                let start: String = shown.chars().take(200).collect();
                Stop::Failed(format!("{start:?}: {why}"))
            }
        }
    }
}
