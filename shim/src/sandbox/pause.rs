//! The process that keeps a pod's namespaces, where one is needed: it waits, and reaps where it is the first of its pid
//! namespace.

use std::os::fd::AsFd;

use nix::errno::Errno;
use nix::poll::{PollFd, PollFlags, PollTimeout, poll};
use nix::sys::signal::{SigSet, Signal};
use nix::sys::signalfd::SignalFd;
use rustix::process::{WaitOptions, wait};

/// Waits until it is told to end, or the shim has: it holds the other end of standard input.
///
/// # Errors
/// One line: it cannot wait.
pub(crate) fn pause() -> Result<(), String> {
    let failed = |errno: Errno| format!("cannot wait for signals: {errno}");
    let mut wanted = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        wanted.add(signal);
    }
    wanted.thread_block().map_err(failed)?;
    let signals = SignalFd::new(&wanted).map_err(failed)?;
    let stdin = std::io::stdin();
    loop {
        let mut waited =
            [PollFd::new(stdin.as_fd(), PollFlags::empty()), PollFd::new(signals.as_fd(), PollFlags::POLLIN)];
        match poll(&mut waited, PollTimeout::NONE) {
            Ok(_) | Err(Errno::EINTR) => {}
            Err(errno) => return Err(failed(errno)),
        }
        if waited[0].any().unwrap_or(true) {
            return Ok(());
        }
        if waited[1].any().unwrap_or(false) {
            match signals.read_signal().map_err(failed)?.map(|info| info.ssi_signo as i32) {
                Some(libc::SIGCHLD) => while wait(WaitOptions::NOHANG).is_ok_and(|child| child.is_some()) {},
                _ => return Ok(()),
            }
        }
    }
}
