//! Writes `linux.sysctl` through a proc file system that nothing of the container's could have covered.

use super::Result;
use crate::plan::Sysctl;
use crate::sync::Item;
use rootfs::Root;
use rustix::fs::{Mode, OFlags, ResolveFlags, openat, openat2};
use rustix::io::Errno;

pub(crate) fn write(list: &[Sysctl], root: &Root<'_>) -> Result<()> {
    if list.is_empty() {
        return Ok(());
    }
    let procfs = root.procfs()?;
    for (index, sysctl) in list.iter().enumerate() {
        let item = Item::Sysctl(index as u16);
        let flags = OFlags::WRONLY | OFlags::CLOEXEC | OFlags::NOFOLLOW;
        let resolve = ResolveFlags::BENEATH | ResolveFlags::NO_SYMLINKS | ResolveFlags::NO_XDEV;
        let file = match openat2(&procfs, &*sysctl.path, flags, Mode::empty(), resolve) {
            Err(Errno::NOSYS | Errno::PERM) => openat(&procfs, &*sysctl.path, flags, Mode::empty()),
            opened => opened,
        };
        let file = item.at("open", file)?;
        let value = sysctl.value.to_bytes();
        match item.at("write", rustix::io::write(&file, value))? {
            written if written == value.len() => {}
            _ => return Err(item.failure("write", Errno::INVAL)),
        }
    }
    Ok(())
}
