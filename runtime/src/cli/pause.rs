//! `proa pause` and `proa resume`.

use super::{App, with_record};
use crate::error::{Error, Result};
use crate::state::{Status, view};

pub(super) fn pause(app: &App<'_>) -> Result<()> {
    change(app, |status| matches!(status, Status::Running | Status::Created), "pause", |cgroup| cgroup.freeze())
}

pub(super) fn resume(app: &App<'_>) -> Result<()> {
    change(app, |status| status == Status::Paused, "resume", |cgroup| cgroup.thaw())
}

fn change(
    app: &App<'_>,
    allowed: impl Fn(Status) -> bool,
    verb: &'static str,
    with: impl Fn(&cgroup::Cgroup) -> std::result::Result<(), cgroup::Error>,
) -> Result<()> {
    with_record(app, |_, dir, record| {
        let (status, _) = view(dir, record)?;
        if !allowed(status) {
            let article = if status == Status::Stopped { "a" } else { "an already" };
            let article = if matches!(status, Status::Running | Status::Created) { "a" } else { article };
            return Err(Error::Status { verb, article, status: status.word(), id: dir.id.clone() });
        }
        if record.cgroup.is_disabled() {
            return Err(Error::Usage(format!("cannot {verb} container {}: it has no cgroup", dir.id)));
        }
        match record.cgroup.open()? {
            Some(cgroup) => Ok(with(&cgroup)?),
            None => Err(Error::NotRunning(dir.id.clone())),
        }
    })
}
