//! Signals: what a container must not inherit, and reading them as data.

use super::answer;
use rustix::fd::{FromRawFd, OwnedFd};
use rustix::io::{Errno, Result};

/// Signals as the kernel counts them: bit n-1 is signal n.
pub(crate) fn set_signal_mask(mask: u64) -> Result<()> {
    // SAFETY: the kernel reads one word and writes none.
    answer(unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const mask, std::ptr::null::<u64>(), 8)
    })
    .map(drop)
}

/// Gives each signal of `ignored` its default action back.
pub(crate) fn reset_ignored_signals(ignored: u64) -> Result<()> {
    (1..=64).filter(|n| ignored & (1 << (n - 1)) != 0).try_for_each(|signal| set_action(signal, libc::SIG_DFL))
}

/// Ignores a signal from now on, and one that is pending.
pub(crate) fn ignore_signal(signal: i32) -> Result<()> {
    set_action(signal, libc::SIG_IGN)
}

/// SIG_DFL or SIG_IGN.
fn set_action(signal: i32, handler: usize) -> Result<()> {
    /// The kernel's struct, not the C library's.
    #[repr(C)]
    #[derive(Default)]
    struct Action {
        handler: usize,
        flags: u64,
        restorer: usize,
        mask: u64,
    }
    let action = Action { handler, ..Action::default() };
    // SAFETY: without a handler no restorer is needed; the kernel reads one struct and writes none.
    answer(unsafe { libc::syscall(libc::SYS_rt_sigaction, signal, &raw const action, std::ptr::null::<u64>(), 8) })
        .map(drop)
}

/// Gives SIGCHLD its default action: a caller that ignores it would have the kernel reap our children.
pub(crate) fn wait_for_children() -> Result<()> {
    reset_ignored_signals(1 << (libc::SIGCHLD - 1))
}

/// Blocks every signal and makes a descriptor to read them from, signalfd(2).
pub(crate) fn signal_descriptor() -> Result<OwnedFd> {
    set_signal_mask(u64::MAX)?;
    let mask = u64::MAX;
    let flags = libc::SFD_CLOEXEC | libc::SFD_NONBLOCK;
    // SAFETY: the kernel reads one word of 8 bytes.
    let fd = answer(unsafe { libc::syscall(libc::SYS_signalfd4, -1, &raw const mask, 8, flags) })?;
    // SAFETY: the kernel made this descriptor for us just now.
    Ok(unsafe { OwnedFd::from_raw_fd(fd as i32) })
}

/// The next pending signal's number, if there is one.
pub(crate) fn read_signal(fd: &OwnedFd) -> Result<Option<i32>> {
    let mut info = [0u8; size_of::<libc::signalfd_siginfo>()];
    match rustix::io::read(fd, &mut info) {
        Ok(length) if length == info.len() => Ok(Some(i32::from_ne_bytes([info[0], info[1], info[2], info[3]]))),
        Ok(_) | Err(Errno::AGAIN | Errno::INTR) => Ok(None),
        Err(errno) => Err(errno),
    }
}

/// pidfd_send_signal(2), any signal number.
pub(crate) fn send_signal(pidfd: rustix::fd::BorrowedFd<'_>, signal: i32) -> Result<()> {
    use rustix::fd::AsRawFd;
    let none = std::ptr::null::<u8>();
    // SAFETY: no siginfo is passed.
    answer(unsafe { libc::syscall(libc::SYS_pidfd_send_signal, pidfd.as_raw_fd(), signal, none, 0) }).map(drop)
}
