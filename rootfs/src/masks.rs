//! Masked and read-only paths. They come after every mount and device, so that nothing covers them again.

use crate::Root;
use crate::api::Tree;
use crate::error::{Item, Result};
use crate::mounts::is_procfs;
use crate::options::RDONLY;
use crate::plan::{Attr, CText, Filesystem, Mount, Parameter, What};
use crate::resolve::open_host;
use crate::sys::FdPath;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, fstat, makedev, statat};
use rustix::io::Errno;
use std::ffi::CStr;

const READ_ONLY: Attr = Attr { set: RDONLY, clear: 0, explicit_clear: 0 };

/// Something to mask or to make read-only.
enum Place<'r> {
    Open(OwnedFd),
    /// By its name in the container's proc file system, where no link is: one call less.
    InProc(BorrowedFd<'r>, &'r CStr),
}

impl Place<'_> {
    fn open(self, again: impl Fn() -> rustix::io::Result<OwnedFd>) -> rustix::io::Result<OwnedFd> {
        match self {
            Place::Open(fd) => Ok(fd),
            Place::InProc(..) => again(),
        }
    }
}

impl Root<'_> {
    pub(crate) fn make_paths_read_only(&self, proc: Option<&OwnedFd>) -> Result<()> {
        for (index, path) in self.plan.readonly_paths.iter().enumerate() {
            let item = Item::Readonly(index as u16);
            if let Some((proc, name)) = self.in_proc(proc, path) {
                match self.api.clone_below(proc, name, READ_ONLY) {
                    Some(Err(Errno::NOENT | Errno::NOTDIR)) => continue,
                    Some(tree) => {
                        let tree = item.at("clone", tree)?;
                        item.at("bind to itself", self.api.attach_below(tree.as_fd(), proc, name))?;
                        self.api.leave(tree);
                        continue;
                    }
                    None => {}
                }
            }
            let Some(target) = self.existing(item, path)? else { continue };
            let (tree, set) = if self.is_bare_proc(path) {
                item.at("clone", self.api.clone_with(target.as_fd(), READ_ONLY))?
            } else {
                let tree = item.at("clone", self.api.clone_fd(target.as_fd(), true))?;
                let set = item.at("make read-only", self.api.set_detached_attr(&tree, READ_ONLY, false))?;
                (tree, set)
            };
            let again = || self.dir.resolve(path);
            let mounted = item.at("bind to itself", self.api.attach(tree, target.as_fd(), again))?;
            if !set {
                item.at("make read-only", self.api.set_attr(mounted.as_fd(), READ_ONLY, false))?;
            }
            self.api.leave(mounted);
            self.api.leave(target);
        }
        Ok(())
    }

    /// The container's /proc, if paths are to be found by their names in it.
    pub(crate) fn open_proc(&self) -> Option<OwnedFd> {
        let paths = || self.plan.readonly_paths.iter().chain(&self.plan.masked_paths);
        let worth_it = self.api.has_one_call_clones() && paths().filter(|path| self.is_bare_proc(path)).count() > 1;
        worth_it.then(|| self.dir.resolve_real_directory(c"/proc").ok()).flatten().filter(|fd| is_procfs(fd.as_fd()))
    }

    /// The name of a path in it, where the kernel makes no link.
    fn in_proc<'r>(&self, proc: Option<&'r OwnedFd>, path: &'r CStr) -> Option<(BorrowedFd<'r>, &'r CStr)> {
        let proc = proc.filter(|_| self.is_bare_proc(path))?;
        let name = CStr::from_bytes_with_nul(path.to_bytes_with_nul().strip_prefix(b"/proc/")?).ok()?;
        let first = name.to_bytes().split(|byte| *byte == b'/').next()?;
        let linked = matches!(first, b"self" | b"thread-self" | b"net" | b"mounts" | b"") || first[0].is_ascii_digit();
        (!linked).then(|| (proc.as_fd(), name))
    }

    /// A path in a proc file system of the container's own with nothing mounted on or below it: one mount is all there is
    /// to clone.
    fn is_bare_proc(&self, path: &CStr) -> bool {
        let path = path.to_bytes();
        let last = self.plan.mounts.iter().rfind(|mount| mount.destination.to_bytes() == b"/proc");
        let is_on_it = |mount: &Mount| {
            let rest = mount.destination.to_bytes().strip_prefix(path);
            rest.is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
        };
        path.starts_with(b"/proc/")
            && last.is_some_and(|mount| matches!(&mount.what, What::Filesystem(of) if of.kind.to_bytes() == b"proc"))
            && !self.plan.mounts.iter().any(is_on_it)
    }

    pub(crate) fn mask_paths(&self, proc: Option<&OwnedFd>) -> Result<()> {
        // One empty file system for all masked directories: many of them make the kernel's shrinkers crawl.
        let mut empty: Option<OwnedFd> = None;
        let mut null: Option<OwnedFd> = None;
        for (index, path) in self.plan.masked_paths.iter().enumerate() {
            let item = Item::Masked(index as u16);
            let Some((place, mode)) = self.place(item, proc, path)? else { continue };
            let again = || self.dir.resolve(path);
            if FileType::from_raw_mode(mode) == FileType::Directory {
                match &empty {
                    None => {
                        let target = item.at("open", place.open(again))?;
                        empty = Some(self.mount_empty(item, target.as_fd(), again)?);
                        self.api.leave(target);
                    }
                    Some(fd) => self.cover(item, fd.as_fd(), place, again)?,
                }
            } else {
                if null.is_none() {
                    null = Some(self.null_device(item)?);
                }
                if let Some(fd) = &null {
                    self.cover(item, fd.as_fd(), place, again)?;
                }
            }
        }
        [empty, null].into_iter().flatten().for_each(|fd| self.api.leave(fd));
        Ok(())
    }

    /// Where a mask goes, and the mode of what is there; None if that is nothing.
    fn place<'r>(&self, item: Item, proc: Option<&'r OwnedFd>, path: &'r CStr) -> Result<Option<(Place<'r>, u32)>> {
        if let Some((proc, name)) = self.in_proc(proc, path) {
            return match statat(proc, name, AtFlags::SYMLINK_NOFOLLOW) {
                Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
                stat => Ok(Some((Place::InProc(proc, name), item.at("look at", stat)?.st_mode))),
            };
        }
        let Some(target) = self.existing(item, path)? else { return Ok(None) };
        let mode = item.at("look at", fstat(&target))?.st_mode;
        Ok(Some((Place::Open(target), mode)))
    }

    /// A path that is not there needs no mask.
    fn existing(&self, item: Item, path: &CStr) -> Result<Option<OwnedFd>> {
        match self.dir.resolve(path) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            opened => item.at("open", opened).map(Some),
        }
    }

    fn mount_empty(
        &self,
        item: Item,
        target: BorrowedFd<'_>,
        again: impl Fn() -> rustix::io::Result<OwnedFd>,
    ) -> Result<OwnedFd> {
        let text = |word: &str| CText::new(word).unwrap_or_default();
        let limit = |name: &str, value: &str| Parameter { name: text(name), value: Some(text(value)) };
        let mut filesystem = Filesystem {
            kind: text("tmpfs"),
            source: Some(text("tmpfs")),
            parameters: vec![limit("nr_blocks", "1"), limit("nr_inodes", "1")],
            ..Filesystem::default()
        };
        // Read-only as a whole: nobody else has it.
        if self.api.mount_at_once(&filesystem, RDONLY, None, &FdPath::new(target)) {
            return item.at("open", again());
        }
        match self.api.mount(&filesystem, RDONLY, None, target, &again) {
            // Some kernels count one more inode for the root.
            Err(Errno::NOSPC | Errno::INVAL) => {
                filesystem.parameters = vec![limit("nr_blocks", "1"), limit("nr_inodes", "2")];
                item.at("mount", self.api.mount(&filesystem, RDONLY, None, target, &again))
            }
            mounted => item.at("mount", mounted),
        }
    }

    /// Read-only, so that the mask cannot be used to change the file behind it; a device works all the same.
    fn cover(
        &self,
        item: Item,
        with: BorrowedFd<'_>,
        place: Place<'_>,
        again: impl Fn() -> rustix::io::Result<OwnedFd>,
    ) -> Result<()> {
        let (tree, set) = item.at("clone", self.api.clone_with(with, READ_ONLY))?;
        let mounted = match (tree, place) {
            (Tree::Detached(fd), Place::InProc(proc, name)) => {
                item.at("mask", self.api.attach_below(fd.as_fd(), proc, name)).map(|()| fd)?
            }
            (tree, place) => {
                let target = item.at("open", place.open(&again))?;
                let mounted = item.at("mask", self.api.attach(tree, target.as_fd(), again))?;
                self.api.leave(target);
                mounted
            }
        };
        if !set {
            item.at("make read-only", self.api.set_attr(mounted.as_fd(), READ_ONLY, false))?;
        }
        self.api.leave(mounted);
        Ok(())
    }

    /// The null device, proven to be one: a link or another node in its place would become readable and writable
    /// through every mask (CVE-2025-31133). The container's own is taken, else the host's.
    fn null_device(&self, item: Item) -> Result<OwnedFd> {
        let is_null = |fd: &OwnedFd| {
            fstat(fd).is_ok_and(|stat| {
                FileType::from_raw_mode(stat.st_mode) == FileType::CharacterDevice && stat.st_rdev == makedev(1, 3)
            })
        };
        if let Ok(fd) = self.dir.resolve_without_links(c"/dev/null")
            && is_null(&fd)
        {
            return Ok(fd);
        }
        let fd = item.at("open /dev/null of the host for", open_host(c"/dev/null"))?;
        if is_null(&fd) {
            Ok(fd)
        } else {
            item.fail("/dev/null of the host is no null device, cannot mask", Errno::NODEV)
        }
    }
}
