//! System calls that rustix does not have, each behind a safe function named after it. The only unsafe code here.
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};
use std::ffi::CStr;

/// mount_setattr(2), Linux 5.12. `propagation` is one of MS_SHARED, MS_SLAVE, MS_PRIVATE, MS_UNBINDABLE, or 0.
pub(crate) fn mount_setattr(
    dir: BorrowedFd<'_>,
    path: &CStr,
    flags: i32,
    set: u64,
    clear: u64,
    propagation: u64,
) -> Result<()> {
    setattr(dir, path, flags, &libc::mount_attr { attr_set: set, attr_clr: clear, propagation, userns_fd: 0 })
}

/// mount_setattr(2) with MOUNT_ATTR_IDMAP: the files of a mount that nobody has reached yet show the ids of a user
/// namespace.
pub(crate) fn mount_map_ids(mount: BorrowedFd<'_>, namespace: BorrowedFd<'_>, recursive: bool) -> Result<()> {
    let flags = libc::AT_EMPTY_PATH | if recursive { libc::AT_RECURSIVE } else { 0 };
    let userns_fd = namespace.as_raw_fd() as u64;
    let attr = libc::mount_attr { attr_set: libc::MOUNT_ATTR_IDMAP, attr_clr: 0, propagation: 0, userns_fd };
    setattr(mount, c"", flags, &attr)
}

fn setattr(dir: BorrowedFd<'_>, path: &CStr, flags: i32, attr: &libc::mount_attr) -> Result<()> {
    // SAFETY: `path` ends in NUL and `attr` lives until the call returns; the kernel reads size_of::<mount_attr>().
    let rc = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            std::ptr::from_ref(attr),
            size_of::<libc::mount_attr>(),
        )
    };
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}

/// open_tree_attr(2), Linux 6.15: clones a mount from this path on, below an open directory or empty, alone, with
/// attributes. No link is followed at its end.
pub(crate) fn open_tree_attr(dir: BorrowedFd<'_>, path: &CStr, set: u64, clear: u64) -> Result<OwnedFd> {
    /// The same number on all architectures; no libc has it yet.
    const SYS_OPEN_TREE_ATTR: libc::c_long = 467;
    let at = (libc::AT_EMPTY_PATH | libc::AT_SYMLINK_NOFOLLOW) as libc::c_uint;
    let flags = libc::OPEN_TREE_CLONE | libc::OPEN_TREE_CLOEXEC | at;
    let attr = libc::mount_attr { attr_set: set, attr_clr: clear, propagation: 0, userns_fd: 0 };
    // SAFETY: the path ends in NUL and `attr` lives until the call returns; the kernel reads size_of::<mount_attr>().
    let rc = unsafe {
        libc::syscall(
            SYS_OPEN_TREE_ATTR,
            dir.as_raw_fd(),
            path.as_ptr(),
            flags,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    };
    match i32::try_from(rc) {
        // SAFETY: the kernel has just made it, and nobody else knows it.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(last_errno()),
    }
}

/// mount(2) with every argument free: an absent one is NULL. The kernel takes a page of data with its NUL and cuts off the
/// rest without a word; here that is E2BIG.
pub(crate) fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: u64,
    data: Option<&CStr>,
) -> Result<()> {
    /// The smallest page that there is.
    const PAGE: usize = 4096;
    if data.is_some_and(|data| data.count_bytes() >= PAGE) {
        return Err(Errno::TOOBIG);
    }
    let pointer = |text: Option<&CStr>| text.map_or(std::ptr::null(), CStr::as_ptr);
    // SAFETY: each pointer is NULL or a string that ends in NUL and outlives the call.
    let rc = unsafe { libc::mount(pointer(source), target.as_ptr(), pointer(kind), flags, pointer(data).cast()) };
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}

/// unshare(2) of the mount namespace, and with it of root, working directory and umask.
pub(crate) fn leave_mount_namespace() -> Result<()> {
    // SAFETY: no descriptor is unshared, so none that somebody has borrowed goes away.
    unsafe { rustix::thread::unshare_unsafe(rustix::thread::UnshareFlags::NEWNS) }
}

/// FS_IOC_FSGETXATTR and FS_IOC_FSSETXATTR: _IOR and _IOW('X', 31 and 32, struct fsxattr).
const FS_IOC_FSGETXATTR: u32 = 0x801c_581f;
const FS_IOC_FSSETXATTR: u32 = 0x401c_5820;

