//! The process that keeps a pod's namespaces, where one is needed: it waits, and reaps where it is the first of its pid
//! namespace.

use nix::sys::signal::{SigSet, Signal};

/// Waits until it is told to end.
///
/// # Errors
/// One line: it cannot wait.
pub(crate) fn pause() -> Result<(), String> {
    let mut signals = SigSet::empty();
    for signal in [Signal::SIGCHLD, Signal::SIGTERM, Signal::SIGINT] {
        signals.add(signal);
    }
    signals.thread_block().map_err(|error| format!("cannot block signals: {error}"))?;
    loop {
        match signals.wait() {
            Ok(Signal::SIGCHLD) => {
                while rustix::process::wait(rustix::process::WaitOptions::NOHANG).is_ok_and(|it| it.is_some()) {}
            }
            Ok(_) => return Ok(()),
            Err(nix::Error::EINTR) => {}
            Err(error) => return Err(format!("cannot wait for signals: {error}")),
        }
    }
}
