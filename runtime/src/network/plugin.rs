//! Running one plugin (CNI, Section 2): the configuration on standard input, all else in the environment, its result or
//! its error on standard output. What it is told and what its result means stands in `chain.rs`.

use super::attach::PLUGIN_SECONDS;
use crate::error::{Context, Error, Result, bad};
use crate::sys::{self, CloneArgs, Cloned, StringArray};
use rootfs::plan::CText;
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fd::{AsFd, BorrowedFd, OwnedFd};
use rustix::fs::{MemfdFlags, SeekFrom, memfd_create, seek};
use rustix::io::{Errno, FdFlags, fcntl_setfd};
use rustix::pipe::{PipeFlags, pipe_with};
use rustix::process::{Pid, Signal, WaitId, WaitIdOptions, setpgid, waitid};
use serde_json::Value;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// No result is as large.
const MAX_OUTPUT: usize = 1 << 20;
/// How much is shown of what a plugin said that it should not have.
const SHOWN: usize = 300;
/// Where plugins find the programs they call, such as iptables.
const PATH: &str = "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";

/// A call of a plugin.
pub(super) struct Call<'a> {
    pub network: &'a str,
    pub kind: &'a str,
    pub command: &'static str,
    pub id: &'a str,
    /// Empty where there is none any more.
    pub namespace: &'a str,
    pub interface: &'a str,
    /// Where plugins are, with colons between.
    pub path: &'a str,
    /// The lock of the container's network, which is held for as long as the plugin or a program of it runs.
    pub lock: BorrowedFd<'a>,
}

/// The program of a plugin, in the first directory that has it.
pub(super) fn find(network: &str, kind: &str, path: &str) -> Result<PathBuf> {
    let is_program = |file: &PathBuf| {
        std::fs::metadata(file).is_ok_and(|meta| meta.is_file() && meta.permissions().mode() & 0o111 != 0)
    };
    path.split(':').map(|dir| Path::new(dir).join(kind)).find(is_program).ok_or_else(|| {
        bad(format_args!("network {network:?}"), format_args!("plugin {kind:?} is not in {}", path.replace(':', ", ")))
    })
}

impl Call<'_> {
    fn wrong(&self, problem: impl std::fmt::Display) -> Error {
        bad(
            format_args!("network {:?}", self.network),
            format_args!("plugin {:?}, {}: {problem}", self.kind, self.command),
        )
    }

    /// Runs it to its end; what it printed, if that is JSON.
    pub(super) fn run(&self, config: &Value) -> Result<Option<Value>> {
        let program = find(self.network, self.kind, self.path)?;
        let said =
            self.execute(&program, config.to_string().as_bytes()).context(|| format!("run {}", program.display()))?;
        let value = serde_json::from_slice::<Value>(&said.out).ok();
        match said.end {
            End::Exited(0) => Ok(value),
            End::TimedOut => Err(self.wrong(format_args!("ran longer than {PLUGIN_SECONDS} seconds and was killed"))),
            ref end => Err(self.wrong(match value.as_ref().and_then(own_words) {
                Some(words) => words,
                None => format!("{end}, {}", said.shown()),
            })),
        }
    }

    fn execute(&self, program: &Path, config: &[u8]) -> rustix::io::Result<Said> {
        let text = |text: String| CText::new(text).ok_or(Errno::INVAL);
        let environment = [
            PATH.to_owned(),
            format!("CNI_COMMAND={}", self.command),
            format!("CNI_CONTAINERID={}", self.id),
            format!("CNI_NETNS={}", self.namespace),
            format!("CNI_IFNAME={}", self.interface),
            format!("CNI_PATH={}", self.path),
        ];
        let environment = StringArray::new(environment.into_iter().map(text).collect::<rustix::io::Result<_>>()?);
        let program = text(program.to_string_lossy().into_owned())?;
        let args = StringArray::new(vec![program.clone()]);
        let input = memfd_create(c"config", MemfdFlags::CLOEXEC)?;
        write_all(&input, config)?;
        seek(&input, SeekFrom::Start(0))?;
        let (out, out_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let (err, err_in) = pipe_with(PipeFlags::CLOEXEC)?;
        let clone = CloneArgs { exit_signal: libc::SIGCHLD, ..CloneArgs::default() };
        let (pid, pidfd) = match sys::clone(&clone)? {
            Cloned::Child { .. } => {
                let prepare = || {
                    setpgid(None, None)?;
                    sys::set_signal_mask(0)?;
                    rustix::stdio::dup2_stdin(&input)?;
                    rustix::stdio::dup2_stdout(&out_in)?;
                    rustix::stdio::dup2_stderr(&err_in)?;
                    sys::close_range_cloexec(3)?;
                    fcntl_setfd(self.lock, FdFlags::empty())
                };
                let errno = match prepare() {
                    Ok(()) => sys::execve(&program, &args, &environment),
                    Err(errno) => errno,
                };
                let words = format!("cannot be executed: {}", crate::error::text(errno));
                rustix::io::write(&err_in, words.as_bytes()).ok();
                sys::exit_now(127)
            }
            Cloned::Parent { pid, pidfd, .. } => (Pid::from_raw(pid).ok_or(Errno::SRCH)?, pidfd),
        };
        drop((out_in, err_in, input));
        // Whoever of the two is first: the child may be gone already, or another program.
        setpgid(Some(pid), Some(pid)).ok();
        watch(pid, &pidfd, &out, &err)
    }
}

