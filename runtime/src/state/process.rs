//! A process that outlives the command which knows it: pid, start time and boot, never a bare pid.

use crate::error::{Context, Error, Result};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, pidfd_open};
use std::sync::OnceLock;

/// The kernel's flag for a process that has not executed a program since it was forked (PF_FORKNOEXEC in proc(5)'s
/// flags word). The container's init carries it until the container is started.
const FORKED_NO_EXEC: u64 = 0x40;
/// PF_EXITING: on its way out already.
const EXITING: u64 = 0x4;

/// What proc_pid_stat(5) says of a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct ProcessStat {
    /// `R`, `S`, `Z` and so on.
    pub state: u8,
    /// Flags word.
    pub flags: u64,
    /// Clock ticks since boot.
    pub start_time: u64,
    /// How many threads are left of it.
    pub threads: u64,
    /// Mask of the first 31 signals that wait for its first thread.
    pub pending: u64,
}

impl ProcessStat {
    /// None: there is no such process.
    pub(crate) fn read(pid: i32) -> Result<Option<ProcessStat>> {
        let mut text = [0u8; 1024];
        let path = format!("/proc/{pid}/stat");
        match read_file(&path, &mut text) {
            Ok(length) => parse(&text[..length])
                .map(Some)
                .ok_or_else(|| Error::Sys { what: format!("read {path}"), errno: Errno::INVAL }),
            Err(Errno::NOENT | Errno::SRCH) => Ok(None),
            Err(errno) => Err(Error::Sys { what: format!("read {path}"), errno }),
        }
    }

    pub(crate) fn has_ended(&self) -> bool {
        matches!(self.state, b'Z' | b'X' | b'x')
    }

    /// It exits, with no other thread to live on, or a signal that it cannot survive is on its way: the kernel makes
    /// every such signal a SIGKILL for each thread.
    fn is_dying(&self) -> bool {
        (self.flags & EXITING != 0 && self.threads <= 1) || self.pending & (1 << (libc::SIGKILL - 1)) != 0
    }

    pub(crate) fn has_executed(&self) -> bool {
        self.flags & FORKED_NO_EXEC == 0
    }
}

/// The name in parentheses may hold anything, so fields are counted from its end.
fn parse(text: &[u8]) -> Option<ProcessStat> {
    let name_end = text.iter().rposition(|byte| *byte == b')')?;
    let rest = std::str::from_utf8(text.get(name_end + 2..)?).ok()?;
    let mut fields = rest.split_ascii_whitespace();
    let state = *fields.next()?.as_bytes().first()?;
    // Fields 9, 20, 22 and 31 of the whole line; the state is field 3.
    let flags = fields.nth(5)?.parse().ok()?;
    let threads = fields.nth(10)?.parse().ok()?;
    let start_time = fields.nth(1)?.parse().ok()?;
    let pending = fields.nth(8)?.parse().ok()?;
    Some(ProcessStat { state, flags, start_time, threads, pending })
}

/// Reads a small file of /proc into `buffer`, in one read.
pub(crate) fn read_file(path: &str, buffer: &mut [u8]) -> rustix::io::Result<usize> {
    let file = openat(CWD, path, OFlags::RDONLY | OFlags::CLOEXEC, Mode::empty())?;
    rustix::io::read(&file, buffer)
}

/// This boot of the machine, 36 characters (random(4)), asked once.
pub(crate) fn boot_id() -> Result<&'static str> {
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id);
    }
    let mut text = [0u8; 64];
    let path = "/proc/sys/kernel/random/boot_id";
    let length = read_file(path, &mut text).context(|| format!("read {path}"))?;
    Ok(ID.get_or_init(|| String::from_utf8_lossy(&text[..length]).trim().to_owned()))
}

/// A process of this boot that was there when it was looked up.
pub(crate) struct Process {
    pub pid: i32,
    pub stat: ProcessStat,
    pidfd: OwnedFd,
}

impl Process {
    /// Opens the process with this pid if it is the one that started then, and has not ended.
    pub(crate) fn open(pid: i32, start_time: u64) -> Result<Option<Process>> {
        let Some(raw) = Pid::from_raw(pid) else { return Ok(None) };
        let pidfd = match pidfd_open(raw, PidfdFlags::empty()) {
            Err(Errno::SRCH | Errno::INVAL) => return Ok(None),
            opened => opened.context(|| format!("pidfd_open of {pid}"))?,
        };
        // Looked at after the descriptor is held, so that it is the same process.
        match ProcessStat::read(pid)? {
            Some(stat) if stat.start_time == start_time => {
                // A first thread that has ended says nothing of the others.
                let ended = stat.has_ended() && wait_readable(&pidfd, Some(0))?;
                Ok((!ended).then_some(Process { pid, stat, pidfd }))
            }
            _ => Ok(None),
        }
    }

