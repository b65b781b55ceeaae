//! Deleting: ends what is left of a container and takes back everything that create made.

use super::{hooks, host_mounts, intel_rdt, start};
use crate::config;
use crate::error::{Error, Result};
use crate::plan;
use crate::state::{Record, StateDir, StateRoot, Status, view};

/// How long `delete --force` waits for a creation that is under way, whose init it has ended.
const LOCK_MILLISECONDS: u64 = 10_000;
/// How long it waits for the init to end.
pub(crate) const KILL_MILLISECONDS: i64 = 10_000;

/// `proa delete`.
pub(crate) fn delete(root: &StateRoot, dir: &StateDir, force: bool) -> Result<()> {
    // A creation that is under way holds the lock; to force is to end its init first.
    if !force {
        dir.lock()?;
    }
    let Some(text) = dir.read()? else {
        // Killed before it wrote what it was about to do: nothing was acquired.
        return if force { root.remove(dir) } else { Err(Error::NoContainer(dir.id.clone())) };
    };
    let record = match dir.parse(&text) {
        Err(error) if force => {
            log::warn!("{error}");
            return salvage(root, dir);
        }
        record => record?,
    };
    let (status, init) = view(dir, &record)?;
    match status {
        Status::Stopped => {}
        Status::Created | Status::Creating => {}
        // Who kills and deletes at once is not told that the kernel is not done yet.
        status if !force && !init.as_ref().is_some_and(|init| init.is_dying().unwrap_or(false)) => {
            return Err(Error::NotStopped { id: dir.id.clone(), status: status.word() });
        }
        _ => {}
    }
    if let Some(init) = init {
        init.signal(libc::SIGKILL)?;
        if let Some(cgroup) = record.cgroup.open()? {
            // A frozen process cannot end on cgroup v1.
            cgroup.let_die().ok();
        }
        if !init.wait_end(KILL_MILLISECONDS)? {
            return Err(Error::Usage(format!("container {} does not end, even when killed", dir.id)));
        }
    }
    if force {
        // A creation whose hook hangs has nobody to end it.
        dir.lock_within(LOCK_MILLISECONDS)?;
    }
    destroy(root, dir, &record)
}

/// Ends what is left and removes cgroup, resctrl groups and state, then runs poststop hooks. Can be repeated from
/// anywhere in between.
pub(crate) fn destroy(root: &StateRoot, dir: &StateDir, record: &Record<'_>) -> Result<()> {
    if let Some(init) = record.init.map(|init| init.open(record)).transpose()?.flatten() {
        init.signal(libc::SIGKILL)?;
        init.wait_end(KILL_MILLISECONDS)?;
    }
    // With a pid namespace of its own nothing outlives the init: what is in its cgroup then is somebody else's, another
    // container's that was given the same one, say.
    if !record.own_pid_namespace() {
        end_companions(record)?;
    }
    match record.cgroup.remove() {
        // Of another boot nothing is left: it has only the name of one.
        Err(cgroup::Error::Busy { .. }) if !record.is_of_this_boot()? => {}
        removed => removed?,
    }
    if let Some(mounts) = &record.host_mounts {
        host_mounts::remove(&record.rootfs, mounts)?;
    }
    intel_rdt::remove(&record.resctrl);
    // Read before it is gone, run after.
    let text = if record.poststop { dir.read_config()? } else { String::new() };
    root.remove(dir)?;
    if record.poststop {
        let spec = config::parse_spec(&text)?;
        let list = spec.hooks.as_ref().map(|hooks| plan::hooks_of("hooks.poststop", &hooks.poststop)).transpose()?;
        // The container is gone, and a hook that fails does not bring it back (runtime.md, Lifecycle 13).
        if let Err(error) = hooks::run_poststop(&list.unwrap_or_default(), &start::document(record)) {
            log::warn!("{error}");
        }
    }
    Ok(())
}

/// Without a record: config.json still says where the cgroup is, and who is in it.
fn salvage(root: &StateRoot, dir: &StateDir) -> Result<()> {
    let config = dir.read_config().unwrap_or_default();
    match config::parse_spec(&config) {
        Ok(spec) => {
            let path =
                spec.linux.as_ref().and_then(|linux| linux.cgroups_path.as_deref()).filter(|path| !path.is_empty());
            let place = cgroup::Host::detect()?.place(path, &dir.id)?;
            if let Some(cgroup) = place.open()? {
                cgroup.kill()?;
            }
            place.remove()?;
        }
        Err(error) => log::warn!("{error}: processes and a cgroup may be left"),
    }
    root.remove(dir)
}

fn end_companions(record: &Record<'_>) -> Result<()> {
    match record.cgroup.open()? {
        Some(cgroup) if !record.cgroup.is_disabled() && !cgroup.procs()?.is_empty() => Ok(cgroup.kill()?),
        _ => Ok(()),
    }
}
