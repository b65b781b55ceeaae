//! seccomp(2).

use super::answer;
use crate::seccomp::Instruction;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};

const SET_MODE_FILTER: libc::c_ulong = 1;
/// linux/seccomp.h, SECCOMP_FILTER_FLAG_*.
pub(crate) const NEW_LISTENER: u64 = 1 << 3;
pub(crate) const WAIT_KILLABLE_RECV: u64 = 1 << 5;

/// Filters all further system calls of this process. The listener's descriptor, with that flag, is close-on-exec.
///
/// EACCES without CAP_SYS_ADMIN and no_new_privs; EINVAL for a program or flag that the kernel does not take.
pub(crate) fn load_filter(program: &[Instruction], flags: u64) -> Result<Option<OwnedFd>> {
    // struct sock_fprog
    #[repr(C)]
    struct Program {
        length: u16,
        instructions: *const Instruction,
    }
    let length = u16::try_from(program.len()).map_err(|_| Errno::INVAL)?;
    let program = Program { length, instructions: program.as_ptr() };
    // SAFETY: the kernel reads `length` instructions, which have the layout of struct sock_filter.
    let fd = answer(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags, &raw const program) })?;
    if flags & NEW_LISTENER == 0 {
        return Ok(None);
    }
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(Some(unsafe { OwnedFd::from_raw_fd(fd as i32) }))
}

/// Whether the kernel knows these SECCOMP_FILTER_FLAG_*.
pub(crate) fn has_filter_flags(flags: u64) -> bool {
    // WAIT_KILLABLE_RECV is for listeners only.
    let with = if flags & WAIT_KILLABLE_RECV == 0 { 0 } else { NEW_LISTENER };
    // SAFETY: without a program the kernel refuses with EFAULT, after it has looked at the flags.
    let refused =
        answer(unsafe { libc::syscall(libc::SYS_seccomp, SET_MODE_FILTER, flags | with, std::ptr::null::<u8>()) });
    refused == Err(Errno::FAULT)
}
