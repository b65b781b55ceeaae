//! What a shim has: the containers of one group, and the end of itself when there are none.

use std::collections::{HashMap, HashSet, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::TaskDelete;
use serde_json::Value;
use tokio::sync::Notify;
use tokio::time::sleep;

use crate::bundle;
use crate::container::{Container, Deleted};
use crate::error::{Error, Result};
use crate::events::{Events, timestamp};
use crate::reaper::Reaper;
use crate::socket;

/// How long a shim without a container waits for one, or for being told to end.
const IDLE: Duration = Duration::from_secs(60);
/// How many deletions are remembered: whoever asked and did not hear the answer asks again.
const REMEMBERED: usize = 64;

/// See the module.
pub(crate) struct Shim {
    /// containerd's namespace.
    pub(crate) namespace: String,
    /// Who waits for children.
    pub(crate) reaper: Arc<Reaper>,
    /// Who tells containerd.
    pub(crate) events: Events,
    /// Where it is found. Taken once: what is there later is another's.
    socket: Mutex<Option<PathBuf>>,
    state: Mutex<State>,
    /// A creation is over.
    settled: Notify,
    /// Somebody has asked for something.
    asked: Notify,
    end: Notify,
}

#[derive(Default)]
struct State {
    containers: HashMap<String, Arc<Container>>,
    /// Being created.
    coming: HashSet<String>,
    gone: VecDeque<(String, Deleted)>,
    /// The end was asked for while a container was being created, by a client that had given up.
    unwanted: bool,
    /// The end has been decided.
    ending: bool,
    /// Others than containers that need the shim: sandboxes.
    held: usize,
    /// Mounts for every container, of the pod.
    mounts: Vec<Value>,
    /// Counts what happens, so that a time without anything can be told.
    changes: u64,
}

impl State {
    fn is_empty(&self) -> bool {
        self.containers.is_empty() && self.coming.is_empty() && self.held == 0
    }
}

impl Shim {
    /// One without containers.
    pub(crate) fn new(namespace: &str, events: Events, socket: Option<PathBuf>) -> Arc<Shim> {
        let shim = Arc::new(Shim {
            namespace: namespace.to_owned(),
            reaper: Arc::new(Reaper::default()),
            events,
            socket: Mutex::new(socket),
            state: Mutex::default(),
            settled: Notify::new(),
            asked: Notify::new(),
            end: Notify::new(),
        });
        shim.end_when_idle();
        shim
    }

    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    /// The container of an id.
    ///
    /// # Errors
    /// There is none.
    pub(crate) fn container(&self, id: &str) -> Result<Arc<Container>> {
        self.asked.notify_one();
        let missing = || Error::NotFound(format!("container {id} does not exist"));
        self.with(|state| state.containers.get(id).cloned()).ok_or_else(missing)
    }

    /// All of them.
    pub(crate) fn containers(&self) -> Vec<Arc<Container>> {
        self.with(|state| state.containers.values().cloned().collect())
    }

    /// Creates a container and returns the pid of its init.
    ///
    /// # Errors
    /// There is one with this id, or it cannot be created.
    pub(crate) async fn create(self: &Arc<Self>, request: &CreateTaskRequest) -> Result<i32> {
        self.with(|state| {
            if state.ending {
                return Err(Error::Ending);
            }
            if state.containers.contains_key(&request.id) || !state.coming.insert(request.id.clone()) {
                return Err(Error::AlreadyExists(format!("container {} exists", request.id)));
            }
            state.unwanted = false;
            state.changes += 1;
            Ok(())
        })?;
        let mounts = self.with(|state| state.mounts.clone());
        let created = match bundle::add_mounts(Path::new(&request.bundle), &mounts) {
            Ok(()) => Container::create(request, &self.namespace, &self.reaper, &self.events).await,
            Err(error) => Err(Error::failed(format!("mounts of the pod in {}", request.bundle))(error)),
        };
        self.with(|state| {
            state.coming.remove(&request.id);
            if let Ok(container) = &created {
                state.containers.insert(request.id.clone(), container.clone());
            }
        });
        self.settled.notify_waiters();
        self.asked.notify_one();
        self.end_when_empty();
        created.map(|container| container.init.pid())
    }

    /// Waits until a container is not being created any more.
    async fn settled(&self, id: &str) {
        loop {
            let settled = self.settled.notified();
            if !self.with(|state| state.coming.contains(id)) {
                return;
            }
            settled.await;
        }
    }

    /// Deletes a container, and tells of it. One that was deleted a moment ago is so again; one that is being created is
    /// deleted as soon as it is there.
    ///
    /// # Errors
    /// There is none, it runs, or the runtime says no.
    pub(crate) async fn delete(self: &Arc<Self>, id: &str) -> Result<Deleted> {
        self.settled(id).await;
        let container = match self.container(id) {
            Ok(container) => container,
            Err(error) => {
                let before = |state: &mut State| state.gone.iter().find(|(gone, _)| gone == id).map(|(_, it)| *it);
                return self.with(before).ok_or(error);
            }
        };
        let deleted = container.delete().await?;
        let removed = self.with(|state| {
            let removed = state.containers.remove(id).is_some();
            if removed {
                state.gone.truncate(REMEMBERED - 1);
                state.gone.push_front((id.to_owned(), deleted));
                state.changes += 1;
            }
            removed
        });
        if removed {
            self.events.publish(&TaskDelete {
                container_id: id.to_owned(),
                pid: deleted.pid as u32,
                exit_status: deleted.exit.status,
                exited_at: timestamp(deleted.exit.at),
                ..Default::default()
            });
            self.end_when_empty();
        }
        Ok(deleted)
    }

    /// Every container that is created from now on has these mounts.
    pub(crate) fn set_mounts(&self, mounts: Vec<Value>) {
        self.with(|state| state.mounts = mounts);
    }

    /// Something that is no container needs the shim.
    ///
    /// # Errors
    /// It is about to end.
    pub(crate) fn hold(&self) -> Result<()> {
        self.with(|state| {
            if state.ending {
                return Err(Error::Ending);
            }
            state.held += 1;
            state.changes += 1;
            Ok(())
        })
    }

    /// It does not any more.
    pub(crate) fn release(self: &Arc<Self>) {
        self.with(|state| state.held -= 1);
        self.end_when_empty();
    }

    /// Ends the shim, unless there are containers.
    pub(crate) fn shutdown(&self) {
        let empty = self.with(|state| {
            state.unwanted |= !state.coming.is_empty();
            state.ending |= state.is_empty();
            state.is_empty()
        });
        if empty {
            self.hide();
            self.end.notify_one();
        }
    }

    /// At once, if that was asked for; else in a while.
    fn end_when_empty(self: &Arc<Self>) {
        match self.with(|state| state.unwanted && state.is_empty()) {
            true => self.shutdown(),
            false => self.end_when_idle(),
        }
    }

    /// From now on nobody finds this shim: a new one may listen there at once.
    pub(crate) fn hide(&self) {
        let socket = self.socket.lock().unwrap_or_else(PoisonError::into_inner).take();
        if let Some(socket) = socket
            && let Err(error) = socket::remove(&socket)
        {
            log::warn!("socket {}: {error}", socket.display());
        }
    }

    /// Waits until somebody asks for something.
    pub(crate) async fn asked(&self) {
        self.asked.notified().await;
    }

    /// Waits until the shim is to end.
    pub(crate) async fn ended(&self) {
        self.end.notified().await;
    }

    /// If nobody needs it for some time, it ends by itself: whoever started it may be gone.
    fn end_when_idle(self: &Arc<Self>) {
        let Some(since) = self.with(|state| state.is_empty().then_some(state.changes)) else { return };
        let shim = Arc::downgrade(self);
        tokio::spawn(async move {
            sleep(IDLE).await;
            let Some(shim) = shim.upgrade() else { return };
            if shim.with(|state| state.is_empty() && state.changes == since) {
                log::info!("no container for {} s: the shim ends", IDLE.as_secs());
                shim.shutdown();
            }
        });
    }
}
