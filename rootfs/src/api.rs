//! Mounting, by the calls of Linux 5.2 and 5.12 where the kernel allows them and by mount(2) where it does not.
//!
//! Which of the two is asked once, by the first mount that every container needs; the rest of the crate does not know.

use crate::flags::{current_flags, to_ms, to_ms_mask};
use crate::plan::{Attr, Filesystem, Propagation, PropagationKind};
use crate::resolve::open_host;
use crate::sys::{self, FdPath};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::CWD;
use rustix::io::{Errno, Result};
use rustix::mount::{FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, fsopen, open_tree};
use std::cell::Cell;
use std::ffi::{CStr, CString};

const AT_EMPTY_PATH: i32 = libc::AT_EMPTY_PATH;
const AT_RECURSIVE: i32 = libc::AT_RECURSIVE;
/// Longest value that fsconfig(2) takes; mount(2) takes a page.
pub(crate) const FSCONFIG_VALUE: usize = 255;

/// Descriptors left open for a `close_range` at the end, at most: a close each is a third of all system calls of a start.
const LEFT_OPEN: usize = 128;

/// What the kernel lets us use.
pub(crate) struct Api {
    left: Cell<usize>,
    /// open_tree, move_mount.
    trees: Cell<bool>,
    /// mount_setattr.
    setattr: Cell<bool>,
    /// open_tree_attr; not known before open_tree was allowed.
    tree_attr: Cell<Option<bool>>,
    /// /proc is the host's.
    pub(crate) hosts_proc: bool,
}

/// A tree to mount somewhere.
pub(crate) enum Tree {
    /// Cloned and attached nowhere yet.
    Detached(OwnedFd),
    /// To be bound by mount(2).
    Path { source: CString, recursive: bool },
}

/// A seccomp filter of an outer container refuses with either.
pub(crate) fn missing(errno: Errno) -> bool {
    errno == Errno::NOSYS || errno == Errno::PERM
}

impl Api {
    pub(crate) fn new() -> Api {
        Api {
            left: Cell::new(0),
            trees: Cell::new(true),
            setattr: Cell::new(true),
            tree_attr: Cell::new(None),
            hosts_proc: false,
        }
    }

    /// Is done with a descriptor, which the caller of this crate closes with all others once the root is entered.
    pub(crate) fn leave(&self, fd: OwnedFd) {
        if self.left.get() < LEFT_OPEN {
            self.left.set(self.left.get() + 1);
            std::mem::forget(fd);
        }
    }

    /// The first mount call of a container: finds out whether mount_setattr(2) is there.
    pub(crate) fn propagate_root(&self, propagation: Propagation) -> Result<()> {
        self.propagate(CWD, c"/", propagation)
    }

    /// Changes the propagation of the mount whose root is the working directory.
    pub(crate) fn propagate_here(&self, propagation: Propagation) -> Result<()> {
        self.propagate(CWD, c".", propagation)
    }

    /// Changes the propagation of a mount.
    pub(crate) fn propagate_mount(&self, mount: BorrowedFd<'_>, propagation: Propagation) -> Result<()> {
        if !self.setattr.get() {
            return self.propagate(CWD, FdPath::new(mount).as_c_str(), propagation);
        }
        self.propagate(mount, c"", propagation)
    }

    fn propagate(&self, dir: BorrowedFd<'_>, path: &CStr, propagation: Propagation) -> Result<()> {
        let kind = match propagation.kind {
            PropagationKind::Shared => libc::MS_SHARED,
            PropagationKind::Slave => libc::MS_SLAVE,
            PropagationKind::Private => libc::MS_PRIVATE,
            PropagationKind::Unbindable => libc::MS_UNBINDABLE,
        };
        if self.setattr.get() {
            let empty = if path.is_empty() { AT_EMPTY_PATH } else { 0 };
            let below = if propagation.recursive { AT_RECURSIVE } else { 0 };
            match sys::mount_setattr(dir, path, empty | below, 0, 0, kind) {
                Err(errno) if missing(errno) => self.setattr.set(false),
                done => return done,
            }
        }
        let fd_path = FdPath::new(dir);
        let path = if path.is_empty() { fd_path.as_c_str() } else { path };
        let below = if propagation.recursive { libc::MS_REC } else { 0 };
        sys::mount(None, path, None, kind | below, None)
    }

