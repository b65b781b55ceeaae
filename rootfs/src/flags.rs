//! The flags of a mount: MOUNT_ATTR_* of mount_setattr(2), MS_* of mount(2), and what statvfs(3) says.

use rustix::fd::BorrowedFd;
use rustix::io::Result;

/// statvfs(3); not in every C library's headers.
const ST_RELATIME: libc::c_ulong = 4096;

/// The MS_* flags of the mount that `fd` is in.
pub(crate) fn current_flags(fd: BorrowedFd<'_>) -> Result<u64> {
    let bits = rustix::fs::fstatvfs(fd)?.f_flag.bits();
    let map = [
        (libc::ST_RDONLY, libc::MS_RDONLY),
        (libc::ST_NOSUID, libc::MS_NOSUID),
        (libc::ST_NODEV, libc::MS_NODEV),
        (libc::ST_NOEXEC, libc::MS_NOEXEC),
        (libc::ST_NOATIME, libc::MS_NOATIME),
        (libc::ST_NODIRATIME, libc::MS_NODIRATIME),
        (ST_RELATIME, libc::MS_RELATIME),
    ];
    Ok(map.iter().filter(|(st, _)| bits & *st != 0).map(|(_, ms)| *ms).sum())
}

/// The MOUNT_ATTR_* that the mount of `fd` has.
pub(crate) fn current_attr(fd: BorrowedFd<'_>) -> Result<u64> {
    let now = current_flags(fd)?;
    let map = [
        (libc::MS_RDONLY, libc::MOUNT_ATTR_RDONLY),
        (libc::MS_NOSUID, libc::MOUNT_ATTR_NOSUID),
        (libc::MS_NODEV, libc::MOUNT_ATTR_NODEV),
        (libc::MS_NOEXEC, libc::MOUNT_ATTR_NOEXEC),
        (libc::MS_NOATIME, libc::MOUNT_ATTR_NOATIME),
        (libc::MS_NODIRATIME, libc::MOUNT_ATTR_NODIRATIME),
    ];
    Ok(map.iter().filter(|(ms, _)| now & *ms != 0).map(|(_, attr)| *attr).sum())
}

pub(crate) fn to_ms(attr: u64) -> u64 {
    let map = [
        (libc::MOUNT_ATTR_RDONLY, libc::MS_RDONLY),
        (libc::MOUNT_ATTR_NOSUID, libc::MS_NOSUID),
        (libc::MOUNT_ATTR_NODEV, libc::MS_NODEV),
        (libc::MOUNT_ATTR_NOEXEC, libc::MS_NOEXEC),
        (libc::MOUNT_ATTR_NODIRATIME, libc::MS_NODIRATIME),
        (libc::MOUNT_ATTR_NOSYMFOLLOW, 256),
    ];
    let atime = match attr & libc::MOUNT_ATTR__ATIME {
        libc::MOUNT_ATTR_NOATIME => libc::MS_NOATIME,
        libc::MOUNT_ATTR_STRICTATIME => libc::MS_STRICTATIME,
        _ => 0,
    };
    map.iter().filter(|(from, _)| attr & from != 0).map(|(_, ms)| *ms).sum::<u64>() | atime
}

/// Like `to_ms`, for bits to clear: the whole access time field.
pub(crate) fn to_ms_mask(clear: u64) -> u64 {
    let atime = libc::MS_NOATIME | libc::MS_STRICTATIME | libc::MS_RELATIME;
    to_ms(clear & !libc::MOUNT_ATTR__ATIME) | if clear & libc::MOUNT_ATTR__ATIME != 0 { atime } else { 0 }
}