/// struct fsxattr of linux/fs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct FsXattr {
    /// FS_XFLAG_*.
    pub(crate) flags: u32,
    extent_size: u32,
    extents: u32,
    /// The project that pays for it.
    pub(crate) project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

/// ioctl(2), FS_IOC_FSGETXATTR: what kind of file it is for its file system, and of which project.
pub(crate) fn ioctl_get_fsxattr(file: BorrowedFd<'_>) -> Result<FsXattr> {
    let mut found = FsXattr::default();
    // SAFETY: the kernel writes one struct fsxattr, as which `found` is laid out, and keeps no pointer to it.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSGETXATTR as _, &raw mut found) };
    if rc == 0 { Ok(found) } else { Err(last_errno()) }
}

/// ioctl(2), FS_IOC_FSSETXATTR.
pub(crate) fn ioctl_set_fsxattr(file: BorrowedFd<'_>, wanted: &FsXattr) -> Result<()> {
    // SAFETY: the kernel reads one struct fsxattr, as which `wanted` is laid out, and keeps no pointer to it.
    let rc = unsafe { libc::ioctl(file.as_raw_fd(), FS_IOC_FSSETXATTR as _, &raw const *wanted) };
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}

/// struct fs_disk_quota of linux/dqblk_xfs.h, which all file systems with quotas understand.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DiskQuota {
    version: i8,
    flags: i8,
    fields: u16,
    id: u32,
    /// In units of 512 bytes, as all numbers of blocks here.
    pub(crate) hard_blocks: u64,
    soft_blocks: u64,
    inode_limits: [u64; 2],
    pub(crate) blocks: u64,
    pub(crate) inodes: u64,
    timers: [i32; 2],
    warnings: [u16; 2],
    high_bits: [i8; 4],
    realtime: [u64; 3],
    realtime_timer: i32,
    realtime_warnings: u16,
    pad: [u8; 10],
}

/// struct fs_quota_statv of linux/dqblk_xfs.h.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default)]
struct QuotaState {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u64; 19],
}

