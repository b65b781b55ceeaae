//! Runs a command with one fault: a system call of it, or of what it starts, that fails or does not return.
//!
//! Calls are counted by process, in the order in which processes appear: 0 is the command itself, 1 its first child.
//! That of a child ends with its execve(2), as what it executes is not under test.

use std::collections::HashMap;
use std::fmt;
use std::process::Command;

use nix::errno::Errno;
use nix::libc;
use nix::sys::ptrace::{self, Options};
use nix::sys::signal::{Signal, kill};
use nix::sys::wait::{WaitPidFlag, WaitStatus, waitpid};
use nix::unistd::Pid;

/// What happens at a call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Fault {
    /// It does nothing and returns this error.
    Error(Errno),
    /// The same, and so does every later call of that number by that process.
    Lasting(Errno),
    /// The process is killed as it makes the call.
    Kill,
}

/// Where it happens.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Point {
    /// Which process.
    pub process: usize,
    /// Which of its calls, the first is 0.
    pub call: usize,
}

/// A call that was made.
#[derive(Debug, Clone, Copy)]
pub struct Call {
    /// When: in which process, as which of its calls.
    pub point: Point,
    /// Its number in linux/unistd.h.
    pub number: i64,
}

/// How the command ended, and what happened on the way.
#[derive(Debug)]
pub struct Traced {
    /// Of the command's own process.
    pub end: End,
    /// Every call, in order.
    pub calls: Vec<Call>,
    /// Whether the point was reached.
    pub hit: bool,
}

/// How a process ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum End {
    /// With this exit code.
    Exited(i32),
    /// By this signal.
    Signaled(Signal),
}

impl fmt::Display for End {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            End::Exited(code) => write!(f, "exit code {code}"),
            End::Signaled(signal) => write!(f, "{signal}"),
        }
    }
}

const ALL: Options = Options::PTRACE_O_TRACESYSGOOD
    .union(Options::PTRACE_O_TRACECLONE)
    .union(Options::PTRACE_O_TRACEFORK)
    .union(Options::PTRACE_O_TRACEVFORK)
    .union(Options::PTRACE_O_TRACEEXEC);

/// Runs `command`; with process 1 being `also`, where that is there already. What it has started and left goes on
/// untraced when the calling process ends, which has to have no other children.
///
/// # Errors
/// The kernel does not let it be traced.
pub fn run(command: &mut Command, also: Option<i32>, fault: Option<(Point, Fault)>) -> nix::Result<Traced> {
    let main =
        crate::sys::spawn_stopped(command).map_err(|error| Errno::from_raw(error.raw_os_error().unwrap_or(0)))?;
    let main = Pid::from_raw(main);
    waitpid(main, Some(WaitPidFlag::WUNTRACED))?;
    // Seized rather than attached: nothing is left stopped when the tracer ends.
    ptrace::seize(main, ALL)?;
    let mut tracer = Tracer { processes: HashMap::new(), order: 0, fault, calls: Vec::new(), hit: false, lasts: None };
    tracer.meet(main);
    if let Some(pid) = also.map(Pid::from_raw) {
        ptrace::seize(pid, ALL)?;
        ptrace::interrupt(pid)?;
        tracer.meet(pid);
    }
    kill(main, Signal::SIGCONT)?;
    loop {
        let status = waitpid(None, Some(WaitPidFlag::__WALL))?;
        let end = match status {
            WaitStatus::Exited(pid, code) if pid == main => End::Exited(code),
            WaitStatus::Signaled(pid, signal, _) if pid == main => End::Signaled(signal),
            // One that has been killed meanwhile is no more there to be told anything.
            other => match tracer.stopped(other) {
                Ok(()) | Err(Errno::ESRCH) => continue,
                Err(errno) => return Err(errno),
            },
        };
        return Ok(Traced { end, calls: tracer.calls, hit: tracer.hit });
    }
}

