//! One container: its life by calls of the runtime, and the order in which the world hears of it.
//!
//! No lock is held while the runtime runs: a process has a state of being started, and everything else can be asked
//! meanwhile. The order of events is that of `publish`, on the shim's only thread:
//!
//! ```text
//! create ── start ─────────────────────────────▶ exit ── delete
//!             exec-added ── exec-started ── exit ▲
//!                                  the init's exit waits for those of all others; a kill for memory is before it
//! ```

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use std::time::Duration;

use containerd_shim_protos::events::task::{TaskCheckpointed, TaskExit, TaskOOM, TaskPaused, TaskResumed, TaskStart};
use tokio::sync::OnceCell;
use tokio::time::timeout;

use crate::error::{Error, Result};
use crate::events::{Events, timestamp};
use crate::options::Options;
use crate::process::{Phase, Process};
use crate::reaper::Exit;
use crate::restore::Restore;
use crate::runtime::{Runtime, With};
use crate::stdio::{self, Console, Ends, Owner, Paths, Streams};
use crate::usage::Watched;

/// How long a deletion waits for output that still comes.
pub(crate) const DRAIN: Duration = Duration::from_secs(10);
/// How long a container that was deleted before its start takes to end.
const END: Duration = Duration::from_secs(5);
/// How long an init's end waits for those of the others, which are being killed.
const HELD: Duration = Duration::from_secs(10);

/// See the module.
pub(crate) struct Container {
    /// Unique in the namespace.
    pub(crate) id: String,
    /// Its bundle.
    pub(crate) bundle: PathBuf,
    /// Its first process.
    pub(crate) init: Arc<Process>,
    pub(crate) namespace: String,
    pub(crate) runtime: Runtime,
    pub(crate) options: Options,
    pub(crate) restore: Option<Restore>,
    pub(crate) own_pid_namespace: bool,
    pub(crate) execs: Mutex<HashMap<String, Arc<Process>>>,
    pub(crate) endings: Mutex<Endings>,
    pub(crate) events: Events,
    pub(crate) cgroup: OnceLock<Watched>,
    pub(crate) kills: Mutex<HashMap<(u32, bool), Kill>>,
    pub(crate) deleted: OnceCell<Deleted>,
}

/// One that is under way, by signal and whether to all processes.
pub(crate) type Kill = Arc<OnceCell<Result<()>>>;

/// How the ends of processes are ordered.
#[derive(Debug, Default)]
pub(crate) struct Endings {
    /// Processes beside the init that run, or are being started.
    pub(crate) running: usize,
    /// The init has ended: nothing can be started any more.
    pub(crate) init_has_ended: bool,
    /// The init's end, until the others have ended.
    held: Option<Exit>,
}

/// What remains to be said of a process.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Deleted {
    /// Its pid.
    pub(crate) pid: i32,
    /// Its end.
    pub(crate) exit: Exit,
}

/// The words of a command line.
macro_rules! words {
    ($($word:expr),* $(,)?) => { [$(std::ffi::OsString::from($word)),*] };
}
pub(crate) use words;