/// Reads what it says until it has ended, or its time has; it has ended then, whatever comes between.
fn watch(pid: Pid, pidfd: &OwnedFd, out: &OwnedFd, err: &OwnedFd) -> rustix::io::Result<Said> {
    let mut said = Said { end: End::TimedOut, out: Vec::new(), err: Vec::new() };
    let heard = listen(pidfd, out, err, &mut said);
    if !matches!(heard, Ok(true)) {
        // With all that it has started.
        rustix::process::kill_process_group(pid, Signal::KILL).ok();
    }
    let status = rustix::io::retry_on_intr(|| waitid(WaitId::PidFd(pidfd.as_fd()), WaitIdOptions::EXITED))?;
    if heard? {
        let signal = status.as_ref().and_then(|status| status.terminating_signal());
        let code = status.as_ref().and_then(|status| status.exit_status()).unwrap_or(-1);
        said.end = signal.map_or(End::Exited(code), End::Killed);
    }
    Ok(said)
}

/// Whether it has ended in its time.
fn listen(pidfd: &OwnedFd, out: &OwnedFd, err: &OwnedFd, said: &mut Said) -> rustix::io::Result<bool> {
    for fd in [out, err] {
        rustix::io::ioctl_fionbio(fd, true)?;
    }
    let limit = Instant::now() + Duration::from_secs(PLUGIN_SECONDS);
    let (mut out_open, mut err_open, mut ended) = (true, true, false);
    while !ended && Instant::now() < limit {
        let left = limit.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: i64::from(left.subsec_nanos()) };
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        // A pipe that nobody writes to any more is always ready.
        fds.extend(out_open.then(|| PollFd::new(out, PollFlags::IN)));
        fds.extend(err_open.then(|| PollFd::new(err, PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Err(Errno::INTR) => continue,
            done => done?,
        };
        // Before its pipes are read for the last time.
        ended = !fds[0].revents().is_empty();
        out_open = out_open && hear(out, &mut said.out)?;
        err_open = err_open && hear(err, &mut said.err)?;
    }
    Ok(ended)
}

/// Takes what is in a pipe, and keeps as much as anybody wants to read; false at its end.
fn hear(pipe: &OwnedFd, into: &mut Vec<u8>) -> rustix::io::Result<bool> {
    let mut buffer = vec![0u8; 64 << 10];
    // Not for ever: one that never stops has its time limit.
    for _ in 0..32 {
        match rustix::io::read(pipe, &mut buffer) {
            Ok(0) => return Ok(false),
            Ok(read) => into.extend_from_slice(&buffer[..read.min((MAX_OUTPUT + 1).saturating_sub(into.len()))]),
            Err(Errno::AGAIN) => return Ok(true),
            Err(Errno::INTR) => {}
            Err(errno) => return Err(errno),
        }
    }
    Ok(true)
}

/// How a plugin ended, and what it said until then.
struct Said {
    end: End,
    out: Vec<u8>,
    err: Vec<u8>,
}

enum End {
    Exited(i32),
    Killed(i32),
    TimedOut,
}

impl std::fmt::Display for End {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            End::Exited(status) => write!(f, "exited with status {status}"),
            End::Killed(signal) => write!(f, "was killed by signal {signal}"),
            End::TimedOut => f.write_str("ran too long"),
        }
    }
}

impl Said {
    /// The end of what a plugin said that gave no error of the form that CNI wants.
    fn shown(&self) -> String {
        let all = [&self.err[..], &self.out[..]].into_iter().find(|text| !text.trim_ascii().is_empty());
        match all {
            Some(text) => format!(
                "its last output: {}",
                line(&String::from_utf8_lossy(&text[text.len().saturating_sub(SHOWN)..]))
            ),
            None => "without a word".to_owned(),
        }
    }
}

/// The error of a plugin (CNI, Section 5).
fn own_words(value: &Value) -> Option<String> {
    let text = |name: &str| value.get(name).and_then(Value::as_str).map(line).filter(|text| !text.is_empty());
    let code = value.get("code").and_then(Value::as_u64);
    let (message, details) = (text("msg"), text("details"));
    let code = code.map(|code| format!("error {code}"));
    let parts: Vec<String> = [code, message, details].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(": "))
}

/// One line, of a length that fits beside others.
fn line(text: &str) -> String {
    let text = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match text.char_indices().nth(SHOWN) {
        Some((at, _)) => format!("{}…", &text[..at]),
        None => text,
    }
}

fn write_all(file: &OwnedFd, mut bytes: &[u8]) -> rustix::io::Result<()> {
    while !bytes.is_empty() {
        let written = rustix::io::write(file, bytes)?;
        bytes = &bytes[written..];
    }
    Ok(())
}
