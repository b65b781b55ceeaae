//! The OCI runtime, by its command line: each call with a deadline, its errors from its log.
//! Source: the command line of runc, as containerd's go-runc uses it.

use std::ffi::OsString;
use std::fs;
use std::io::{Read, Seek, SeekFrom, Write};
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::fs::{MemfdFlags, memfd_create};
use rustix::process::{Pid, PidfdFlags, Signal, kill_process, pidfd_open, set_parent_process_death_signal};
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::mounts::Mounts;
use crate::options::{DEFAULT_ROOT, Options};
use crate::reaper::Reaper;
use crate::stdio::Ends;
use crate::sys;

/// How long a call may take when nothing else is said: a container with slow hooks, or a systemd that is busy.
const DEADLINE: Duration = Duration::from_secs(120);
/// In seconds, for those who know better: from the environment of containerd.
const DEADLINE_VARIABLE: &str = "PROA_SHIM_RUNTIME_TIMEOUT";
/// How long a call may take to end once it has been killed.
const GRACE: Duration = Duration::from_secs(5);
/// How much is told of an error, in characters.
const LONGEST: usize = 8192;
/// How much of an answer is read.
const MOST: u64 = 4 << 20;

/// The runtime of one container.
#[derive(Debug)]
pub(crate) struct Runtime {
    program: PathBuf,
    root: PathBuf,
    bundle: PathBuf,
    systemd_cgroup: bool,
    reaper: Arc<Reaper>,
    deadline: Duration,
    /// Counts calls, each of which has a log of its own: several may be under way.
    calls: AtomicU64,
}

/// What goes with a call.
#[derive(Default)]
pub(crate) struct With<'a> {
    /// For standard input.
    pub(crate) input: Option<&'a [u8]>,
    /// Standard input, output and error, instead.
    pub(crate) streams: Option<Ends>,
    /// To be made before.
    pub(crate) mounts: Option<Mounts>,
}

impl Runtime {
    /// The runtime that the options name, for the containers of a namespace; proa where they name none.
    pub(crate) fn new(options: &Options, namespace: &str, bundle: &Path, reaper: Arc<Reaper>) -> Runtime {
        let root = if options.root.is_empty() { DEFAULT_ROOT } else { &options.root };
        Runtime {
            program: program(&options.binary_name),
            root: Path::new(root).join(namespace),
            bundle: bundle.to_owned(),
            systemd_cgroup: options.systemd_cgroup,
            reaper,
            deadline: deadline(),
            calls: AtomicU64::new(0),
        }
    }

    /// Calls the runtime and returns what it wrote to its standard output.
    ///
    /// # Errors
    /// It cannot be started, says no, or has not ended at its deadline and was killed.
    pub(crate) async fn call(&self, args: &[OsString], mut with: With<'_>) -> Result<Vec<u8>> {
        let name = args.first().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let failed = |what: &str| Error::failed(format!("{} {name}: {what}", self.program.display()));
        let log = Log(self.bundle.join(format!("log-{}.json", self.calls.fetch_add(1, Ordering::Relaxed))));
        let (mut output, mut complaints) =
            (memory().map_err(failed("memfd_create"))?, memory().map_err(failed("memfd_create"))?);

        let mut command = Command::new(&self.program);
        command.arg("--root").arg(&self.root).arg("--log").arg(&log.0).args(["--log-format", "json"]);
        if self.systemd_cgroup {
            command.arg("--systemd-cgroup");
        }
        command.args(args).current_dir(&self.bundle).env_remove("NOTIFY_SOCKET");
        match with.streams.take() {
            Some([stdin, stdout, stderr]) => command.stdin(stdin).stdout(stdout).stderr(stderr),
            None => {
                let stdin = with.input.map(|text| memory_of(text).map(Stdio::from)).transpose();
                let copy = |file: &fs::File| file.try_clone().map(Stdio::from);
                command.stdin(stdin.map_err(failed("memfd_create"))?.unwrap_or_else(Stdio::null));
                command.stdout(copy(&output).map_err(failed("dup"))?);
                command.stderr(copy(&complaints).map_err(failed("dup"))?)
            }
        };
        let mounts = with.mounts;
        let mut why = complaints.try_clone().map_err(failed("dup"))?;
        let mut complain = complaints.try_clone().map_err(failed("dup"))?;
        sys::before_exec(&mut command, move || {
            // A call that nobody waits for any more would go on behind the back of who cleans up.
            set_parent_process_death_signal(Some(Signal::KILL))?;
            // However long it takes: nobody waits for it but the deadline.
            mounts.as_ref().map_or(Ok(()), Mounts::make).map_err(|(what, error)| {
                write!(why, "{what}: ").ok();
                error
            })
        });
        let tell = |error| {
            match complain.stream_position() {
                Ok(0) => write!(complain, "{}: {error}", self.program.display()),
                // A mount has been named already.
                _ => write!(complain, "{error}"),
            }
            .ok();
        };
        let pid = sys::fork_exec(&mut command, tell).map_err(failed("fork"))?;
        drop(command);
        let ended = self.reaper.watch(pid);
        let Ok(exit) = timeout(self.deadline, ended).await else {
            self.kill(pid).await;
            return Err(late(&self.program, &name, self.deadline));
        };
        match exit.map_or(255, |exit| exit.status) {
            0 => Ok(bytes_of(&mut output)),
            // As shells have it: a program that exits with 137 by itself is one that was killed too.
            status @ 129..=192 => {
                let signal = status - 128;
                Err(Error::Killed(format!("{} {name} was ended by signal {signal}", self.program.display())))
            }
            status => {
                let said = last_error(&log.0).unwrap_or_else(|| text_of(&mut complaints));
                let said = said.trim().chars().take(LONGEST).collect::<String>();
                Err(match said.is_empty() {
                    true => Error::Failed(format!("{} {name}: exit status {status}", self.program.display())),
                    false => classify(&name, said),
                })
            }
        }
    }