impl Container {
    pub(crate) fn owner(&self) -> Owner<'_> {
        Owner { namespace: &self.namespace, container: &self.id, uid: self.options.io_uid, gid: self.options.io_gid }
    }

    pub(crate) fn with_endings<T>(&self, act: impl FnOnce(&mut Endings) -> T) -> T {
        act(&mut self.endings.lock().unwrap_or_else(PoisonError::into_inner))
    }

    pub(crate) fn with_execs<T>(&self, act: impl FnOnce(&mut HashMap<String, Arc<Process>>) -> T) -> T {
        act(&mut self.execs.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The init, or the process of an exec id.
    ///
    /// # Errors
    /// There is none with this id.
    pub(crate) fn process(&self, exec_id: &str) -> Result<Arc<Process>> {
        if exec_id.is_empty() {
            return Ok(self.init.clone());
        }
        let missing = || Error::NotFound(format!("process {exec_id} of container {} does not exist", self.id));
        self.with_execs(|execs| execs.get(exec_id).cloned()).ok_or_else(missing)
    }

    /// Follows a process to its end. To be called as soon as its beginning has been told.
    pub(crate) fn follow(self: &Arc<Self>, process: &Arc<Process>, ended: tokio::sync::oneshot::Receiver<Exit>) {
        let (container, process) = (self.clone(), process.clone());
        tokio::spawn(async move {
            let exit = ended.await.unwrap_or_else(|_| Exit::now(255));
            if !process.ends_early(exit) {
                container.has_ended(&process, exit);
            }
        });
    }

    /// Tells of kills for want of memory, as long as the container lives.
    pub(crate) fn watch_memory(self: &Arc<Self>) {
        let container = self.clone();
        tokio::spawn(async move {
            let Some(cgroup) = container.cgroup.get() else { return };
            loop {
                tokio::select! {
                    () = cgroup.may_have_killed() => container.tell_of_kills(),
                    _ = container.init.ended() => return,
                }
            }
        });
    }

    fn tell_of_kills(&self) {
        let kills = self.cgroup.get().map_or(0, Watched::new_kills);
        if kills > 0 {
            log::info!("container {}: {kills} processes killed for want of memory", self.id);
            self.events.publish(&TaskOOM { container_id: self.id.clone(), ..Default::default() });
        }
    }

    fn has_ended(self: &Arc<Self>, process: &Arc<Process>, exit: Exit) {
        if !process.is_init() {
            self.tell_end(process, exit);
            return self.one_less();
        }
        let hold = self.with_endings(|endings| {
            endings.init_has_ended = true;
            endings.held = (endings.running > 0).then_some(exit);
            endings.held.is_some()
        });
        if !self.own_pid_namespace {
            let container = self.clone();
            tokio::spawn(async move { container.end_the_others().await });
        }
        if !hold {
            self.tell_end(process, exit);
        }
    }

    /// The init has ended, and the kernel does not end the others with it.
    async fn end_the_others(&self) {
        let kill = libc::SIGKILL as u32;
        let others: Vec<_> = self.with_execs(|execs| execs.values().cloned().collect());
        for other in others {
            // Also one that has left the container's cgroup.
            other.signal(kill).ok();
        }
        match self.kill_by_runtime(kill, true).await {
            Ok(()) | Err(Error::NotFound(_)) => {}
            Err(error) => log::warn!("container {}: what its init has left is not killed: {error}", self.id),
        }
        tokio::time::sleep(HELD).await;
        if let Some(exit) = self.with_endings(|endings| endings.held.take()) {
            log::warn!(
                "container {}: processes live on after its init, {} s after they were killed",
                self.id,
                HELD.as_secs()
            );
            self.tell_end(&self.init, exit);
        }
    }

    fn tell_end(&self, process: &Process, exit: Exit) {
        if process.is_init() {
            self.tell_of_kills();
        }
        process.stop(exit);
        let id = if process.is_init() { &self.id } else { &process.exec_id };
        self.events.publish(&TaskExit {
            container_id: self.id.clone(),
            id: id.clone(),
            pid: process.pid() as u32,
            exit_status: exit.status,
            exited_at: timestamp(exit.at),
            ..Default::default()
        });
    }

    /// A process beside the init has ended, or could not be started.
    pub(crate) fn one_less(&self) {
        let held = self.with_endings(|endings| {
            endings.running -= 1;
            if endings.running == 0 { endings.held.take() } else { None }
        });
        if let Some(exit) = held {
            self.tell_end(&self.init, exit);
        }
    }

    /// Starts the init, which has been created.
    ///
    /// # Errors
    /// It was started already, has ended, or the runtime says no.
    pub(crate) async fn start(self: &Arc<Self>) -> Result<i32> {
        let from = if self.restore.is_some() { Phase::Added } else { Phase::Created };
        self.init.change(&[from], Phase::Starting, "start")?;
        let started = match &self.restore {
            None => self.runtime.call(&words!["start", &self.id], With::default()).await.map(|_| ()),
            Some(restore) => self.restore(restore).await,
        };
        if started.as_ref().is_err_and(Error::is_cut_off) {
            self.force().await;
        }
        if started.is_ok() {
            let pid = self.init.pid() as u32;
            self.events.publish(&TaskStart { container_id: self.id.clone(), pid, ..Default::default() });
        }
        let phase = if started.is_ok() { Phase::Running } else { from };
        if let Some(exit) = self.init.start_is_over(phase) {
            self.has_ended(&self.init, exit);
        }
        started.map(|()| self.init.pid())
    }

    /// Whatever there is of the container goes: after a call of which nobody knows how far it came.
    pub(crate) async fn force(&self) {
        if let Err(error) = self.runtime.call(&words!["delete", "--force", &self.id], With::default()).await {
            log::error!("container {}: {error}", self.id);
        }
    }

    /// Calls the runtime for a new process with streams of its own. `args` lack the container's id.
    pub(crate) async fn run(
        &self,
        paths: &Paths,
        args: &mut Vec<OsString>,
        socket: &str,
        with: With<'_>,
    ) -> Result<Streams> {
        let failed = |(what, error): (String, std::io::Error)| Error::Failed(format!("{what}: {error}"));
        if !paths.terminal {
            let (streams, ends): (Streams, Ends) =
                Streams::open(paths, self.owner(), self.runtime.reaper()).await.map_err(failed)?;
            args.push(self.id.clone().into());
            self.runtime.call(args, With { streams: Some(ends), ..with }).await?;
            return Ok(streams);
        }
        let console = Console::listen(&self.bundle, socket).map_err(Error::failed("console socket"))?;
        args.extend(words!["--console-socket", socket, &self.id]);
        let ends = stdio::nothing().map_err(Error::failed("/dev/null"))?;
        self.runtime.call(args, With { streams: Some(ends), ..with }).await?;
        let master = console.receive().map_err(Error::failed("console socket"))?;
        Streams::of_terminal(master, paths, self.owner(), self.runtime.reaper()).await.map_err(failed)
    }

    /// Sends a signal to the init, by the runtime, or to all processes. A second one that is asked for while the same is
    /// under way is that one.
    ///
    /// # Errors
    /// The container has ended, or the runtime says no.
    pub(crate) async fn kill_by_runtime(&self, signal: u32, all: bool) -> Result<()> {
        let key = (signal, all);
        let under_way = {
            let mut kills = self.kills.lock().unwrap_or_else(PoisonError::into_inner);
            kills.entry(key).or_default().clone()
        };
        let kill = async || {
            let mut args = Vec::from(words!["kill"]);
            if all {
                args.push("--all".into());
            }
            args.extend(words![&self.id, signal.to_string()]);
            self.runtime.call(&args, With::default()).await.map(|_| ())
        };
        let killed = under_way.get_or_init(kill).await.clone();
        self.kills.lock().unwrap_or_else(PoisonError::into_inner).remove(&key);
        killed
    }

    /// Freezes all processes.
    ///
    /// # Errors
    /// It does not run, or the runtime says no.
    pub(crate) async fn pause(&self) -> Result<()> {
        self.require(Phase::Running, "pause")?;
        self.runtime.call(&words!["pause", &self.id], With::default()).await?;
        self.init.change(&[Phase::Running], Phase::Paused, "pause")?;
        self.events.publish(&TaskPaused { container_id: self.id.clone(), ..Default::default() });
        Ok(())
    }

    /// Thaws all processes.
    ///
    /// # Errors
    /// It is not paused, or the runtime says no.
    pub(crate) async fn resume(&self) -> Result<()> {
        self.require(Phase::Paused, "resume")?;
        self.runtime.call(&words!["resume", &self.id], With::default()).await?;
        self.init.change(&[Phase::Paused], Phase::Running, "resume")?;
        self.events.publish(&TaskResumed { container_id: self.id.clone(), ..Default::default() });
        Ok(())
    }

    fn require(&self, phase: Phase, what: &str) -> Result<()> {
        self.init.change(&[phase], phase, what)
    }

    /// Changes limits, as the JSON of `linux.resources` says.
    ///
    /// # Errors
    /// The runtime says no.
    pub(crate) async fn update(&self, resources: &[u8]) -> Result<()> {
        let with = With { input: Some(resources), ..With::default() };
        self.runtime.call(&words!["update", "--resources=-", &self.id], with).await.map(|_| ())
    }

    /// Writes the container's state to a directory.
    ///
    /// # Errors
    /// The runtime says no.
    pub(crate) async fn checkpoint(&self, path: &str, flags: Vec<OsString>) -> Result<()> {
        let mut args = Vec::from(words!["checkpoint", "--image-path", path]);
        args.extend(flags);
        args.push(self.id.clone().into());
        self.runtime.call(&args, With::default()).await?;
        self.events.publish(&TaskCheckpointed {
            container_id: self.id.clone(),
            checkpoint: path.to_owned(),
            ..Default::default()
        });
        Ok(())
    }

    /// Deletes a container that does not run, once: who asks while it is under way, or again, hears the same.
    ///
    /// # Errors
    /// It runs, or the runtime says no; then it can be asked for again.
    pub(crate) async fn delete(&self) -> Result<Deleted> {
        self.deleted.get_or_try_init(async || self.delete_now().await).await.copied()
    }

    async fn delete_now(&self) -> Result<Deleted> {
        let phase = self.init.phase();
        match phase {
            Phase::Stopped => {
                if let Some(streams) = self.init.take_streams() {
                    streams.finish(DRAIN).await;
                }
                match self.runtime.call(&words!["delete", &self.id], With::default()).await {
                    Err(Error::NotFound(_)) | Ok(_) => {}
                    Err(error) => {
                        log::warn!("container {}: {error}", self.id);
                        self.runtime.call(&words!["delete", "--force", &self.id], With::default()).await?;
                    }
                }
            }
            Phase::Created | Phase::Added => {
                self.init.change(&[phase], Phase::Deleting, "delete")?;
                if let Err(error) = self.runtime.call(&words!["delete", "--force", &self.id], With::default()).await {
                    self.init.change(&[Phase::Deleting], phase, "delete").ok();
                    return Err(error);
                }
                // Its end is told before its deletion.
                if phase == Phase::Created && timeout(END, self.init.ended()).await.is_err() {
                    self.init.change(&[Phase::Deleting], phase, "delete").ok();
                    return Err(Error::Failed(format!("container {} has not ended, though it was killed", self.id)));
                }
                drop(self.init.take_streams());
            }
            _ => return Err(Error::Precondition(format!("container {} runs: it cannot be deleted", self.id))),
        }
        let exit = self.init.exit().unwrap_or_else(|| Exit::now(137));
        Ok(Deleted { pid: self.init.pid(), exit })
    }
}

/// What the runtime has written down.
pub(crate) fn read_pid(file: &Path) -> Result<i32> {
    let text = fs::read_to_string(file).map_err(Error::failed(format!("pid file {}", file.display())))?;
    text.trim().parse().map_err(|_| Error::Failed(format!("pid file {}: {text:?} is no pid", file.display())))
}