    /// Clones the tree at a path of the host.
    pub(crate) fn clone_path(&self, path: &CStr, recursive: bool) -> Result<Tree> {
        self.clone_at(CWD, path, recursive)
    }

    /// Clones the tree below an open directory, or the single file that is open.
    pub(crate) fn clone_fd(&self, fd: BorrowedFd<'_>, recursive: bool) -> Result<Tree> {
        self.clone_at(fd, c"", recursive)
    }

    /// Clones what is open alone, with attributes; false where they are to be set once it is attached.
    pub(crate) fn clone_with(&self, fd: BorrowedFd<'_>, attr: Attr) -> Result<(Tree, bool)> {
        if let Some(tree) = self.clone_below(fd, c"", attr) {
            return tree.map(|fd| (Tree::Detached(fd), true));
        }
        let tree = self.clone_fd(fd, false)?;
        let set = self.set_detached_attr(&tree, attr, false)?;
        Ok((tree, set))
    }

    /// Whether a clone may get its attributes at once.
    pub(crate) fn has_one_call_clones(&self) -> bool {
        self.trees.get() && self.setattr.get() && self.tree_attr.get() == Some(true)
    }

    /// The same of a path below an open directory that has no link in it; None where the kernel has no one call for it.
    pub(crate) fn clone_below(&self, dir: BorrowedFd<'_>, path: &CStr, attr: Attr) -> Option<Result<OwnedFd>> {
        if !self.has_one_call_clones() {
            return None;
        }
        match sys::open_tree_attr(dir, path, attr.set, attr.clear) {
            Err(errno) if missing(errno) => {
                self.tree_attr.set(Some(false));
                None
            }
            tree => Some(tree),
        }
    }

    fn clone_at(&self, dir: BorrowedFd<'_>, path: &CStr, recursive: bool) -> Result<Tree> {
        if self.trees.get() {
            let mut flags = OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC;
            flags.set(OpenTreeFlags::AT_RECURSIVE, recursive);
            flags.set(OpenTreeFlags::AT_EMPTY_PATH, path.is_empty());
            match open_tree(dir, path, flags) {
                Err(errno) if missing(errno) => self.trees.set(false),
                Err(errno) => return Err(errno),
                Ok(fd) => {
                    self.tree_attr.set(self.tree_attr.get().or(Some(true)));
                    return Ok(Tree::Detached(fd));
                }
            }
        }
        let source = if path.is_empty() { FdPath::new(dir).as_c_str().to_owned() } else { path.to_owned() };
        Ok(Tree::Path { source, recursive })
    }

