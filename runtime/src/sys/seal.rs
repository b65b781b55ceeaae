//! Runs this program again from a copy that no container can write to (CVE-2019-5736): a process in a container can be
//! reached through /proc/PID/exe, and so could the host's binary.
//!
//! The copy is a read-only mount of the binary that is attached nowhere, or a sealed memfd where the kernel has no
//! mount_setattr(2).

use super::answer;
use rustix::fd::{AsFd, AsRawFd, OwnedFd};
use rustix::fs::{CWD, MemfdFlags, SealFlags};
use rustix::fs::{Mode, OFlags, StatVfsMountFlags, fcntl_add_seals, memfd_create, openat, statvfs};
use rustix::io::{Errno, Result};
use rustix::mount::{OpenTreeFlags, open_tree};
use std::ffi::CStr;

const SELF: &CStr = c"/proc/self/exe";

/// Returns once this process runs from where nothing can be written: at once if it does already, else after an
/// execveat(2) that starts the program anew with the same arguments.
pub(crate) fn seal(args: &[&CStr]) -> Result<()> {
    if sealed()? {
        return Ok(());
    }
    let copy = match read_only_mount() {
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) if sealed_copy_runs()? => return Ok(()),
        Err(Errno::NOSYS | Errno::PERM | Errno::INVAL) => sealed_copy(),
        copy => copy,
    }?;
    let mut pointers: Vec<*const libc::c_char> = args.iter().map(|arg| arg.as_ptr()).collect();
    pointers.push(std::ptr::null());
    unsafe extern "C" {
        static environ: *const *const libc::c_char;
    }
    // SAFETY: `pointers` and the C library's `environ` end in NULL and hold valid strings; "" with AT_EMPTY_PATH
    // executes the descriptor itself.
    let rc = unsafe {
        libc::syscall(
            libc::SYS_execveat,
            copy.as_raw_fd(),
            c"".as_ptr(),
            pointers.as_ptr(),
            environ,
            libc::AT_EMPTY_PATH,
        )
    };
    match answer(rc) {
        Err(Errno::NOSYS | Errno::PERM) => {
            let path = format!("/proc/self/fd/{}\0", copy.as_raw_fd());
            let path = CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::INVAL)?;
            // SAFETY: as above.
            answer(unsafe { libc::syscall(libc::SYS_execve, path.as_ptr(), pointers.as_ptr(), environ) }).map(drop)
        }
        done => done.map(drop),
    }
}

/// On a read-only mount nothing can be opened for writing, and a container's processes cannot change that mount.
fn sealed() -> Result<bool> {
    Ok(statvfs(SELF)?.f_flag.contains(StatVfsMountFlags::RDONLY))
}

/// A memfd is on no mount that could be read-only; its seals speak for it.
fn sealed_copy_runs() -> Result<bool> {
    if rustix::fs::readlinkat(CWD, SELF, Vec::new())?.as_bytes().starts_with(b"/memfd:proa") {
        let me = openat(CWD, SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
        return Ok(rustix::fs::fcntl_get_seals(&me).is_ok_and(|seals| seals.contains(SealFlags::WRITE)));
    }
    Ok(false)
}

fn read_only_mount() -> Result<OwnedFd> {
    let tree = open_tree(CWD, SELF, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
    let attr = libc::mount_attr { attr_set: libc::MOUNT_ATTR_RDONLY, attr_clr: 0, propagation: 0, userns_fd: 0 };
    // SAFETY: `attr` lives until the call returns; the kernel reads its size.
    answer(unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            tree.as_raw_fd(),
            c"".as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<libc::mount_attr>(),
        )
    })?;
    Ok(tree)
}

fn sealed_copy() -> Result<OwnedFd> {
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    // Linux 6.3 wants to be told that the file is to be executed.
    const MFD_EXEC: u32 = 0x10;
    let copy = match memfd_create(c"proa", flags | MemfdFlags::from_bits_retain(MFD_EXEC)) {
        Err(Errno::INVAL) => memfd_create(c"proa", flags),
        copy => copy,
    }?;
    let me = openat(CWD, SELF, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    while rustix::fs::sendfile(copy.as_fd(), me.as_fd(), None, 1 << 30)? > 0 {}
    fcntl_add_seals(&copy, SealFlags::WRITE | SealFlags::SHRINK | SealFlags::GROW | SealFlags::SEAL)?;
    // execveat(2) of a memfd that is open for writing answers ETXTBSY: execute a read-only descriptor of it.
    let path = format!("/proc/self/fd/{}\0", copy.as_raw_fd());
    let path = CStr::from_bytes_with_nul(path.as_bytes()).map_err(|_| Errno::INVAL)?;
    let read_only = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    drop(copy);
    Ok(read_only)
}
