//! The only unsafe code of the runtime: system calls that rustix does not have, each behind a safe function named
//! after it, the program's entry and its allocator.
#![allow(unsafe_code)]

mod alloc;
mod clone;
mod entry;
mod exec;
mod identity;
mod ioctl;
mod landlock;
mod ptrace;
mod schedule;
mod seal;
mod seccomp;
mod signals;

pub(crate) use alloc::allow_threads;
pub(crate) use clone::{CloneArgs, Cloned, clone, has_clone3, setns, unshare, user_namespace_of};
pub(crate) use exec::{
    StringArray, close_all_but, close_range_cloexec, close_range_now, execve, exit_now, is_open, open_standard_streams,
};
pub(crate) use identity::*;
pub(crate) use ioctl::*;
pub(crate) use landlock::*;
pub(crate) use ptrace::{detach, interrupt, seccomp_filter, seize, wait_ended, wait_stopped};
pub(crate) use schedule::*;
pub(crate) use seal::seal;
pub(crate) use seccomp::{NEW_LISTENER, WAIT_KILLABLE_RECV, has_filter_flags, load_filter};
pub(crate) use signals::*;

use rustix::io::Errno;

/// The answer of a raw system call.
fn answer(rc: libc::c_long) -> rustix::io::Result<libc::c_long> {
    if rc >= 0 { Ok(rc) } else { Err(last_errno()) }
}

fn last_errno() -> Errno {
    Errno::from_raw_os_error(std::io::Error::last_os_error().raw_os_error().unwrap_or(libc::EIO))
}