    /// Mounts a tree on an open target. `again` opens the target anew, which then is the mount.
    pub(crate) fn attach(
        &self,
        tree: Tree,
        target: BorrowedFd<'_>,
        again: impl Fn() -> Result<OwnedFd>,
    ) -> Result<OwnedFd> {
        match tree {
            Tree::Detached(fd) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
                rustix::mount::move_mount(fd.as_fd(), c"", target, c"", flags)?;
                Ok(fd)
            }
            Tree::Path { source, recursive } => {
                let flags = libc::MS_BIND | if recursive { libc::MS_REC } else { 0 };
                sys::mount(Some(&source), FdPath::new(target).as_c_str(), None, flags, None)?;
                again()
            }
        }
    }

    /// Mounts a tree on a path of the host.
    pub(crate) fn attach_at(&self, tree: Tree, path: &CStr) -> Result<OwnedFd> {
        match tree {
            Tree::Detached(fd) => {
                let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_SYMLINKS;
                rustix::mount::move_mount(fd.as_fd(), c"", CWD, path, flags)?;
                Ok(fd)
            }
            tree => self.attach(tree, open_host(path)?.as_fd(), || open_host(path)),
        }
    }

    /// Mounts a tree on a path below an open directory that has no link in it.
    pub(crate) fn attach_below(&self, tree: BorrowedFd<'_>, dir: BorrowedFd<'_>, path: &CStr) -> Result<()> {
        rustix::mount::move_mount(tree, c"", dir, path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)
    }

    /// Attributes of a tree that is attached nowhere; false where only an attached mount can be changed.
    pub(crate) fn set_detached_attr(&self, tree: &Tree, attr: Attr, recursive: bool) -> Result<bool> {
        match tree {
            Tree::Detached(fd) if self.setattr.get() => self.set_attr(fd.as_fd(), attr, recursive).map(|()| true),
            _ => Ok(false),
        }
    }

    /// Attributes of an attached mount.
    pub(crate) fn set_attr(&self, mount: BorrowedFd<'_>, attr: Attr, recursive: bool) -> Result<()> {
        if self.setattr.get() {
            let below = if recursive { AT_RECURSIVE } else { 0 };
            return sys::mount_setattr(mount, c"", AT_EMPTY_PATH | below, attr.set, attr.clear, 0);
        }
        if recursive {
            // Only Linux 5.12 can, and walking the mounts by hand would race with their owners.
            return Err(Errno::NOSYS);
        }
        let now = current_flags(mount)?;
        let wanted = (now & !to_ms_mask(attr.clear)) | to_ms(attr.set);
        sys::mount(None, FdPath::new(mount).as_c_str(), None, libc::MS_REMOUNT | libc::MS_BIND | wanted, None)
    }

    /// Mounts a file system of its own on an open target.
    pub(crate) fn mount(
        &self,
        filesystem: &Filesystem,
        attr: u64,
        mode: Option<&CStr>,
        target: BorrowedFd<'_>,
        again: impl Fn() -> Result<OwnedFd>,
    ) -> Result<OwnedFd> {
        let read_only = attr & libc::MOUNT_ATTR_RDONLY;
        // Where mount(2) can say all of it, that is one call for six.
        if !self.mount_at_once(filesystem, attr & !read_only, mode, &FdPath::new(target)) {
            if let Some(fd) = self.detached(filesystem, attr, mode)? {
                return self.attach(Tree::Detached(fd), target, again);
            }
            let data = data(filesystem, mode)?;
            let flags = to_ms(attr & !read_only) | filesystem.legacy_flags | superblock_flags(filesystem);
            let path = FdPath::new(target);
            sys::mount(filesystem.source.as_deref(), path.as_c_str(), Some(&filesystem.kind), flags, data.as_deref())?;
        }
        let mount = again()?;
        // Read-only is meant for the mount; by mount(2) it would be for the file system, which may be in use elsewhere.
        if read_only != 0 {
            self.set_attr(mount.as_fd(), Attr { set: read_only, ..Attr::default() }, false)?;
        }
        Ok(mount)
    }

    /// Mounts a file system by one call of mount(2), where that means the same as the five and more calls that give a
    /// descriptor of it. False: it takes those, or they can tell better why not.
    pub(crate) fn mount_at_once(
        &self,
        filesystem: &Filesystem,
        attr: u64,
        mode: Option<&CStr>,
        target: &FdPath,
    ) -> bool {
        let special = |byte: &u8| matches!(byte, b',' | b'\\' | b'"');
        let plain = |p: &crate::plan::Parameter| match &p.value {
            Some(value) => !value.to_bytes().iter().any(special),
            None => superblock_flag(&p.name).is_none(),
        };
        if !self.hosts_proc || filesystem.legacy_flags != 0 || !filesystem.parameters.iter().all(plain) {
            return false;
        }
        let Ok(data) = data(filesystem, mode) else { return false };
        let (source, kind) = (filesystem.source.as_deref(), Some(&*filesystem.kind));
        sys::mount(source, target.as_c_str(), kind, to_ms(attr), data.as_deref()).is_ok()
    }

    /// A new file system attached nowhere; None where the kernel or the words ask for mount(2).
    pub(crate) fn detached(&self, filesystem: &Filesystem, attr: u64, mode: Option<&CStr>) -> Result<Option<OwnedFd>> {
        let long = |p: &crate::plan::Parameter| p.value.as_ref().is_some_and(|v| v.count_bytes() > FSCONFIG_VALUE);
        if !self.trees.get() || filesystem.legacy_flags != 0 || filesystem.parameters.iter().any(long) {
            return Ok(None);
        }
        let context = match fsopen(&*filesystem.kind, FsOpenFlags::FSOPEN_CLOEXEC) {
            Err(errno) if missing(errno) => return Ok(None),
            context => context?,
        };
        if let Some(source) = &filesystem.source {
            rustix::mount::fsconfig_set_string(context.as_fd(), c"source", &**source)?;
        }
        if let Some(mode) = mode {
            rustix::mount::fsconfig_set_string(context.as_fd(), c"mode", mode)?;
        }
        configure(context.as_fd(), filesystem)?;
        rustix::mount::fsconfig_create(context.as_fd())?;
        let attr = MountAttrFlags::from_bits_retain(attr as u32);
        let mounted = rustix::mount::fsmount(context.as_fd(), FsMountFlags::FSMOUNT_CLOEXEC, attr)?;
        self.leave(context);
        Ok(Some(mounted))
    }

    /// `remount`: new parameters for what is mounted at `mount`.
    pub(crate) fn reconfigure(&self, mount: BorrowedFd<'_>, filesystem: &Filesystem, attr: Attr) -> Result<()> {
        if !filesystem.parameters.is_empty() || filesystem.legacy_flags != 0 {
            let data = data(filesystem, None)?;
            let wanted = (current_flags(mount)? & !to_ms_mask(attr.clear)) | to_ms(attr.set);
            let flags = libc::MS_REMOUNT | wanted | filesystem.legacy_flags | superblock_flags(filesystem);
            return sys::mount(None, FdPath::new(mount).as_c_str(), None, flags, data.as_deref());
        }
        self.set_attr(mount, attr, false)
    }
}

