//! The loop over `mounts`: finds or makes the target, mounts, sets flags and propagation.

use crate::api::Tree;
use crate::copy_up::copy_up;
use crate::error::{Item, Result};
use crate::flags::current_attr;
use crate::options::{NOSYMFOLLOW, RDONLY};
use crate::plan::{Attr, Filesystem, Mount, What};
use crate::resolve::{Missing, make};
use crate::sys::FdPath;
use crate::{Root, Sources};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, fstat, fstatfs, openat, unlinkat};
use rustix::io::Errno;
use std::ffi::CStr;
use std::io::Write;

/// Files of a proc file system that may be covered: they inform, nothing is decided by them.
const COVERABLE: [&[u8]; 9] = [
    b"/proc/cpuinfo",
    b"/proc/diskstats",
    b"/proc/loadavg",
    b"/proc/meminfo",
    b"/proc/slabinfo",
    b"/proc/stat",
    b"/proc/swaps",
    b"/proc/sys/kernel/ns_last_pid",
    b"/proc/uptime",
];
const COVERABLE_TOO: &[u8] = b"/proc/sys/crypto/fips_enabled";

/// Whether a mount may cover this path of a proc file system (a process label or a sysctl written to something that
/// covers /proc would go nowhere: CVE-2019-16884).
pub fn may_cover(destination: &[u8]) -> bool {
    COVERABLE.contains(&destination) || destination == COVERABLE_TOO
}

impl<'p> Root<'p> {
    pub(crate) fn mount(&mut self, index: u16, mount: &'p Mount, sources: &mut Sources) -> Result<()> {
        let item = Item::Mount(index);
        let mounted = match &mount.what {
            What::Bind { source, recursive } => self.bind(index, mount, source, *recursive, sources)?,
            What::Filesystem(filesystem) => match self.mount_filesystem(item, mount, filesystem)? {
                Some(mounted) => mounted,
                None => return Ok(()),
            },
            What::Cgroup(cgroups) => self.mount_cgroups(item, mount, cgroups)?,
            What::Remount(filesystem) => {
                let fd = item.at("open", self.dir.resolve(&mount.destination))?;
                let attr = mount.attr.unwrap_or_default();
                item.at("remount", self.api.reconfigure(fd.as_fd(), filesystem, attr))?;
                fd
            }
        };
        if let Some(attr) = mount.recursive {
            item.at("set flags recursively", self.api.set_attr(mounted.as_fd(), attr, true))?;
        }
        for propagation in &mount.propagation {
            item.at("set the propagation", self.api.propagate_mount(mounted.as_fd(), *propagation))?;
        }
        let fresh = matches!(&mount.what, What::Filesystem(filesystem) if is_fresh(filesystem)) && !self.linked;
        if fresh && self.fresh.as_ref().is_none_or(|(path, _)| *path == &*mount.destination) {
            self.fresh = Some((&mount.destination, mounted));
        } else {
            self.api.leave(mounted);
        }
        Ok(())
    }

    fn bind(
        &mut self,
        index: u16,
        mount: &Mount,
        source: &CStr,
        recursive: bool,
        sources: &mut Sources,
    ) -> Result<OwnedFd> {
        let item = Item::Mount(index);
        let tree = match sources.take(index) {
            Some(fd) => Tree::Detached(fd),
            None => Item::MountSource(index).at("", self.api.clone_path(source, recursive))?,
        };
        let kind = match &tree {
            Tree::Detached(fd) => fstat(fd),
            Tree::Path { .. } => rustix::fs::stat(source),
        };
        let stat = Item::MountSource(index).at("", kind)?;
        let directory = FileType::from_raw_mode(stat.st_mode) == FileType::Directory;
        let missing = if directory { Missing::Directory } else { Missing::File };
        let (target, _) = self.target(item, &mount.destination, missing, || match &tree {
            Tree::Detached(fd) => is_procfs(fd.as_fd()),
            Tree::Path { source, .. } => crate::resolve::open_host(source).is_ok_and(|fd| is_procfs(fd.as_fd())),
        })?;
        // Set while nobody can reach the mount, where the kernel can; what is set later is set on the same mount.
        let set = match mount.attr {
            Some(attr) => self.set_bind_attr(item, &tree, attr)?,
            None => true,
        };
        let again = || self.dir.resolve(&mount.destination);
        let mounted = item.at("bind", self.api.attach(tree, target.as_fd(), again))?;
        if let (false, Some(attr)) = (set, mount.attr) {
            self.set_locked_attr(item, mounted.as_fd(), attr, |attr| self.api.set_attr(mounted.as_fd(), attr, false))?;
        }
        Ok(mounted)
    }

