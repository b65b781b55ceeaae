//! Programs that take a container's output: `binary:///path?name=value`. They read it from the pipes themselves.
//! Source: containerd's core/runtime/v2/README.md (Binary logging).

use std::io;
use std::os::fd::OwnedFd;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal, setpgid};
use tokio::io::Interest;
use tokio::sync::oneshot;
use tokio::time::timeout;

use super::target::Uri;
use super::{Owner, pipe};
use crate::reaper::{Exit, Reaper};
use crate::sys;

/// How long it may take until it is ready.
const READY: Duration = Duration::from_secs(10);
/// How long it may take to end by itself, and then once it is told to.
const GRACE: Duration = Duration::from_secs(12);

/// A logging program that runs.
#[derive(Debug)]
pub(crate) struct Logger {
    /// Absent where the kernel gives none; such a logger is told nothing.
    process: Option<OwnedFd>,
    ended: oneshot::Receiver<Exit>,
}

impl Logger {
    /// Starts it, with the pipes as descriptors 3 and 4, waits until it says on 5 that it is ready, and returns the ends
    /// to write to.
    ///
    /// # Errors
    /// It cannot be started, or is not ready in time.
    pub(crate) async fn start(
        uri: &Uri,
        owner: Owner<'_>,
        reaper: &Arc<Reaper>,
    ) -> io::Result<(Logger, OwnedFd, OwnedFd)> {
        let ((stdout, to_stdout), (stderr, to_stderr)) = (pipe(owner)?, pipe(owner)?);
        let (ready, say_ready) = pipe(Owner { uid: 0, gid: 0, ..owner })?;
        let mut command = Command::new(&uri.program);
        command.args(&uri.args);
        command.env("CONTAINER_ID", owner.container).env("CONTAINER_NAMESPACE", owner.namespace);
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        let descriptors = [stdout, stderr, say_ready];
        sys::before_exec(&mut command, move || {
            // What is sent to the shim's group is not meant for it.
            setpgid(None, None)?;
            sys::place(&descriptors)
        });
        let child = command.spawn()?;
        drop(command);
        let pid = child.id() as i32;
        let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let logger = Logger { process, ended: reaper.watch(pid) };
        match timeout(READY, is_ready(ready)).await {
            Ok(Ok(true)) => Ok((logger, to_stdout, to_stderr)),
            Ok(Ok(false)) if !uri.must_be_ready => Ok((logger, to_stdout, to_stderr)),
            outcome => {
                logger.signal(Signal::KILL);
                Err(match outcome {
                    Ok(Err(error)) => error,
                    Ok(Ok(_)) => io::Error::new(io::ErrorKind::BrokenPipe, "has not said that it is ready"),
                    Err(_) => io::Error::new(io::ErrorKind::TimedOut, "is not ready after 10 s"),
                })
            }
        }
    }

    fn signal(&self, signal: Signal) {
        if let Some(process) = &self.process {
            pidfd_send_signal(process, signal).ok();
        }
    }

    /// Waits for its end, which the end of the output brings; else it is told to end.
    pub(crate) async fn finish(mut self) {
        if timeout(GRACE, &mut self.ended).await.is_ok() {
            return;
        }
        self.signal(Signal::TERM);
        if timeout(GRACE, &mut self.ended).await.is_err() {
            self.signal(Signal::KILL);
        }
    }
}

impl Drop for Logger {
    /// The output is over, or never came to be.
    fn drop(&mut self) {
        if self.ended.try_recv().is_err() && !self.ended.is_terminated() {
            self.signal(Signal::TERM);
        }
    }
}

/// Whether a byte comes, and not the end.
async fn is_ready(ready: OwnedFd) -> io::Result<bool> {
    let ready = sys::watch(ready, Interest::READABLE)?;
    loop {
        let mut guard = ready.readable().await?;
        let mut byte = [0; 1];
        if let Ok(read) = guard.try_io(|fd| Ok(rustix::io::read(fd, &mut byte)?)) {
            return read.map(|length| length > 0);
        }
    }
}
