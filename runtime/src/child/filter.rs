//! Loading the seccomp filter, and what has to happen around it.
//!
//! With no_new_privs the filter is loaded last of all: only execve(2) comes after it. Without, the kernel wants
//! CAP_SYS_ADMIN, which nobody may keep who waits to be started; and who listens is told before create is done. So in
//! these two cases it is loaded before the process says that it is ready. From then on the process makes these calls, as
//! little as there can be, and a profile has to let them pass: capset, read, write, close; accept4 for the start of an
//! init; what startContainer hooks need; rt_sigaction, rt_sigprocmask, execve.

use super::{Result, property};
use crate::plan::Process;
use crate::sync::{Channel, Item, Signal};
use crate::sys;
use rustix::fd::AsRawFd;
use rustix::io::Errno;

const CAP_SYS_ADMIN: u64 = 1 << 21;

/// Whether the filter cannot wait for execve.
pub(super) fn is_early(process: &Process) -> bool {
    process.seccomp.as_ref().is_some_and(|filter| !process.no_new_privileges || filter.listener.is_some())
}

/// Capabilities that the process must have until then, beyond its own.
pub(super) fn borrowed_capabilities(process: &Process) -> u64 {
    if process.seccomp.is_some() && !process.no_new_privileges { CAP_SYS_ADMIN } else { 0 }
}

/// Loads it, if it is one that cannot wait, and gives back what was needed for it.
pub(crate) fn load_early(process: &Process, preserve_fds: u32, channel: &Channel) -> Result<()> {
    let Some(filter) = process.seccomp.as_ref().filter(|_| is_early(process)) else { return Ok(()) };
    // Older profiles do not know the call, and to do the same one by one takes long.
    property("mark descriptors to be closed", sys::close_range_cloexec(3 + preserve_fds))?;
    channel.use_read_and_write();
    let listener = property("linux.seccomp: load the filter", sys::load_filter(&filter.program, filter.flags))?;
    if let Some(listener) = listener {
        property("linux.seccomp: tell of the listener", channel.send_listener(listener.as_raw_fd()))?;
        if !channel.expect(Signal::ListenerTaken) {
            sys::exit_now(1);
        }
        // Whoever listens is the only one then, so that the kernel knows when nobody does.
        drop(listener);
    }
    if borrowed_capabilities(process) != 0 {
        let sets = &process.capabilities;
        let dropped = sys::set_capabilities(sets.effective.0, sets.permitted.0, sets.inheritable.0);
        property("process.capabilities: under the filter of linux.seccomp", dropped)?;
    }
    Ok(())
}

/// Loads it, if that was not done before. Only execve may follow.
pub(super) fn load_late(process: &Process, channel: &Channel) -> Result<()> {
    let Some(filter) = process.seccomp.as_ref().filter(|_| !is_early(process)) else { return Ok(()) };
    channel.use_read_and_write();
    match sys::load_filter(&filter.program, filter.flags) {
        Ok(_) => Ok(()),
        Err(errno) => Err(Item::Property.failure("linux.seccomp: load the filter", errno)),
    }
}

/// Why the capabilities could not be set.
pub(super) fn capabilities_failed(process: &Process, errno: Errno) -> crate::sync::Failure {
    let what = match borrowed_capabilities(process) & !process.capabilities.permitted.0 {
        0 => "process.capabilities",
        _ => "linux.seccomp without process.noNewPrivileges needs CAP_SYS_ADMIN",
    };
    Item::Property.failure(what, errno)
}
