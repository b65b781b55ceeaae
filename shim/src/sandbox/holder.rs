//! Who keeps a pod's namespaces: a process in them, or descriptors of this shim's.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::AsRawFd;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use nix::sched::{CloneFlags, setns, unshare};
use rustix::process::{Pid, PidfdFlags, Signal, pidfd_open, pidfd_send_signal};
use serde_json::{Value, json};
use tokio::sync::oneshot;

use super::config::Config;
use crate::error::{Error, Result};
use crate::reaper::{Exit, Reaper};
use crate::sys;

/// See the module. The namespaces are let go when it is dropped.
pub(crate) struct Holder {
    pid: i32,
    process: Option<std::os::fd::OwnedFd>,
    ended: Option<oneshot::Receiver<Exit>>,
    /// By their names in the specification.
    namespaces: Vec<(&'static str, File)>,
    /// The process ends when this is closed: it never outlives the shim.
    _alive: io::PipeWriter,
}

impl Holder {
    /// Makes the namespaces, with the hostname and the sysctls in them; with `own_pids` a pid namespace too.
    ///
    /// # Errors
    /// What cannot be made or set.
    pub(crate) async fn start(config: &Config, own_pids: bool, netns: &str, reaper: &Arc<Reaper>) -> Result<Holder> {
        let failed = |what: &str| Error::failed(format!("sandbox: {what}"));
        let (mut said, say) = io::pipe().map_err(failed("pipe"))?;
        let program = std::env::current_exe().map_err(failed("own program"))?;
        let mut command = Command::new(program);
        let (watched, alive) = io::pipe().map_err(failed("pipe"))?;
        command.arg("pause").stdin(watched).stdout(Stdio::null()).stderr(Stdio::null()).env_clear();
        command.current_dir("/");
        let (config, netns) = (config.clone(), netns.to_owned());
        let wanted = config.clone();
        let words = say.try_clone().map_err(failed("pipe"))?;
        sys::before_exec(&mut command, move || enter(&wanted, own_pids, &netns, &words));
        let expecting = reaper.expect();
        let started = command.spawn();
        drop(command);
        drop(say);
        let mut text = String::new();
        // It ends with the exec, or with the process.
        said.read_to_string(&mut text).map_err(failed("pipe"))?;
        let child = started.map_err(|error| Error::Failed(format!("sandbox: {text}: {error}")))?;
        // With a pid namespace the first process is its parent, and has ended.
        let pid = if own_pids { text.trim().parse().unwrap_or(0) } else { child.id() as i32 };
        if pid == 0 {
            return Err(Error::Failed(format!("sandbox: {text}")));
        }
        if own_pids {
            // Only then is the process this shim's own child, which it can wait for.
            reaper.watch(child.id() as i32).await.ok();
        }
        let ended = reaper.watch(pid);
        drop(expecting);
        let process = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        let mut holder = Holder { pid, process, ended: Some(ended), namespaces: Vec::new(), _alive: alive };
        let kinds = [("ipc", !config.host_ipc), ("uts", !config.host_network), ("pid", own_pids)];
        for (kind, _) in kinds.into_iter().filter(|(_, own)| *own) {
            let path = format!("/proc/{pid}/ns/{kind}");
            holder.namespaces.push((kind, File::open(&path).map_err(failed(&path))?));
        }
        Ok(holder)
    }

    /// Of the process; 0 when there is none.
    pub(crate) fn pid(&self) -> i32 {
        self.pid
    }

    /// Tells when the process ends that somebody may wait for.
    pub(crate) fn ended(&mut self) -> Option<oneshot::Receiver<Exit>> {
        self.ended.take()
    }

    /// From now on the namespaces are this shim's descriptors alone.
    pub(crate) async fn end_process(&mut self) {
        self.kill();
        if let Some(ended) = self.ended.take() {
            ended.await.ok();
        }
        self.pid = 0;
    }

    fn kill(&mut self) {
        if let Some(process) = self.process.take() {
            pidfd_send_signal(process, Signal::KILL).ok();
        }
    }

    /// As `linux.namespaces` of the specification. Paths through this process, as long as it lives.
    pub(crate) fn namespaces(&self, netns: &str) -> Vec<Value> {
        let shim = std::process::id();
        let own = self.namespaces.iter().map(|(kind, file)| {
            let path = match self.pid {
                0 => format!("/proc/{shim}/fd/{}", file.as_raw_fd()),
                pid => format!("/proc/{pid}/ns/{kind}"),
            };
            json!({ "type": kind, "path": path })
        });
        let network = (!netns.is_empty()).then(|| json!({ "type": "network", "path": netns }));
        own.chain(network).collect()
    }
}

impl Drop for Holder {
    fn drop(&mut self) {
        self.kill();
    }
}

/// In the child, before it becomes a pause.
fn enter(config: &Config, own_pids: bool, netns: &str, mut words: &io::PipeWriter) -> io::Result<()> {
    use std::io::Write;
    let mut said = |what: String| {
        words.write_all(what.as_bytes()).ok();
    };
    if !netns.is_empty() {
        let file = File::open(netns).inspect_err(|_| said(format!("open {netns}")))?;
        setns(file, CloneFlags::CLONE_NEWNET).inspect_err(|_| said(format!("join {netns}")))?;
    }
    let mut flags = CloneFlags::empty();
    flags.set(CloneFlags::CLONE_NEWIPC, !config.host_ipc);
    flags.set(CloneFlags::CLONE_NEWUTS, !config.host_network);
    flags.set(CloneFlags::CLONE_NEWPID, own_pids);
    unshare(flags).inspect_err(|_| said("unshare".into()))?;
    if !config.host_network && !config.hostname.is_empty() {
        rustix::system::sethostname(config.hostname.as_bytes()).inspect_err(|_| said("sethostname".into()))?;
    }
    for (name, value) in &config.sysctls {
        let file = Path::new("/proc/sys").join(name.replace('.', "/"));
        fs::write(&file, value).inspect_err(|_| said(format!("sysctl {name}={value}")))?;
    }
    if own_pids {
        sys::fork_and_leave(|pid| said(pid.to_string()))?;
    }
    Ok(())
}
