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
mod remove;
mod times;
mod whiteout;

pub(super) use attributes::Warnings;
pub(super) use remove::remove_tree;
pub(super) use whiteout::{hides, is_opaque};

use super::Xattrs;
use crate::image::tar::{Entry, Input, Kind, Reader};
use crate::resolve::{Dir, Missing};
use attributes::is_whiteout;
use names::Name;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, fstat, mkdirat, openat, statat};
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

/// How many entries there may still be; told of each.
pub(super) type Entries<'a> = &'a (dyn Fn() -> io::Result<()> + Sync);

/// Unpacks a whole layer below `root`, a directory that is empty or has the layers below.
pub(super) fn unpack<R: Input>(
    root: OwnedFd,
    form: Form,
    reader: &mut Reader<R>,
    warnings: &Warnings<'_>,
    entries: Entries<'_>,
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
        facts: Facts::default(),
        warnings,
    };
    while let Some(entry) = reader.next().map_err(read_failed)? {
        entries().map_err(read_failed)?;
        unpacker.facts.entries += 1;
        unpacker.entry(&entry, reader)?;
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
    /// Of an applied layer: all that it made or changed, with the directories above, which its own whiteouts spare.
    /// An inode that is used again is the layer's own too.
    own: HashSet<Inode>,
    facts: Facts,
    warnings: &'a Warnings<'a>,
}

/// The directory of the last entry, which often is that of the next.
struct Parent {
    path: Vec<u8>,
    fd: OwnedFd,
    /// What is made in it gets its group.
    sets_group: bool,
}

