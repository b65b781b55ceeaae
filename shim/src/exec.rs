//! Processes of a container beside its init: noted down, started by the runtime's `exec`, and forgotten.

use std::fs;
use std::path::PathBuf;
use std::sync::Arc;

use containerd_shim_protos::events::task::{TaskExecAdded, TaskExecStarted};
use rustix::process::{Pid, Signal, kill_process};

use crate::container::{Container, DRAIN, Deleted, read_pid, words};
use crate::error::{Error, Result};
use crate::process::{Phase, Process};
use crate::reaper::{Exit, Expecting};
use crate::runtime::With;
use crate::stdio::{Paths, Streams};

impl Container {
    /// Notes down a process to be started.
    ///
    /// # Errors
    /// There is one of its name, the name is no file's, or the init has ended.
    pub(crate) fn add(&self, exec_id: &str, paths: Paths, spec: &[u8]) -> Result<()> {
        if exec_id.is_empty() || exec_id.contains('/') || exec_id.starts_with('.') {
            return Err(Error::Invalid(format!("exec id {exec_id:?} is none")));
        }
        self.with_execs(|execs| {
            if execs.contains_key(exec_id) {
                return Err(Error::AlreadyExists(format!("process {exec_id} of container {} exists", self.id)));
            }
            fs::write(self.file(exec_id, "json"), spec)
                .map_err(Error::failed(format!("keep the process {exec_id} in the bundle")))?;
            execs.insert(exec_id.to_owned(), Arc::new(Process::new(exec_id, paths)));
            Ok(())
        })?;
        self.events.publish(&TaskExecAdded {
            container_id: self.id.clone(),
            exec_id: exec_id.to_owned(),
            ..Default::default()
        });
        Ok(())
    }

    /// A file in the bundle for a process beside the init.
    pub(crate) fn file(&self, exec_id: &str, ending: &str) -> PathBuf {
        self.bundle.join(format!("exec-{exec_id}.{ending}"))
    }

    /// Starts a process that was added.
    ///
    /// # Errors
    /// It was started already, the init has ended, or the runtime says no.
    pub(crate) async fn start_exec(self: &Arc<Self>, process: &Arc<Process>) -> Result<i32> {
        self.with_endings(|endings| {
            if endings.init_has_ended {
                return Err(Error::Precondition(format!("container {} has ended: container not running", self.id)));
            }
            process.change(&[Phase::Added], Phase::Starting, "start")?;
            endings.running += 1;
            Ok(())
        })?;
        let started = self.run_exec(process).await;
        match started {
            Ok((pid, streams, expecting)) => {
                process.exists(Phase::Running, pid, Some(streams));
                let ended = self.runtime.reaper().watch(pid);
                drop(expecting);
                self.events.publish(&TaskExecStarted {
                    container_id: self.id.clone(),
                    exec_id: process.exec_id.clone(),
                    pid: pid as u32,
                    ..Default::default()
                });
                self.follow(process, ended);
                Ok(pid)
            }
            Err(error) => {
                process.stop(Exit::now(255));
                self.one_less();
                Err(error)
            }
        }
    }

    async fn run_exec(&self, process: &Process) -> Result<(i32, Streams, Expecting)> {
        let name = |ending| self.file(&process.exec_id, ending);
        let pid_file = name("pid");
        let expecting = self.runtime.reaper().expect();
        let mut args = Vec::from(words!["exec", "--process", name("json"), "--detach", "--pid-file", &pid_file]);
        let socket = format!("exec-{}.sock", process.exec_id);
        let streams = self.run(&process.paths, &mut args, &socket, With::default()).await;
        let pid = read_pid(&pid_file);
        for ending in ["json", "pid"] {
            fs::remove_file(name(ending)).ok();
        }
        match (streams, pid) {
            (Ok(streams), Ok(pid)) => Ok((pid, streams, expecting)),
            (Ok(_), Err(error)) => Err(error),
            (Err(error), pid) => {
                // It runs, and nobody would ever see its end: the runtime was cut off, or its streams go nowhere.
                if let Some(id) = pid.ok().and_then(Pid::from_raw) {
                    kill_process(id, Signal::KILL).ok();
                }
                Err(error)
            }
        }
    }

    /// Forgets a process beside the init that has ended, or was never started.
    ///
    /// # Errors
    /// It runs, or there is none.
    pub(crate) async fn delete_exec(&self, exec_id: &str) -> Result<Deleted> {
        let process = self.process(exec_id)?;
        match process.phase() {
            Phase::Stopped | Phase::Added => {}
            _ => return Err(Error::Precondition(format!("process {exec_id} runs: it cannot be deleted"))),
        }
        if let Some(streams) = process.take_streams() {
            streams.finish(DRAIN).await;
        }
        self.with_execs(|execs| {
            // Another one may have its name by now.
            if execs.get(exec_id).is_some_and(|found| Arc::ptr_eq(found, &process)) {
                execs.remove(exec_id);
                fs::remove_file(self.file(exec_id, "json")).ok();
            }
        });
        let exit = process.exit().unwrap_or_else(|| Exit::now(0));
        Ok(Deleted { pid: process.pid(), exit })
    }
}