    /// Ends a call, which the reaper has been told of.
    async fn kill(&self, pid: i32) {
        let Some(id) = Pid::from_raw(pid) else { return };
        // It is a child that was not waited for: the pid is its own.
        kill_process(id, Signal::KILL).ok();
        if timeout(GRACE, self.reaper.watch(pid)).await.is_err() {
            log::error!("{} with pid {pid} does not end, though it was killed", self.program.display());
        }
    }

    /// The runtime's program.
    pub(crate) fn program(&self) -> &Path {
        &self.program
    }

    /// Where children are waited for.
    pub(crate) fn reaper(&self) -> &Arc<Reaper> {
        &self.reaper
    }
}

/// Calls a runtime where no shim serves, `what` being the call's words in errors, and returns what it wrote to its standard
/// output.
///
/// # Errors
/// It cannot be started, says no, or has not ended at its deadline and was killed.
pub(crate) fn call_alone(mut command: Command, what: &str) -> Result<Vec<u8>> {
    let program = PathBuf::from(command.get_program());
    let failed = |step: &str| Error::failed(format!("{} {what}: {step}", program.display()));
    let (mut output, mut complaints) =
        (memory().map_err(failed("memfd_create"))?, memory().map_err(failed("memfd_create"))?);
    command.stdin(Stdio::null());
    command.stdout(output.try_clone().map_err(failed("dup"))?).stderr(complaints.try_clone().map_err(failed("dup"))?);
    // containerd kills who calls it when its own time is over, and asks again.
    sys::before_exec(&mut command, || Ok(set_parent_process_death_signal(Some(Signal::KILL))?));
    let mut child = command.spawn().map_err(Error::failed(program.display()))?;
    let limit = deadline();
    let in_time = ends_within(Pid::from_child(&child), limit).map_err(failed("pidfd"));
    if !matches!(in_time, Ok(true)) {
        // Not waited for: where it does not end now, the kernel is at fault, and nobody is to hang for that.
        child.kill().map_err(failed("kill"))?;
        return Err(in_time.err().unwrap_or_else(|| late(&program, what, limit)));
    }
    let status = child.wait().map_err(failed("wait"))?;
    if status.success() {
        return Ok(bytes_of(&mut output));
    }
    if let Some(signal) = status.signal() {
        return Err(Error::Killed(format!("{} {what} was ended by signal {signal}", program.display())));
    }
    let said = text_of(&mut complaints).trim().chars().take(LONGEST).collect::<String>();
    let why = if said.is_empty() { status.to_string() } else { said };
    Err(Error::Failed(format!("{} {what}: {why}", program.display())))
}

/// Whether a child, which nobody has waited for, ends in time. It stays a zombie.
fn ends_within(pid: Pid, limit: Duration) -> std::io::Result<bool> {
    let process = pidfd_open(pid, PidfdFlags::empty())?;
    let end = Instant::now() + limit;
    loop {
        let left = Timespec::try_from(end.saturating_duration_since(Instant::now())).ok();
        match poll(&mut [PollFd::new(&process, PollFlags::IN)], left.as_ref()) {
            Err(rustix::io::Errno::INTR) => {}
            ended => return Ok(ended? > 0),
        }
    }
}