fn configure(context: BorrowedFd<'_>, filesystem: &Filesystem) -> Result<()> {
    for parameter in &filesystem.parameters {
        match &parameter.value {
            Some(value) => rustix::mount::fsconfig_set_string(context, &*parameter.name, &**value)?,
            None => rustix::mount::fsconfig_set_flag(context, &*parameter.name)?,
        }
    }
    Ok(())
}

/// Words that mount(2) takes as flags, not as data.
const SUPERBLOCK: [(&CStr, u64); 5] = [
    (c"sync", libc::MS_SYNCHRONOUS),
    (c"dirsync", libc::MS_DIRSYNC),
    (c"lazytime", 1 << 25),
    (c"mand", libc::MS_MANDLOCK),
    (c"ro", libc::MS_RDONLY),
];

fn superblock_flag(name: &CStr) -> Option<u64> {
    SUPERBLOCK.iter().find(|(word, _)| *word == name).map(|(_, flag)| *flag)
}

fn superblock_flags(filesystem: &Filesystem) -> u64 {
    filesystem.parameters.iter().filter(|p| p.value.is_none()).filter_map(|p| superblock_flag(&p.name)).sum()
}

/// The data argument of mount(2).
fn data(filesystem: &Filesystem, mode: Option<&CStr>) -> Result<Option<CString>> {
    let mut text = Vec::new();
    if let Some(mode) = mode {
        text.extend_from_slice(b"mode=");
        text.extend_from_slice(mode.to_bytes());
    }
    for parameter in &filesystem.parameters {
        if parameter.value.is_none() && superblock_flag(&parameter.name).is_some() {
            continue;
        }
        if !text.is_empty() {
            text.push(b',');
        }
        text.extend_from_slice(parameter.name.to_bytes());
        if let Some(value) = &parameter.value {
            text.push(b'=');
            // Labels of SELinux have commas in them, and it knows quotes.
            let quote: &[u8] = if parameter.name.to_bytes().ends_with(b"context") { b"\"" } else { b"" };
            for part in [quote, value.to_bytes(), quote] {
                text.extend_from_slice(part);
            }
        }
    }
    if text.is_empty() {
        return Ok(None);
    }
    CString::new(text).map(Some).map_err(|_| Errno::INVAL)
}
