//! `proa restore`: as `run`, of a container that has been saved.

use super::App;
use super::checkpoint::flags;
use super::create::Setup;
use super::run::destroy;
use crate::checkpoint::Restored;
use crate::error::{Context, Error, Result};
use crate::parent::attach::{Foreground, Signals, Terminal};
use crate::state::StateRoot;
use crate::sys;
use rustix::fd::AsFd;

pub(super) fn command(app: &App<'_>) -> Result<i32> {
    let detach = app.flag("detach");
    let flags = flags(app)?;
    let (setup, plan, channels) = Setup::new(app, detach)?;
    let root = StateRoot::create(&app.root)?;
    let signals = if detach { None } else { Some(Signals::block()?) };
    if !detach && !app.flag("no-subreaper") {
        sys::set_child_subreaper().context(|| "become the reaper of the container's orphans".to_owned())?;
    }
    let mut restored = setup.restore(app, plan, channels, &root, &flags)?;
    let terminal = match release(&setup, &mut restored) {
        Ok(terminal) => terminal,
        Err(error) => return Err(restored.take_back(error)),
    };
    let Restored { plan, pid, undo, .. } = restored;
    let (Some(dir), Some(pidfd)) = undo.disarm() else { return Err(Error::NoContainer(plan.id)) };
    let Some(signals) = signals else { return Ok(0) };
    dir.unlock()?;
    let status = Foreground { signals, pid, pidfd: pidfd.as_fd(), terminal, notify: None }.relay();
    destroy(&root, &dir)?;
    status
}

/// The last steps: from here on the container is.
fn release(setup: &Setup, restored: &mut Restored<'_>) -> Result<Option<Terminal>> {
    setup.announce(restored.pid, &mut restored.undo)?;
    let terminal = restored.console.take().map(Terminal::new).transpose()?;
    restored.release()?;
    Ok(terminal)
}