    /// The same for who does nothing to it: without a descriptor, where the kernel says at once that it lives.
    pub(crate) fn look(pid: i32, start_time: u64) -> Result<Option<ProcessStat>> {
        match ProcessStat::read(pid)? {
            Some(stat) if stat.start_time != start_time => Ok(None),
            Some(stat) if stat.has_ended() => Ok(Process::open(pid, start_time)?.map(|process| process.stat)),
            stat => Ok(stat),
        }
    }

    pub(crate) fn pidfd(&self) -> &OwnedFd {
        &self.pidfd
    }

    /// Sends a signal; false if the process has ended.
    pub(crate) fn signal(&self, signal: i32) -> Result<bool> {
        match crate::sys::send_signal(rustix::fd::AsFd::as_fd(&self.pidfd), signal) {
            Ok(()) => Ok(true),
            Err(Errno::SRCH) => Ok(false),
            Err(errno) => Err(Error::Sys { what: format!("send signal {signal} to {}", self.pid), errno }),
        }
    }

    /// Whether it is about to end.
    pub(crate) fn is_dying(&self) -> Result<bool> {
        Ok(ProcessStat::read(self.pid)?.is_none_or(|stat| stat.is_dying()))
    }

    /// Waits until the process behind a descriptor has ended.
    pub(crate) fn wait_end_of(pidfd: &OwnedFd) -> Result<()> {
        wait_readable(pidfd, None).map(drop)
    }

    /// Waits until the process has ended, for at most `milliseconds`; false if it has not.
    pub(crate) fn wait_end(&self, milliseconds: i64) -> Result<bool> {
        wait_readable(&self.pidfd, Some(milliseconds))
    }
}

/// Polls one descriptor; true if it became readable in time.
pub(crate) fn wait_readable(fd: &OwnedFd, milliseconds: Option<i64>) -> Result<bool> {
    use rustix::event::{PollFd, PollFlags, Timespec, poll};
    let timeout = milliseconds.map(|ms| Timespec { tv_sec: ms / 1000, tv_nsec: (ms % 1000) * 1_000_000 });
    loop {
        let mut fds = [PollFd::new(fd, PollFlags::IN)];
        match poll(&mut fds, timeout.as_ref()) {
            Err(Errno::INTR) => {}
            done => return done.map(|count| count > 0).context(|| "poll".to_owned()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_look_like_fields() {
        let line =
            b"7 (a) R 1 (b)) S 1 7 7 0 -1 4194368 1 2 3 4 5 6 7 8 20 0 1 0 4711 23 24 25 26 27 28 29 30 256 32 33";
        let stat = parse(line).unwrap();
        assert_eq!((stat.state, stat.threads, stat.start_time, stat.pending), (b'S', 1, 4711, 256));
        assert!(!stat.has_executed() && stat.is_dying());
    }

    #[test]
    fn this_process_has_executed_and_lives() {
        let me = std::process::id() as i32;
        let stat = ProcessStat::read(me).unwrap().unwrap();
        assert!(stat.has_executed() && !stat.has_ended());
        assert!(Process::open(me, stat.start_time).unwrap().is_some());
        assert!(Process::open(me, stat.start_time + 1).unwrap().is_none(), "a reused pid is another process");
    }

    #[test]
    fn a_forked_process_has_not_executed() {
        use crate::sys::{CloneArgs, Cloned, clone, exit_now};
        let args = CloneArgs { exit_signal: libc::SIGCHLD, ..CloneArgs::default() };
        match clone(&args).unwrap() {
            Cloned::Child { .. } => {
                rustix::process::kill_process(rustix::process::getpid(), rustix::process::Signal::STOP).unwrap();
                exit_now(0)
            }
            Cloned::Parent { pid, pidfd, .. } => {
                let stat = ProcessStat::read(pid).unwrap().unwrap();
                assert!(!stat.has_executed());
                crate::sys::send_signal(rustix::fd::AsFd::as_fd(&pidfd), libc::SIGKILL).unwrap();
                rustix::process::waitpid(Pid::from_raw(pid), rustix::process::WaitOptions::empty()).unwrap();
            }
        }
    }
}
