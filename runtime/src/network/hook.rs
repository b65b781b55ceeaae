//! What the hooks of a container on a network do: createRuntime adds it, poststop takes it away. They are plain hooks of
//! the OCI runtime specification: all they know is the state on standard input and what stands in their arguments.

use super::attach::LOCK_SECONDS;
use super::cache::{Entry, Networks, Record};
use super::namespace::{self, Sandbox};
use super::{Places, chain, conf, is_word, plugin, ports};
use crate::error::{Context, Error, Result, bad};
use crate::state::{boot_id, check_id};
use serde::Deserialize;
use std::io::Read;
use std::path::Path;
use std::time::Duration;

/// The state has the container's annotations in it; what is larger is nobody's.
const MAX_STATE: u64 = 16 << 20;
/// The one interface that is made.
const INTERFACE: &str = "eth0";
/// How long a container may take to end that is said to have stopped.
const END_MILLISECONDS: i64 = 2000;
const PATIENCE: Duration = Duration::from_secs(LOCK_SECONDS);

/// What of the state of runtime.md a hook here needs.
#[derive(Deserialize)]
struct State {
    id: String,
    #[serde(default)]
    pid: i64,
}

impl State {
    fn read(from: impl Read) -> Result<State> {
        let wrong = |problem: String| Error::Usage(format!("state on standard input: {problem}"));
        let mut text = Vec::new();
        from.take(MAX_STATE + 1).read_to_end(&mut text).context(|| "read the state from standard input".to_owned())?;
        if text.len() as u64 > MAX_STATE {
            return Err(wrong("is larger than 16 mebibytes".to_owned()));
        }
        let state: State = serde_json::from_slice(&text).map_err(|error| wrong(error.to_string()))?;
        check_id(&state.id)?;
        Ok(state)
    }
}

/// The createRuntime hook. On failure nothing of it is left.
pub(crate) fn add(places: &Places, network: &str, publish: &[&str], state: impl Read) -> Result<()> {
    let State { id, pid } = State::read(state)?;
    if !is_word(&id) {
        return Err(bad(format_args!("container ID {id:?}"), "CNI allows [A-Za-z0-9][A-Za-z0-9_.-]* alone"));
    }
    let ports = ports::parse_all(publish)?;
    let list = conf::find(places, network)?;
    for kind in list.kinds() {
        plugin::find(&list.name, kind, &places.plugins)?;
    }
    let networks = Networks::create(&places.cache)?;
    let entry = networks.lock(&id, true, PATIENCE)?.ok_or_else(|| Error::NoContainer(id.clone()))?;
    // After the lock: a container that was deleted meanwhile must not be given a network.
    let added = leave_earlier(&entry).and_then(|()| namespace::open(pid)).and_then(|sandbox| {
        let record = Record {
            version: Record::VERSION,
            id: id.clone(),
            pid: sandbox.process.pid,
            start_time: sandbox.process.stat.start_time,
            boot_id: boot_id()?.to_owned(),
            left: list.plugins.len(),
            network: list,
            interface: INTERFACE.to_owned(),
            ports,
            plugin_path: places.plugins.clone(),
            result: None,
        };
        Ok((sandbox, record))
    });
    let (sandbox, mut record) = match added {
        Ok(begun) => begun,
        Err(error) => {
            // One that is another's, or could not be cleaned, stays.
            if entry.read().is_ok_and(|record| record.is_none()) {
                networks.remove(&entry)?;
            }
            return Err(error);
        }
    };
    join(&entry, &sandbox, &mut record).map_err(|error| match leave(&networks, &entry, &mut record) {
        Ok(()) => error,
        Err(later) => Error::Twice(Box::new(error), Box::new(later)),
    })
}

/// What an earlier container of this id has left, of a crash or of another boot, goes first.
fn leave_earlier(entry: &Entry) -> Result<()> {
    let Some(mut record) = entry.read()? else { return Ok(()) };
    if let Some(init) = record.init()? {
        let problem = format!("is on the network {} already, as process {}", record.network.name, init.pid);
        return Err(bad(format_args!("container ID {:?}", record.id), problem));
    }
    chain::del(entry, &mut record)?;
    entry.forget()
}

fn join(entry: &Entry, sandbox: &Sandbox, record: &mut Record) -> Result<()> {
    entry.write(record)?;
    entry.pin(&sandbox.namespace)?;
    namespace::loopback_up(&sandbox.namespace)?;
    chain::add(entry, record)?;
    // Whoever deleted it meanwhile may have asked for its end on the network before that had begun.
    match record.init()? {
        Some(_) => Ok(()),
        None => Err(Error::Usage(format!("container {} ended while it was being put on a network", record.id))),
    }
}

fn leave(networks: &Networks, entry: &Entry, record: &mut Record) -> Result<()> {
    chain::del(entry, record)?;
    networks.remove(entry)
}

/// The poststop hook. A container that is on no network is no error: DEL may come twice, or after an ADD that failed.
pub(crate) fn del(cache: &Path, state: impl Read) -> Result<()> {
    let State { id, .. } = State::read(state)?;
    let Some(networks) = Networks::open(cache)? else { return Ok(()) };
    let Some(entry) = networks.lock(&id, false, PATIENCE)? else { return Ok(()) };
    let Some(mut record) = entry.read()? else { return networks.remove(&entry) };
    if let Some(init) = record.init()?
        && !init.wait_end(END_MILLISECONDS)?
    {
        let problem = format!("has not stopped: process {} is on the network {}", init.pid, record.network.name);
        return Err(bad(format_args!("container ID {id:?}"), problem));
    }
    leave(&networks, &entry, &mut record)
}

/// What came of a container whose network was left behind.
pub(crate) struct Pruned {
    pub id: String,
    pub done: Result<()>,
}

/// Takes all containers off their networks that have ended.
pub(crate) fn prune(cache: &Path) -> Result<Vec<Pruned>> {
    let Some(networks) = Networks::open(cache)? else { return Ok(Vec::new()) };
    let mut pruned = Vec::new();
    for id in networks.ids()? {
        if let Some(done) = prune_one(&networks, &id).transpose() {
            pruned.push(Pruned { id, done });
        }
    }
    Ok(pruned)
}

/// None: it is still there, or somebody is busy with it.
fn prune_one(networks: &Networks, id: &str) -> Result<Option<()>> {
    let entry = match networks.lock(id, false, Duration::ZERO) {
        Err(Error::Busy(_)) | Ok(None) => return Ok(None),
        locked => locked?,
    };
    let Some(entry) = entry else { return Ok(None) };
    match entry.read()? {
        None => networks.remove(&entry)?,
        Some(record) if record.init()?.is_some() => return Ok(None),
        Some(mut record) => leave(networks, &entry, &mut record)?,
    }
    Ok(Some(()))
}