    fn set_bind_attr(&self, item: Item, tree: &Tree, attr: Attr) -> Result<bool> {
        let Tree::Detached(fd) = tree else { return Ok(false) };
        let mut set = true;
        self.set_locked_attr(item, fd.as_fd(), attr, |attr| {
            set = self.api.set_detached_attr(tree, attr, false)?;
            Ok(())
        })?;
        Ok(set)
    }

    /// In a user namespace some flags of the host's mount are locked. They stay, unless a word asked to clear one.
    fn set_locked_attr(
        &self,
        item: Item,
        mount: BorrowedFd<'_>,
        attr: Attr,
        mut set: impl FnMut(Attr) -> rustix::io::Result<()>,
    ) -> Result<()> {
        match set(attr) {
            Err(Errno::PERM) if self.plan.userns => {
                let locked = item.at("read flags", current_attr(mount))?;
                if locked & attr.explicit_clear != 0 {
                    return item.fail("clear a flag that the host's mount has locked", Errno::PERM);
                }
                let keep = Attr { set: attr.set | (locked & !crate::options::ATIME), clear: 0, ..attr };
                item.at("set flags", set(keep))
            }
            done => item.at("set flags", done),
        }
    }

    /// The mount, or None where nothing more is to be done to it.
    fn mount_filesystem(&mut self, item: Item, mount: &Mount, filesystem: &Filesystem) -> Result<Option<OwnedFd>> {
        let kind = filesystem.kind.to_bytes();
        let proc = kind == b"proc";
        let tmpfs = kind == b"tmpfs";
        let mut attr = mount.attr.unwrap_or_default().set;
        let is_dev = mount.destination.to_bytes() == b"/dev";
        let later = attr & RDONLY != 0 && (tmpfs || is_dev);
        if later {
            attr &= !RDONLY;
        }
        let kept = proc && self.plan.keep_procfs;
        let plain = mount.recursive.is_none() && mount.propagation.is_empty() && attr & RDONLY == 0 && !later;
        let at_once = plain && !is_dev && !kept && !filesystem.copy_up;
        let real = proc || kind == b"sysfs";
        if at_once && !real && self.mount_in_fresh(&mount.destination, filesystem, attr) {
            return Ok(None);
        }
        let (target, made) = if real {
            (self.real_directory(item, &mount.destination)?, false)
        } else {
            self.target(item, &mount.destination, Missing::Directory, || false)?
        };
        let mode = if tmpfs && !made { inherited_mode(item, filesystem, target.as_fd())? } else { None };
        let mode = mode.as_ref().map(|text| CStr::from_bytes_until_nul(text).unwrap_or(c"755"));
        if at_once && self.api.mount_at_once(filesystem, attr, mode, &FdPath::new(target.as_fd())) {
            self.api.leave(target);
            return Ok(None);
        }
        // Linux 5.10 to 5.13 have the flag in mount(2) only; fsmount(2) refuses it.
        let symfollow = attr & NOSYMFOLLOW;
        let again = || self.dir.resolve(&mount.destination);
        let mounted = match self.api.mount(filesystem, attr, mode, target.as_fd(), again) {
            Err(Errno::INVAL) if symfollow != 0 => {
                let mut legacy = Filesystem { legacy_flags: 256, ..Filesystem::default() };
                legacy.kind = filesystem.kind.clone();
                legacy.source = filesystem.source.clone();
                self.api.mount(&legacy, attr, mode, target.as_fd(), again)
            }
            mounted => mounted,
        };
        let mounted = item.at("mount", mounted)?;
        if filesystem.copy_up {
            item.at("copy up", copy_up(target.as_fd(), mounted.as_fd()))?;
        }
        self.api.leave(target);
        if later {
            self.read_only_later.push(item.at("keep", rustix::io::fcntl_dupfd_cloexec(&mounted, 3))?);
        }
        if kept && self.procfs.is_none() && filesystem.parameters.is_empty() {
            self.procfs = Some(item.at("keep", rustix::io::fcntl_dupfd_cloexec(&mounted, 3))?);
        }
        Ok(Some(mounted))
    }

    /// Mounts on a new directory in what is fresh, by its path; false where that is not so simple.
    fn mount_in_fresh(&mut self, destination: &CStr, filesystem: &Filesystem, attr: u64) -> bool {
        self.linked = false;
        let Some((path, dir)) = &self.fresh else { return false };
        let Some(name) = name_in(path, destination) else { return false };
        let Some(target) = FdPath::of_name(dir.as_fd(), name) else { return false };
        if make(dir.as_fd(), name, false).is_err() {
            return false;
        }
        let mounted = self.api.mount_at_once(filesystem, attr, None, &target);
        if !mounted {
            // To be made anew.
            unlinkat(dir, name, AtFlags::REMOVEDIR).ok();
        }
        mounted
    }

