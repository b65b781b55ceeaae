//! Device nodes and the links in /dev, made by descriptor in the container's own /dev.

use crate::Root;
use crate::error::{Item, Result};
use crate::plan::{Device, DeviceKind};
use crate::resolve::{Missing, open_host};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{
    AtFlags, FileType, Gid, Mode, OFlags, Stat, Uid, chownat, fstat, makedev, mknodat, openat, readlinkat, statat,
    symlinkat, unlinkat,
};
use rustix::io::Errno;
use std::ffi::{CStr, CString};

/// config-linux.md, Dev symbolic links; `core` is runc's.
const LINKS: [(&CStr, &CStr); 5] = [
    (c"/proc/self/fd", c"fd"),
    (c"/proc/self/fd/0", c"stdin"),
    (c"/proc/self/fd/1", c"stdout"),
    (c"/proc/self/fd/2", c"stderr"),
    (c"/proc/kcore", c"core"),
];

impl Root<'_> {
    pub(crate) fn make_devices(&mut self) -> Result<()> {
        for (index, device) in self.plan.devices.iter().enumerate() {
            self.make_device(Item::Device(index as u16), device)?;
        }
        Ok(())
    }

    fn make_device(&mut self, item: Item, device: &Device) -> Result<()> {
        let path = device.path.to_bytes();
        let split = path.iter().rposition(|byte| *byte == b'/').unwrap_or(0);
        let name = CString::new(&path[split + 1..]).unwrap_or_default();
        if &path[..split] == b"/dev" {
            let dev = self.take_dev(item)?;
            let made = self.make_node(item, device, dev.as_fd(), &name);
            self.dev = Some(dev);
            return made;
        }
        let parent = CString::new(if split == 0 { b"/" } else { &path[..split] }).unwrap_or_default();
        let dir = item.at("create the directory of", self.dir.resolve_or_create(&parent, Missing::Directory))?;
        self.make_node(item, device, dir.as_fd(), &name)
    }

    /// The container's /dev: opened once, kept by its descriptor.
    pub(crate) fn take_dev(&mut self, item: Item) -> Result<OwnedFd> {
        let fresh = self.fresh.take_if(|(path, _)| *path == c"/dev").map(|(_, fd)| fd);
        match self.dev.take().or(fresh) {
            Some(fd) => Ok(fd),
            None => item.at("create /dev for", self.dir.resolve_or_create(c"/dev", Missing::Directory)),
        }
    }

    fn make_node(&self, item: Item, device: &Device, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        if self.plan.userns && device.kind != DeviceKind::Fifo {
            return self.bind_node(item, device, dir, name);
        }
        let kind = file_type(device.kind);
        let number = if device.kind == DeviceKind::Fifo { 0 } else { makedev(device.major, device.minor) };
        match mknodat(dir, name, kind, Mode::from_raw_mode(device.mode), number) {
            Ok(()) if device.uid != 0 || device.gid != 0 => {
                let (uid, gid) = (Uid::from_raw(device.uid), Gid::from_raw(device.gid));
                item.at("change the owner of", chownat(dir, name, Some(uid), Some(gid), AtFlags::SYMLINK_NOFOLLOW))
            }
            Ok(()) => Ok(()),
            Err(Errno::EXIST) => {
                let stat = item.at("look at", statat(dir, name, AtFlags::SYMLINK_NOFOLLOW))?;
                if is_device(&stat, device) { Ok(()) } else { item.fail("another file is at", Errno::EXIST) }
            }
            Err(Errno::PERM) if device.kind != DeviceKind::Fifo => self.bind_node(item, device, dir, name),
            Err(errno) => item.fail("make", errno),
        }
    }

    /// The host's node of the same path, where nodes cannot be made.
    fn bind_node(&self, item: Item, device: &Device, dir: BorrowedFd<'_>, name: &CStr) -> Result<()> {
        if let Ok(stat) = statat(dir, name, AtFlags::SYMLINK_NOFOLLOW)
            && is_device(&stat, device)
        {
            return Ok(());
        }
        let host = item.at("open on the host", open_host(&device.path))?;
        if !is_device(&item.at("look at", fstat(&host))?, device) {
            return item.fail("the host has another file at", Errno::NODEV);
        }
        let flags = OFlags::CREATE | OFlags::EXCL | OFlags::NOFOLLOW | OFlags::CLOEXEC | OFlags::WRONLY;
        match openat(dir, name, flags, Mode::from_raw_mode(0o644)) {
            Ok(_) | Err(Errno::EXIST) => {}
            Err(errno) => return item.fail("create the mount point of", errno),
        }
        let target =
            item.at("open", openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty()))?;
        let tree = item.at("clone", self.api.clone_fd(host.as_fd(), false))?;
        let again = || openat(dir, name, OFlags::PATH | OFlags::NOFOLLOW | OFlags::CLOEXEC, Mode::empty());
        item.at("bind", self.api.attach(tree, target.as_fd(), again)).map(drop)
    }

    pub(crate) fn make_links(&mut self) -> Result<()> {
        let item = Item::Links;
        let dev = self.take_dev(item)?;
        for (target, name) in LINKS {
            if name == c"core" && rustix::fs::access(target, rustix::fs::Access::EXISTS).is_err() {
                continue;
            }
            match symlinkat(target, &dev, name) {
                Ok(()) | Err(Errno::EXIST) => {}
                Err(errno) => return item.fail("link", errno),
            }
        }
        link_ptmx(item, dev.as_fd())?;
        self.dev = Some(dev);
        Ok(())
    }
}

/// Terminals come from the container's own devpts.
fn link_ptmx(item: Item, dev: BorrowedFd<'_>) -> Result<()> {
    match symlinkat(c"pts/ptmx", dev, c"ptmx") {
        Err(Errno::EXIST) => {
            if readlinkat(dev, c"ptmx", Vec::new()).is_ok_and(|to| to.as_bytes() == b"pts/ptmx") {
                return Ok(());
            }
            item.at("remove ptmx", unlinkat(dev, c"ptmx", AtFlags::empty()))?;
            item.at("link ptmx", symlinkat(c"pts/ptmx", dev, c"ptmx"))
        }
        done => item.at("link ptmx", done),
    }
}

fn file_type(kind: DeviceKind) -> FileType {
    match kind {
        DeviceKind::Char => FileType::CharacterDevice,
        DeviceKind::Block => FileType::BlockDevice,
        DeviceKind::Fifo => FileType::Fifo,
    }
}

fn is_device(stat: &Stat, device: &Device) -> bool {
    FileType::from_raw_mode(stat.st_mode) == file_type(device.kind)
        && (device.kind == DeviceKind::Fifo || stat.st_rdev == makedev(device.major, device.minor))
}
