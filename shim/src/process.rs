//! One process of a container, its init or another, and what state it is in.

use std::os::fd::OwnedFd;
use std::sync::{Mutex, PoisonError};

use containerd_shim_protos::api::Status;
use rustix::process::{Pid, PidfdFlags, pidfd_open, pidfd_send_signal};
use tokio::sync::watch;

use crate::error::{Error, Result};
use crate::reaper::Exit;
use crate::stdio::{Paths, Streams};

/// Where in its life a process is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    /// Asked for; nothing runs.
    Added,
    /// An init that waits for its start.
    Created,
    /// The runtime is starting it.
    Starting,
    /// It runs.
    Running,
    /// It is frozen.
    Paused,
    /// It goes before it was started.
    Deleting,
    /// It has ended, and all have been told.
    Stopped,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct Process {
    /// Empty for the init.
    pub(crate) exec_id: String,
    /// Its streams, as they were asked for.
    pub(crate) paths: Paths,
    state: Mutex<State>,
    end: watch::Sender<Option<Exit>>,
}

#[derive(Debug)]
struct State {
    phase: Phase,
    pid: i32,
    /// Names the process, and no later one with its pid.
    handle: Option<OwnedFd>,
    /// It has ended while it was being started.
    early: Option<Exit>,
    streams: Option<Streams>,
    /// Clients have nothing more to say; perhaps before there was anybody to hear it.
    input_closed: bool,
}

impl Process {
    /// One that does not run so far.
    pub(crate) fn new(exec_id: &str, paths: Paths) -> Process {
        let state =
            State { phase: Phase::Added, pid: 0, handle: None, early: None, streams: None, input_closed: false };
        Process { exec_id: exec_id.to_owned(), paths, state: Mutex::new(state), end: watch::Sender::new(None) }
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// Whether it is the container's first.
    pub(crate) fn is_init(&self) -> bool {
        self.exec_id.is_empty()
    }

    /// Its pid; 0 before there is one.
    pub(crate) fn pid(&self) -> i32 {
        self.with(|state| state.pid)
    }

    /// Where it is.
    pub(crate) fn phase(&self) -> Phase {
        self.with(|state| state.phase)
    }

    /// As containerd calls it.
    pub(crate) fn status(&self) -> Status {
        match self.phase() {
            Phase::Added | Phase::Created | Phase::Starting | Phase::Deleting => Status::CREATED,
            Phase::Running => Status::RUNNING,
            Phase::Paused => Status::PAUSED,
            Phase::Stopped => Status::STOPPED,
        }
    }

    /// It exists now, and waits or runs. To be called before the reaper is asked for it: until then the pid is its own.
    pub(crate) fn exists(&self, phase: Phase, pid: i32, streams: Option<Streams>) {
        let handle = Pid::from_raw(pid).and_then(|pid| pidfd_open(pid, PidfdFlags::empty()).ok());
        self.with(|state| {
            (state.phase, state.pid, state.handle, state.streams) = (phase, pid, handle, streams);
            state.close_input();
        });
    }

    /// From one state into another.
    ///
    /// # Errors
    /// It is in none of these.
    pub(crate) fn change(&self, from: &[Phase], to: Phase, what: &str) -> Result<()> {
        self.with(|state| match from.contains(&state.phase) {
            true => {
                state.phase = to;
                Ok(())
            }
            false => Err(Error::Precondition(format!("cannot {what} a process that is {}", state.phase.word()))),
        })
    }

    /// It has ended. True if that is to be kept until its start is over.
    pub(crate) fn ends_early(&self, exit: Exit) -> bool {
        self.with(|state| {
            let early = state.phase == Phase::Starting;
            if early {
                state.early = Some(exit);
            }
            early
        })
    }

    /// Its start is over, well or not. How it has ended meanwhile.
    pub(crate) fn start_is_over(&self, phase: Phase) -> Option<Exit> {
        self.with(|state| {
            state.phase = phase;
            state.early.take()
        })
    }

    /// It has ended: all who wait are told.
    pub(crate) fn stop(&self, exit: Exit) {
        self.with(|state| {
            state.phase = Phase::Stopped;
            state.handle = None;
        });
        self.end.send_replace(Some(exit));
    }

    /// How it has ended.
    pub(crate) fn exit(&self) -> Option<Exit> {
        *self.end.borrow()
    }

    /// Waits for its end.
    pub(crate) async fn ended(&self) -> Exit {
        let mut end = self.end.subscribe();
        match end.wait_for(Option::is_some).await.map(|exit| *exit) {
            Ok(Some(exit)) => exit,
            // The sender lives as long as self.
            _ => Exit::now(255),
        }
    }

    /// Sends a signal to it alone.
    ///
    /// # Errors
    /// It does not run.
    pub(crate) fn signal(&self, signal: u32) -> Result<()> {
        let gone = || Error::NotFound(format!("process {} does not run: no such process", self.exec_id));
        let Some(signal) = crate::sys::signal(signal) else {
            return Err(Error::Invalid(format!("there is no signal {signal}")));
        };
        self.with(|state| match &state.handle {
            Some(handle) => pidfd_send_signal(handle, signal).map_err(|_| gone()),
            None => Err(gone()),
        })
    }

    /// Acts on its streams, if it has some.
    pub(crate) fn with_streams<T>(&self, act: impl FnOnce(&mut Streams) -> T) -> Option<T> {
        self.with(|state| state.streams.as_mut().map(act))
    }

    /// Its input ends: now, or as soon as there is one.
    pub(crate) fn close_input(&self) {
        self.with(|state| {
            state.input_closed = true;
            state.close_input();
        });
    }

    /// Takes its streams, to end them.
    pub(crate) fn take_streams(&self) -> Option<Streams> {
        self.with(|state| state.streams.take())
    }
}

impl State {
    fn close_input(&mut self) {
        if let Some(streams) = self.streams.as_mut().filter(|_| self.input_closed) {
            streams.close_input();
        }
    }
}

impl Phase {
    fn word(self) -> &'static str {
        match self {
            Phase::Added => "added",
            Phase::Created => "created",
            Phase::Starting => "being started",
            Phase::Running => "running",
            Phase::Paused => "paused",
            Phase::Deleting => "being deleted",
            Phase::Stopped => "stopped",
        }
    }
}