/// How to reach a file system with quotas.
#[derive(Clone, Copy)]
pub(crate) enum QuotasOf<'a> {
    /// Any file in it; quotactl_fd(2), Linux 5.14.
    File(BorrowedFd<'a>),
    /// Its block device; quotactl(2).
    Device(&'a CStr),
}

/// Q_XSETQLIM, Q_XGETQUOTA and Q_XGETQSTATV for projects: QCMD(('X' << 8) + N, PRJQUOTA).
const Q_XGETQUOTA: u32 = ((0x5803) << 8) | 2;
const Q_XSETQLIM: u32 = ((0x5804) << 8) | 2;
const Q_XGETQSTATV: u32 = ((0x5808) << 8) | 2;

/// quotactl(2), Q_XGETQSTATV: FS_QUOTA_*, which quotas are counted and which limits are kept.
pub(crate) fn quotactl_state(of: QuotasOf<'_>) -> Result<u16> {
    let mut state = QuotaState { version: 1, ..QuotaState::default() };
    // SAFETY: for Q_XGETQSTATV the kernel reads and writes one struct fs_quota_statv, as which `state` is laid out.
    unsafe { quotactl(of, Q_XGETQSTATV, 0, (&raw mut state).cast()) }.map(|()| state.flags)
}

/// quotactl(2), Q_XGETQUOTA: what a project uses and may use.
pub(crate) fn quotactl_get(of: QuotasOf<'_>, project: u32) -> Result<DiskQuota> {
    let mut quota = DiskQuota::default();
    // SAFETY: for Q_XGETQUOTA the kernel writes one struct fs_disk_quota, as which `quota` is laid out.
    unsafe { quotactl(of, Q_XGETQUOTA, project, (&raw mut quota).cast()) }.map(|()| quota)
}

/// quotactl(2), Q_XSETQLIM: how many blocks of 512 bytes a project may use; 0 is no limit.
pub(crate) fn quotactl_limit(of: QuotasOf<'_>, project: u32, hard_blocks: u64) -> Result<()> {
    /// FS_DQUOT_VERSION; FS_PROJ_QUOTA; FS_DQ_BSOFT and FS_DQ_BHARD.
    const KIND: (i8, i8, u16) = (1, 2, (1 << 2) | (1 << 3));
    let (version, flags, fields) = KIND;
    let mut quota = DiskQuota { version, flags, fields, id: project, hard_blocks, ..DiskQuota::default() };
    // SAFETY: for Q_XSETQLIM the kernel reads one struct fs_disk_quota, as which `quota` is laid out.
    unsafe { quotactl(of, Q_XSETQLIM, project, (&raw mut quota).cast()) }
}

/// # Safety
/// `data` is what the command takes.
unsafe fn quotactl(of: QuotasOf<'_>, command: u32, id: u32, data: *mut libc::c_void) -> Result<()> {
    /// The same number on all architectures; not every libc has it.
    const SYS_QUOTACTL_FD: libc::c_long = 443;
    let rc = match of {
        // SAFETY: the caller vouches for `data`; the other arguments are numbers.
        QuotasOf::File(file) => unsafe { libc::syscall(SYS_QUOTACTL_FD, file.as_raw_fd(), command, id, data) },
        // SAFETY: the caller vouches for `data`; the path ends in NUL.
        QuotasOf::Device(path) => unsafe { libc::syscall(libc::SYS_quotactl, command, path.as_ptr(), id, data) },
    };
    if rc == 0 { Ok(()) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// The path `/proc/self/fd/N`, for calls that take no descriptor. Made without allocation.
pub(crate) struct FdPath([u8; 64]);

impl FdPath {
    /// Of something in an open directory; None if its name is long.
    pub(crate) fn of_name(dir: BorrowedFd<'_>, name: &CStr) -> Option<FdPath> {
        let FdPath(mut text) = FdPath::new(dir);
        let end = text.iter().position(|byte| *byte == 0)?;
        let room = text.get_mut(end..end + 1 + name.count_bytes() + 1)?;
        room[0] = b'/';
        room[1..].copy_from_slice(name.to_bytes_with_nul());
        Some(FdPath(text))
    }

    pub(crate) fn new(fd: BorrowedFd<'_>) -> FdPath {
        let mut text = [0u8; 64];
        let prefix = b"/proc/self/fd/";
        text[..prefix.len()].copy_from_slice(prefix);
        let (mut number, mut digits, mut at) = (fd.as_raw_fd().unsigned_abs(), [0u8; 10], 0);
        loop {
            digits[at] = b'0' + (number % 10) as u8;
            (number, at) = (number / 10, at + 1);
            if number == 0 {
                break;
            }
        }
        for (to, from) in text[prefix.len()..].iter_mut().zip(digits[..at].iter().rev()) {
            *to = *from;
        }
        FdPath(text)
    }

    pub(crate) fn as_c_str(&self) -> &CStr {
        CStr::from_bytes_until_nul(&self.0).unwrap_or(c"")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn structures_are_as_long_as_the_kernels() {
        assert_eq!(size_of::<FsXattr>(), 28);
        assert_eq!(size_of::<DiskQuota>(), 112);
        assert_eq!(size_of::<QuotaState>(), 160);
    }

    #[test]
    fn what_mount_would_cut_off_is_refused() {
        let of = |length: usize| {
            let data = std::ffi::CString::new("x".repeat(length)).unwrap();
            mount(None, c"/nowhere/at/all", Some(c"tmpfs"), 0, Some(&data)).unwrap_err()
        };
        assert_eq!((of(4095), of(4096)), (Errno::NOENT, Errno::TOOBIG));
    }

    #[test]
    fn the_path_of_a_descriptor() {
        for n in [0, 7, 10, 1234] {
            // SAFETY: the number is only printed, never used as a descriptor.
            let fd = unsafe { BorrowedFd::borrow_raw(n) };
            assert_eq!(FdPath::new(fd).as_c_str().to_str().unwrap(), format!("/proc/self/fd/{n}"));
            let of_name = |name: &CStr| Some(FdPath::of_name(fd, name)?.as_c_str().to_str().unwrap().to_owned());
            assert_eq!(of_name(c"pts"), Some(format!("/proc/self/fd/{n}/pts")));
            assert_eq!(of_name(&std::ffi::CString::new("x".repeat(60)).unwrap()), None);
        }
    }
}