    /// proc and sysfs go on a directory that no link leads to: what is written to them later must be them
    /// (CVE-2019-19921, CVE-2023-27561).
    fn real_directory(&self, item: Item, destination: &CStr) -> Result<OwnedFd> {
        let what = "must be mounted on ordinary directory";
        match self.dir.resolve_real_directory(destination) {
            Ok(fd) => Ok(fd),
            Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => item.fail(what, errno),
            Err(Errno::NOENT) => {
                item.at("create", self.dir.resolve_or_create(destination, Missing::Directory))?;
                match self.dir.resolve_real_directory(destination) {
                    Err(errno @ (Errno::LOOP | Errno::NOTDIR)) => item.fail(what, errno),
                    opened => item.at("open", opened),
                }
            }
            Err(errno) => item.fail("open", errno),
        }
    }

    /// Finds or makes the place to mount on; true if it was made. A place that a link led into a proc file system is refused; what the
    /// destination itself says was checked by the plan.
    pub(crate) fn target(
        &mut self,
        item: Item,
        destination: &CStr,
        missing: Missing,
        source_is_procfs: impl Fn() -> bool,
    ) -> Result<(OwnedFd, bool)> {
        if destination.to_bytes() == b"/proc" && !source_is_procfs() {
            return item.fail("only a proc file system may be mounted on /proc", Errno::PERM);
        }
        self.linked = false;
        if let Some((path, dir)) = &self.fresh {
            match name_in(path, destination).map(|name| make_in(dir.as_fd(), name, missing)) {
                Some(Ok(made)) => return Ok((made, true)),
                Some(Err(_)) => {}
                // It may be covered by what comes now.
                None if path.to_bytes().starts_with(destination.to_bytes()) => self.fresh = None,
                None => {}
            }
        }
        match self.dir.resolve_without_links(destination) {
            Ok(fd) => Ok((fd, false)),
            Err(errno @ (Errno::LOOP | Errno::NOENT | Errno::NOTDIR)) => {
                if let Ok(fd) = self.dir.make_last(destination, missing) {
                    return Ok((fd, true));
                }
                // It may lead to what is fresh, and be covered by what comes now.
                (self.fresh, self.linked) = (None, true);
                let made = errno == Errno::NOENT || self.dir.resolve(destination).is_err();
                let fd = item.at("create mount point", self.dir.resolve_or_create(destination, missing))?;
                if is_procfs(fd.as_fd()) && !may_cover(destination.to_bytes()) && !source_is_procfs() {
                    return item.fail("a link leads into a proc file system", Errno::PERM);
                }
                if self.is_root(item, fd.as_fd())? {
                    return item.fail("a link leads to the root itself", Errno::LOOP);
                }
                Ok((fd, made))
            }
            Err(errno) => item.fail("open mount point", errno),
        }
    }

    fn is_root(&self, item: Item, fd: BorrowedFd<'_>) -> Result<bool> {
        let (a, b) = (item.at("open", fstat(fd))?, item.at("open", fstat(&self.dir.fd))?);
        Ok((a.st_dev, a.st_ino) == (b.st_dev, b.st_ino))
    }
}

fn is_fresh(filesystem: &Filesystem) -> bool {
    filesystem.kind.to_bytes() == b"tmpfs" && !filesystem.copy_up
}

/// What a path is called in the directory, if it lies there.
fn name_in<'d>(dir: &CStr, destination: &'d CStr) -> Option<&'d CStr> {
    let length = dir.count_bytes();
    let rest = destination.to_bytes().strip_prefix(dir.to_bytes())?.strip_prefix(b"/")?;
    let name = CStr::from_bytes_with_nul(&destination.to_bytes_with_nul()[length + 1..]).ok()?;
    (!rest.is_empty() && !rest.contains(&b'/')).then_some(name)
}

fn make_in(dir: BorrowedFd<'_>, name: &CStr, missing: Missing) -> rustix::io::Result<OwnedFd> {
    make(dir, name, missing == Missing::File)?;
    openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty())
}

pub(crate) fn is_procfs(fd: BorrowedFd<'_>) -> bool {
    fstatfs(fd).is_ok_and(|fs| fs.f_type == rustix::fs::PROC_SUPER_MAGIC)
}

/// A tmpfs takes the mode of the directory that it covers unless the options say another.
fn inherited_mode(item: Item, filesystem: &Filesystem, target: BorrowedFd<'_>) -> Result<Option<[u8; 8]>> {
    if filesystem.parameters.iter().any(|p| p.name.to_bytes() == b"mode") {
        return Ok(None);
    }
    let stat = item.at("open", fstat(target))?;
    let mut text = [0u8; 8];
    item.at("write a mode", write!(&mut text[..], "{:o}", stat.st_mode & 0o7777).map_err(|_| Errno::INVAL))?;
    Ok(Some(text))
}
