//! Running one hook (config.md, POSIX-platform Hooks): the state on standard input, a time limit, and its last words
//! kept in case it fails. Used on both sides of the clone.

use crate::plan::Hook;
use crate::state::wait_readable;
use crate::sys::{self, CloneArgs, Cloned, StringArray};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::{Errno, write};
use rustix::process::{WaitId, WaitIdOptions, chdir, waitid};
use std::ffi::CStr;

/// How much of a hook's output is kept.
const OUTPUT: u64 = 512;

/// How a hook failed.
#[derive(Debug)]
pub(crate) struct HookFailure {
    pub kind: HookFailureKind,
    pub output: Vec<u8>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum HookFailureKind {
    /// It could not be prepared or executed.
    Spawn(Errno),
    Exited(i32),
    Killed(i32),
    /// Seconds.
    TimedOut(i64),
}

impl HookFailureKind {
    /// The words and the number that cross to the parent.
    pub(crate) fn parts(self) -> (&'static str, i32) {
        match self {
            HookFailureKind::Spawn(errno) => ("cannot be executed", errno.raw_os_error()),
            HookFailureKind::Exited(status) => ("exited with status", status),
            HookFailureKind::Killed(signal) => ("was killed by signal", signal),
            HookFailureKind::TimedOut(seconds) => ("ran longer than its timeout in seconds of", seconds as i32),
        }
    }
}

/// The sentence for [`HookFailureKind::parts`] and the output.
pub(crate) fn describe(what: &str, number: i32, output: &[u8]) -> String {
    let mut text = match what {
        "cannot be executed" => format!("{what}: {}", crate::error::text(Errno::from_raw_os_error(number))),
        _ => format!("{what} {number}"),
    };
    let output = String::from_utf8_lossy(output);
    let output = output.trim();
    if !output.is_empty() {
        text.push_str(&format!(", its last output: {output}"));
    }
    text
}

/// Runs a hook to its end. `state` goes to its standard input; `environment` is for a hook that has none of its own;
/// `directory` is where it runs.
pub(crate) fn run(
    hook: &Hook,
    state: &[u8],
    environment: &StringArray,
    directory: Option<&CStr>,
) -> Result<(), HookFailure> {
    // Files in memory, so that neither side ever waits for the other to read.
    let spawn = |errno| HookFailure { kind: HookFailureKind::Spawn(errno), output: Vec::new() };
    let input = memfd_create(c"state", MemfdFlags::CLOEXEC).map_err(spawn)?;
    let output = memfd_create(c"output", MemfdFlags::CLOEXEC).map_err(spawn)?;
    write_all(&input, state).map_err(spawn)?;
    seek(&input, SeekFrom::Start(0)).map_err(spawn)?;
    let (error_out, error_in) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(spawn)?;
    let args = CloneArgs { exit_signal: libc::SIGCHLD, ..CloneArgs::default() };
    let pidfd = match sys::clone(&args).map_err(spawn)? {
        Cloned::Child { .. } => {
            let errno = execute(hook, environment, directory, &input, &output);
            write(&error_in, &errno.raw_os_error().to_ne_bytes()).ok();
            sys::exit_now(127)
        }
        Cloned::Parent { pidfd, .. } => pidfd,
    };
    drop(error_in);
    let kind = wait(&pidfd, hook.timeout, &error_out);
    kind.map_err(|kind| HookFailure { kind, output: tail(&output) })
}

/// In the new process; returns only on failure.
fn execute(
    hook: &Hook,
    environment: &StringArray,
    directory: Option<&CStr>,
    input: &OwnedFd,
    output: &OwnedFd,
) -> Errno {
    let prepare = || {
        sys::set_signal_mask(0)?;
        rustix::stdio::dup2_stdin(input)?;
        rustix::stdio::dup2_stdout(output)?;
        rustix::stdio::dup2_stderr(output)?;
        sys::close_range_cloexec(3)?;
        directory.map_or(Ok(()), chdir)
    };
    match prepare() {
        Ok(()) => sys::execve(&hook.path, &hook.args, hook.env.as_ref().unwrap_or(environment)),
        Err(errno) => errno,
    }
}

fn wait(pidfd: &OwnedFd, timeout: Option<i64>, error: &OwnedFd) -> Result<(), HookFailureKind> {
    let milliseconds = timeout.map(|seconds| seconds.saturating_mul(1000));
    let in_time = wait_readable(pidfd, milliseconds).unwrap_or(false);
    if !in_time {
        sys::send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
    }
    let ended = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED));
    if !in_time {
        return Err(HookFailureKind::TimedOut(timeout.unwrap_or(0)));
    }
    let mut errno = [0u8; 4];
    if rustix::io::read(error, &mut errno) == Ok(4) {
        return Err(HookFailureKind::Spawn(Errno::from_raw_os_error(i32::from_ne_bytes(errno))));
    }
    let status = ended.map_err(HookFailureKind::Spawn)?;
    match status.and_then(|status| status.exit_status().or_else(|| status.terminating_signal().map(|signal| -signal))) {
        Some(0) => Ok(()),
        Some(signal) if signal < 0 => Err(HookFailureKind::Killed(-signal)),
        status => Err(HookFailureKind::Exited(status.unwrap_or(-1))),
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let written = write(file, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}

/// The end of what the hook printed.
fn tail(output: &OwnedFd) -> Vec<u8> {
    let mut text = vec![0u8; OUTPUT as usize];
    let end = seek(output, SeekFrom::End(0)).unwrap_or(0);
    let read = rustix::io::pread(output, &mut text, end.saturating_sub(OUTPUT)).unwrap_or(0);
    text.truncate(read);
    text
}
