//! start: tells a created container's init to become its program, and learns whether it did.

use super::hooks::{self, HookDocument};
use super::{delete, limits, notify::Notify, sockets};
use crate::config::{self, spec::Spec};
use crate::error::{Error, Result};
use crate::hooks as hook;
use crate::plan;
use crate::state::{Process, Record, SocketName, StateDir, StateRoot};
use crate::sync::{Channel, Failure, Item, Message, Signal};

/// Starts a container that was created.
pub(crate) fn start(root: &StateRoot, dir: &StateDir, record: &Record<'_>, init: &Process) -> Result<()> {
    let started = || Error::Status { verb: "start", article: "an already", status: "running", id: dir.id.clone() };
    let notify = Notify::bind(dir)?;
    let Some(connection) = sockets::connect_in(dir.fd(), SocketName::CREATED)? else { return Err(started()) };
    match wait_executed(&Channel::from_fd(connection)) {
        Ok(()) => {}
        Err(Some(failure)) => {
            let text = dir.read_config()?;
            let error = describe(&config::parse_spec(&text)?, &failure);
            // A hook that fails ends the container; a program that cannot be executed leaves it stopped.
            if matches!(failure.item, Item::StartContainer(_)) {
                delete::destroy(root, dir, record)?;
            }
            return Err(error);
        }
        // Another start was first, or the init was killed.
        Err(None) if init.wait_end(0)? => {
            if limits::was_out_of_memory(&record.cgroup) {
                return Err(Error::OutOfMemory);
            }
            return Err(Error::ChildDied("ended before it executed its program".to_owned()));
        }
        Err(None) => return Err(started()),
    }
    if record.poststart {
        poststart(root, dir, record, init.pid)?;
    }
    match notify {
        Some(notify) => notify.wait(init.pid, init.pidfd()),
        None => Ok(()),
    }
}

/// The socket ends when the program runs; before that it says that it is about to, or what failed.
pub(crate) fn wait_executed(channel: &Channel) -> std::result::Result<(), Option<Failure>> {
    let mut executing = false;
    loop {
        match channel.receive() {
            Ok(Message::Signal(Signal::Executing)) => executing = true,
            Ok(Message::Failure(failure)) => return Err(Some(failure)),
            Ok(Message::End) if executing => return Ok(()),
            _ => return Err(None),
        }
    }
}

fn poststart(root: &StateRoot, dir: &StateDir, record: &Record<'_>, pid: i32) -> Result<()> {
    let text = dir.read_config()?;
    let spec = config::parse_spec(&text)?;
    let list = spec.hooks.as_ref().map(|hooks| plan::hooks_of("hooks.poststart", &hooks.poststart)).transpose()?;
    let done = hooks::run("poststart", &list.unwrap_or_default(), &document(record), "running", pid);
    if done.is_err() {
        delete::destroy(root, dir, record)?;
    }
    done
}

pub(crate) fn document<'a>(record: &'a Record<'_>) -> HookDocument<'a> {
    HookDocument {
        oci_version: &record.oci_version,
        id: &record.id,
        bundle: &record.bundle,
        annotations: record.annotations.iter().map(|(key, value)| (&**key, &**value)).collect(),
    }
}

/// From config.json, since a start has no plan.
fn describe(spec: &Spec<'_>, failure: &Failure) -> Error {
    let errno = crate::error::text(rustix::io::Errno::from_raw_os_error(failure.number));
    match failure.item {
        Item::StartContainer(index) => {
            let hooks = spec.hooks.as_ref();
            let one = hooks.and_then(|hooks| hooks.start_container.get(usize::from(index)));
            Error::Hook {
                stage: "startContainer",
                index: usize::from(index),
                path: one.and_then(|hook| hook.path.as_deref()).unwrap_or_default().to_owned(),
                problem: hook::describe(&failure.what, failure.number, &failure.detail),
            }
        }
        Item::Program => {
            let program = spec.process.as_ref().and_then(|process| process.args.first());
            Error::Child(format!("{} {}: {errno}", failure.what, program.map_or("", |program| program)))
        }
        _ if failure.what.starts_with("process: ") => Error::Child(failure.what.clone()),
        _ => Error::Child(format!("{}: {errno}", failure.what)),
    }
}
