//! Where a container is in its life (runtime.md, State), asked from the kernel each time.

use super::dir::StateDir;
use super::process::Process;
use super::record::{Record, SocketName};
use crate::error::Result;

/// config: creating, created, running, stopped are the spec's; paused is runc's.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Status {
    Creating,
    Created,
    Running,
    Paused,
    Stopped,
}

impl Status {
    pub(crate) fn word(self) -> &'static str {
        match self {
            Status::Creating => "creating",
            Status::Created => "created",
            Status::Running => "running",
            Status::Paused => "paused",
            Status::Stopped => "stopped",
        }
    }
}

/// A container's status with its init process, if that lives.
pub(crate) fn view(dir: &StateDir, record: &Record<'_>) -> Result<(Status, Option<Process>)> {
    let Some(process) = record.init.map(|init| init.open(record)).transpose()?.flatten() else {
        let creating = record.init.is_none() && dir.is_locked();
        return Ok((if creating { Status::Creating } else { Status::Stopped }, None));
    };
    let executed = process.stat.has_executed();
    let created = !executed && dir.exists(SocketName::CREATED);
    if !executed && !created {
        return Ok((Status::Creating, Some(process)));
    }
    let status = match record.cgroup.open()? {
        Some(cgroup) if cgroup.is_frozen()? => Status::Paused,
        _ if created => Status::Created,
        _ => Status::Running,
    };
    Ok((status, Some(process)))
}
