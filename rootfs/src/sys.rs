//! System calls that rustix does not have, each behind a safe function named after it. The only unsafe code here.
#![allow(unsafe_code)]

use rustix::fd::{AsRawFd, BorrowedFd};
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

/// mount(2) with every argument free: an absent one is NULL.
pub(crate) fn mount(
    source: Option<&CStr>,
    target: &CStr,
    kind: Option<&CStr>,
    flags: u64,
    data: Option<&CStr>,
) -> Result<()> {
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

fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}

/// The path `/proc/self/fd/N`, for calls that take no descriptor. Made without allocation.
pub(crate) struct FdPath([u8; 32]);

impl FdPath {
    pub(crate) fn new(fd: BorrowedFd<'_>) -> FdPath {
        let mut text = [0u8; 32];
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
    fn the_path_of_a_descriptor() {
        for n in [0, 7, 10, 1234] {
            // SAFETY: the number is only printed, never used as a descriptor.
            let fd = unsafe { BorrowedFd::borrow_raw(n) };
            assert_eq!(FdPath::new(fd).as_c_str().to_str().unwrap(), format!("/proc/self/fd/{n}"));
        }
    }
}