impl Unpacker<'_> {
    fn entry<R: Input>(&mut self, entry: &Entry, reader: &mut Reader<R>) -> Result<()> {
        let name = Name::of(&entry.path).map_err(|why| about(&entry.path, why))?;
        match name {
            // What aufs keeps for itself.
            Name::Dropped => Ok(()),
            Name::Root => self.root_directory(entry),
            Name::Opaque(parent) => self.opaque(&parent).map_err(|stop| stop.named(&entry.path)),
            Name::Whiteout(parent, name) => self.whiteout(&parent, &name).map_err(|stop| stop.named(&entry.path)),
            Name::Entry(parent, name) => {
                if entry.uid == u32::MAX || entry.gid == u32::MAX {
                    return Err(about(&entry.path, "its owner is no id"));
                }
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

    /// The directory at a path. It is taken out of the cache: whoever is done with it may put it back. With `make` an
    /// applied layer gets it where it is missing.
    fn parent(&mut self, path: &[u8], make: bool) -> Result<Parent> {
        if let Some(parent) = self.parent.take_if(|parent| parent.path == path) {
            return Ok(parent);
        }
        let above = |errno| system("open the directory above", errno);
        let fd = match self.resolve_directory(path) {
            Ok(found) => Ok(found),
            Err(Errno::NOENT | Errno::NOTDIR) if self.form != Form::Applied => return Err(Stop::Depends),
            Err(Errno::NOENT | Errno::NOTDIR) if make => {
                self.make_directories(path)?;
                self.resolve_directory(path)
            }
            Err(errno) => Err(errno),
        };
        let (fd, stat) = fd.map_err(above)?;
        if self.form == Form::Applied {
            self.times.keep(path, &stat);
            self.own_above(&fd)?;
        }
        Ok(Parent { path: path.to_vec(), fd, sets_group: stat.st_mode & 0o2000 != 0 })
    }

    /// The directory at a path from the root, links followed; ENOTDIR if it is something else.
    fn resolve_directory(&self, path: &[u8]) -> rustix::io::Result<(OwnedFd, Stat)> {
        let c_path = CString::new(if path.is_empty() { b"/" } else { path }).map_err(|_| Errno::INVAL)?;
        let fd = self.root.resolve(&c_path)?;
        let stat = fstat(&fd)?;
        match FileType::from_raw_mode(stat.st_mode) {
            FileType::Directory => Ok((fd, stat)),
            _ => Err(Errno::NOTDIR),
        }
    }

    /// Makes all directories of a path that are missing. What is there and no directory gives way to one, which has
    /// its owner, mode and time if it is the last.
    fn make_directories(&mut self, path: &[u8]) -> Result<()> {
        let ends = path.iter().enumerate().filter(|(_, byte)| **byte == b'/').map(|(at, _)| at);
        self.keep_times(b"")?;
        for end in ends.chain([path.len()]) {
            let part = &path[..end];
            match self.resolve_directory(part) {
                Ok((_, stat)) => self.times.keep(part, &stat),
                Err(Errno::NOENT) => {
                    let c_part = CString::new(part).map_err(|_| system("make a directory above", Errno::INVAL))?;
                    self.root
                        .resolve_or_create(&c_part, Missing::Directory)
                        .map_err(|errno| system("make a directory above", errno))?;
                }
                Err(Errno::NOTDIR) => self.make_way(part, end == path.len())?,
                Err(errno) => return Err(system("open a directory above", errno)),
            }
        }
        Ok(())
    }

    fn make_way(&mut self, path: &[u8], last: bool) -> Result<()> {
        let make = |errno| system("make a directory in place of what is there", errno);
        let c_path = CString::new(path).map_err(|_| make(Errno::INVAL))?;
        let fd = self.root.resolve(&c_path).map_err(make)?;
        let stat = fstat(&fd).map_err(make)?;
        // Where it really is, since links may have led there.
        let real = self.real_path(fd.as_fd()).ok_or_else(|| make(Errno::NOTDIR))?;
        let (parent, name) = names::split(&real).ok_or_else(|| make(Errno::NOTDIR))?;
        self.keep_times(&parent)?;
        let (dir, _) = self.resolve_directory(&parent).map_err(make)?;
        self.remove(dir.as_fd(), &name)?;
        mkdirat(&dir, &*name, Mode::from_raw_mode(0o755)).map_err(make)?;
        if last {
            let fd = open_directory(dir.as_fd(), &name).map_err(make)?;
            let (uid, gid) = (Uid::from_raw(stat.st_uid), Gid::from_raw(stat.st_gid));
            rustix::fs::fchown(&fd, Some(uid), Some(gid)).map_err(make)?;
            rustix::fs::fchmod(&fd, Mode::from_raw_mode(stat.st_mode & 0o7777)).map_err(make)?;
            self.times.set(real, inode(fd.as_fd()).map_err(make)?, times::of(&stat));
        }
        Ok(())
    }

    fn keep_times(&mut self, path: &[u8]) -> Result<()> {
        let (_, stat) = self.resolve_directory(path).map_err(|errno| system("open a directory above", errno))?;
        self.times.keep(path, &stat);
        Ok(())
    }

    /// The path of what is open, from the root on and without links; `None` if it is not below the root.
    fn real_path(&self, fd: BorrowedFd<'_>) -> Option<Vec<u8>> {
        let path = |fd: BorrowedFd<'_>| {
            let link = crate::sys::FdPath::new(fd);
            rustix::fs::readlink(link.as_c_str(), Vec::new()).ok().map(CString::into_bytes)
        };
        let (root, path) = (path(self.root.fd.as_fd())?, path(fd)?);
        let rest = path.strip_prefix(root.strip_suffix(b"/").unwrap_or(&root))?;
        match rest {
            [] => Some(Vec::new()),
            [b'/', rest @ ..] => Some(rest.to_vec()),
            _ => None,
        }
    }

    /// A directory and all above it are the layer's own.
    fn own_above(&mut self, fd: &OwnedFd) -> Result<()> {
        let up = |errno| system("open a directory above", errno);
        let mut here = fd.try_clone().map_err(|_| up(Errno::MFILE))?;
        loop {
            let inode = inode(here.as_fd()).map_err(up)?;
            if !self.own.insert(inode) || inode == self.root_inode {
                return Ok(());
            }
            here = openat(&here, c"..", OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).map_err(up)?;
        }
    }

    fn note_own(&mut self, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        if self.form == Form::Applied {
            match statat(dir, name, AtFlags::SYMLINK_NOFOLLOW) {
                Ok(stat) => drop(self.own.insert((stat.st_dev, stat.st_ino))),
                // A device that may not be made.
                Err(Errno::NOENT) => {}
                Err(errno) => return Err(system("stat", errno)),
            }
        }
        Ok(())
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
            self.facts.size += 4096;
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
        self.replace(dir, name, |_| {
            rustix::fs::linkat(&from, &*target, dir, name, AtFlags::empty())
                .map_err(|errno| ("make the hard link", errno))
        })
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
