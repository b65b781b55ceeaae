//! Masked and read-only paths. They come after every mount and device, so that nothing covers them again.

use crate::Root;
use crate::error::{Item, Result};
use crate::options::RDONLY;
use crate::plan::{Attr, CText, Filesystem, Mount, Parameter, What};
use crate::resolve::open_host;
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{FileType, fstat, makedev};
use rustix::io::Errno;
use std::ffi::CStr;

const READ_ONLY: Attr = Attr { set: RDONLY, clear: 0, explicit_clear: 0 };

impl Root<'_> {
    pub(crate) fn make_paths_read_only(&self) -> Result<()> {
        for (index, path) in self.plan.readonly_paths.iter().enumerate() {
            let item = Item::Readonly(index as u16);
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

    pub(crate) fn mask_paths(&self) -> Result<()> {
        // One empty file system for all masked directories: many of them make the kernel's shrinkers crawl.
        let mut empty: Option<OwnedFd> = None;
        let mut null: Option<OwnedFd> = None;
        for (index, path) in self.plan.masked_paths.iter().enumerate() {
            let item = Item::Masked(index as u16);
            let Some(target) = self.existing(item, path)? else { continue };
            let stat = item.at("look at", fstat(&target))?;
            let again = || self.dir.resolve(path);
            if FileType::from_raw_mode(stat.st_mode) == FileType::Directory {
                match &empty {
                    None => empty = Some(self.mount_empty(item, target.as_fd(), again)?),
                    Some(fd) => self.cover(item, fd.as_fd(), target.as_fd(), again)?,
                }
            } else {
                if null.is_none() {
                    null = Some(self.null_device(item)?);
                }
                if let Some(fd) = &null {
                    self.cover(item, fd.as_fd(), target.as_fd(), again)?;
                }
            }
            self.api.leave(target);
        }
        [empty, null].into_iter().flatten().for_each(|fd| self.api.leave(fd));
        Ok(())
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
        target: BorrowedFd<'_>,
        again: impl Fn() -> rustix::io::Result<OwnedFd>,
    ) -> Result<()> {
        let (tree, set) = item.at("clone", self.api.clone_with(with, READ_ONLY))?;
        let mounted = item.at("mask", self.api.attach(tree, target, again))?;
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
