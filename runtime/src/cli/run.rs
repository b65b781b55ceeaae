//! `proa run`: create, start and, in the foreground, stay until the end.

use super::App;
use super::create::Setup;
use crate::error::{Context, Error, Result};
use crate::parent::attach::{Foreground, Signals, Terminal};
use crate::parent::create::{self, Created};
use crate::parent::delete;
use crate::parent::limits;
use crate::parent::notify::Notify;
use crate::state::{Process, StateDir, StateRoot};
use crate::sys;
use rustix::fd::{AsFd, OwnedFd};
use std::mem::ManuallyDrop;

pub(super) fn command(app: &App<'_>) -> Result<i32> {
    let detach = app.flag("detach");
    let (setup, plan, channels) = Setup::new(app, detach)?;
    let root = ManuallyDrop::new(StateRoot::create(&app.root)?);
    let signals = if detach { None } else { Some(Signals::block()?) };
    if !detach && !app.flag("no-subreaper") {
        sys::set_child_subreaper().context(|| "become the reaper of the container's orphans".to_owned())?;
    }
    let mut created = setup.create(plan, channels, &root, true)?;
    let (notify, terminal) = match start(&setup, &mut created) {
        Ok(started) => started,
        Err(error) => return Err(created.take_back(error)),
    };
    let Created { plan, pid, undo, channel, .. } = created;
    let (Some(dir), Some(pidfd)) = undo.disarm() else { return Err(Error::NoContainer(plan.id)) };
    if let Err(error) = create::poststart(&plan, pid) {
        end(&root, &dir, &pidfd)?;
        return Err(error);
    }
    let Some(signals) = signals else {
        if let Some(notify) = notify {
            notify.wait(pid, &pidfd)?;
        }
        return Ok(0);
    };
    dir.unlock()?;
    let status = Foreground { signals, pid, pidfd: pidfd.as_fd(), terminal, notify }.relay();
    if !app.flag("keep") {
        destroy(&root, &dir)?;
    }
    // The command is over: the kernel closes them.
    std::mem::forget((channel, pidfd, dir));
    status
}

/// Has the container's program run.
fn start(setup: &Setup, created: &mut Created<'_>) -> Result<(Option<Notify>, Option<Terminal>)> {
    setup.announce(created.pid, &mut created.undo)?;
    if created.plan.process.is_none() {
        return Err(Error::Child("process: not set in config.json".to_owned()));
    }
    let notify = created.undo.dir.as_ref().map(Notify::bind).transpose()?.flatten();
    let terminal = created.console.take().filter(|_| setup.terminal()).map(Terminal::new).transpose()?;
    match create::go(&created.channel) {
        Ok(()) => Ok((notify, terminal)),
        Err(None) if created.undo.cgroup.as_ref().is_some_and(limits::was_out_of_memory) => Err(Error::OutOfMemory),
        Err(failure) => Err(create::describe_failure(&created.plan, failure.as_ref())),
    }
}

fn end(root: &StateRoot, dir: &StateDir, pidfd: &OwnedFd) -> Result<()> {
    sys::send_signal(pidfd.as_fd(), libc::SIGKILL).ok();
    Process::wait_end_of(pidfd)?;
    destroy(root, dir)
}

pub(super) fn destroy(root: &StateRoot, dir: &StateDir) -> Result<()> {
    // Someone else may have deleted it meanwhile, or be about to.
    dir.lock()?;
    let Some(text) = dir.read()? else { return Ok(()) };
    delete::destroy(root, dir, &dir.parse(&text)?)
}