#[derive(Debug, Default)]
struct Process {
    number: usize,
    calls: usize,
    /// It is past what executes the command.
    counts: bool,
    /// It executes something else by now.
    done: bool,
    /// Is in a call.
    inside: bool,
    /// What that shall return.
    pending: Option<Errno>,
}

struct Tracer {
    processes: HashMap<Pid, Process>,
    order: usize,
    fault: Option<(Point, Fault)>,
    calls: Vec<Call>,
    hit: bool,
    /// The process and the number of the calls that fail from now on.
    lasts: Option<(usize, i64)>,
}

impl Tracer {
    fn meet(&mut self, pid: Pid) {
        let (number, counts) = (self.order, self.order > 0);
        self.processes.insert(pid, Process { number, counts, ..Process::default() });
        self.order += 1;
    }

    fn stopped(&mut self, status: WaitStatus) -> nix::Result<()> {
        match status {
            WaitStatus::PtraceSyscall(pid) => {
                self.in_call(pid)?;
                ptrace::syscall(pid, None)
            }
            WaitStatus::PtraceEvent(pid, _, event) => {
                if !self.processes.contains_key(&pid) {
                    self.meet(pid);
                }
                if event == libc::PTRACE_EVENT_EXEC
                    && let Some(process) = self.processes.get_mut(&pid)
                {
                    process.done = process.number > 0;
                    process.counts = true;
                }
                ptrace::syscall(pid, None)
            }
            WaitStatus::Stopped(pid, signal) => ptrace::syscall(pid, signal),
            _ => Ok(()),
        }
    }

    fn in_call(&mut self, pid: Pid) -> nix::Result<()> {
        let Some(process) = self.processes.get_mut(&pid) else { return Ok(()) };
        // A process is met outside of calls, and stops twice in each.
        process.inside = !process.inside;
        if !process.inside {
            if let Some(errno) = process.pending.take() {
                registers::set_result(pid, -(errno as i64))?;
            }
            return Ok(());
        }
        if process.done || !process.counts {
            return Ok(());
        }
        let point = Point { process: process.number, call: process.calls };
        process.calls += 1;
        let number = registers::call(pid)?;
        self.calls.push(Call { point, number });
        match self.fault {
            Some((at, Fault::Kill)) if at == point => {
                self.hit = true;
                kill(pid, Signal::SIGKILL)
            }
            Some((at, Fault::Error(errno) | Fault::Lasting(errno)))
                if at == point || self.lasts == Some((process.number, number)) =>
            {
                if matches!(self.fault, Some((_, Fault::Lasting(_)))) {
                    self.lasts = Some((process.number, number));
                }
                self.hit = true;
                process.pending = Some(errno);
                registers::skip(pid)
            }
            _ => Ok(()),
        }
    }
}

#[cfg(target_arch = "x86_64")]
mod registers {
    use nix::sys::ptrace::{getregs, setregs};
    use nix::unistd::Pid;

    /// The number of the call that it is about to make.
    pub(super) fn call(pid: Pid) -> nix::Result<i64> {
        Ok(getregs(pid)?.orig_rax as i64)
    }

    /// Makes it one that does not exist.
    pub(super) fn skip(pid: Pid) -> nix::Result<()> {
        let mut registers = getregs(pid)?;
        registers.orig_rax = u64::MAX;
        setregs(pid, registers)
    }

    pub(super) fn set_result(pid: Pid, result: i64) -> nix::Result<()> {
        let mut registers = getregs(pid)?;
        registers.rax = result as u64;
        setregs(pid, registers)
    }
}

#[cfg(not(target_arch = "x86_64"))]
mod registers {
    use nix::errno::Errno;
    use nix::unistd::Pid;

    pub(super) fn call(_: Pid) -> nix::Result<i64> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn skip(_: Pid) -> nix::Result<()> {
        Err(Errno::ENOSYS)
    }

    pub(super) fn set_result(_: Pid, _: i64) -> nix::Result<()> {
        Err(Errno::ENOSYS)
    }
}