/// How long a call of a runtime may take: at most a day.
fn deadline() -> Duration {
    let Ok(text) = std::env::var(DEADLINE_VARIABLE) else { return DEADLINE };
    match text.parse() {
        Ok(seconds @ 1..=86_400) => Duration::from_secs(seconds),
        _ => {
            log::warn!("{DEADLINE_VARIABLE}: {text:?} is no number of seconds from 1 to 86400");
            DEADLINE
        }
    }
}

fn late(program: &Path, what: &str, limit: Duration) -> Error {
    Error::Deadline(format!("{} {what} has not ended in {} s", program.display(), limit.as_secs()))
}

/// What a user names, else the proa that was installed with this shim, else the one on the search path.
pub(crate) fn program(name: &str) -> PathBuf {
    if !name.is_empty() {
        return name.into();
    }
    let beside = std::env::current_exe().ok().and_then(|shim| Some(shim.parent()?.join("proa")));
    beside.filter(|path| path.exists()).unwrap_or_else(|| "proa".into())
}

fn memory() -> std::io::Result<fs::File> {
    Ok(memfd_create("runtime", MemfdFlags::CLOEXEC)?.into())
}

fn memory_of(text: &[u8]) -> std::io::Result<fs::File> {
    let mut file = memory()?;
    file.write_all(text)?;
    file.seek(SeekFrom::Start(0))?;
    Ok(file)
}

fn bytes_of(file: &mut fs::File) -> Vec<u8> {
    let mut bytes = Vec::new();
    if file.seek(SeekFrom::Start(0)).is_ok() {
        file.take(MOST).read_to_end(&mut bytes).ok();
    }
    bytes
}

fn text_of(file: &mut fs::File) -> String {
    String::from_utf8_lossy(&bytes_of(file)).into_owned()
}

/// Removed when dropped.
struct Log(PathBuf);

impl Drop for Log {
    fn drop(&mut self) {
        fs::remove_file(&self.0).ok();
    }
}

/// The last error that was logged.
fn last_error(log: &Path) -> Option<String> {
    let file = fs::File::open(log).ok()?;
    let mut text = Vec::new();
    file.take(MOST).read_to_end(&mut text).ok()?;
    let text = String::from_utf8_lossy(&text);
    let mut errors = text.lines().rev().filter_map(|line| {
        let entry: serde_json::Value = serde_json::from_str(line).ok()?;
        let level = entry.get("level")?.as_str()?;
        (level == "error" || level == "fatal").then(|| entry.get("msg")?.as_str().map(str::to_owned))?
    });
    errors.next()
}

/// What the words of runtimes mean: runc's, and those that others took over.
fn classify(command: &str, said: String) -> Error {
    const GONE: [&str; 4] = ["does not exist", "container not running", "process already finished", "no such process"];
    let lower = said.to_lowercase();
    // A missing file of a bundle, or a missing program, is no missing container.
    let gone = GONE.iter().any(|words| lower.contains(words)) && !lower.contains("no such file");
    // The words before it are containerd's own shim's: engines look for them.
    if gone { Error::NotFound(said) } else { Error::Failed(format!("OCI runtime {command} failed: {said}")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_of_runtimes() {
        for gone in ["container does not exist", "container not running", "os: process already finished"] {
            assert!(matches!(classify("kill", gone.into()), Error::NotFound(_)), "{gone}");
        }
        let failed = classify("create", "exec: \"x\": stat x: no such file or directory".into());
        assert!(matches!(failed, Error::Failed(said) if said.starts_with("OCI runtime create failed: exec")));
    }

    #[test]
    fn the_last_error_counts() {
        let log = std::env::temp_dir().join(format!("shim-log-{}", std::process::id()));
        let errors = "{\"level\":\"error\",\"msg\":\"first\"}\n{\"level\":\"error\",\"msg\":\"last\"}\n";
        fs::write(&log, format!("{errors}{{\"level\":\"info\",\"msg\":\"hm\"}}\nno json\n")).unwrap();
        assert_eq!(last_error(&log).as_deref(), Some("last"));
        fs::write(&log, "").unwrap();
        assert_eq!(last_error(&log), None);
        fs::remove_file(&log).unwrap();
    }
}
