//! `proa pause` and `proa resume`.

use super::{App, with_record};
use crate::error::{Error, Result};
use crate::state::{Status, view};

pub(super) fn pause(app: &App<'_>) -> Result<()> {
    let allowed = |status| matches!(status, Status::Running | Status::Created);
    change(app, allowed, "container not running", |cgroup| cgroup.freeze())
}

pub(super) fn resume(app: &App<'_>) -> Result<()> {
    change(app, |status| status == Status::Paused, "container not paused", |cgroup| cgroup.thaw())
}

/// `refusal` is for any other status, in runc's words.
fn change(
    app: &App<'_>,
    allowed: impl Fn(Status) -> bool,
    refusal: &'static str,
    with: impl Fn(&cgroup::Cgroup) -> std::result::Result<(), cgroup::Error>,
) -> Result<()> {
    with_record(app, |_, dir, record| {
        let (status, _) = view(dir, record)?;
        if !allowed(status) {
            return Err(Error::Refused { what: refusal, id: dir.id.clone() });
        }
        if record.cgroup.is_disabled() {
            return Err(Error::Usage(format!("container {} has no cgroup to pause or resume it by", dir.id)));
        }
        match record.cgroup.open()? {
            Some(cgroup) => Ok(with(&cgroup)?),
            None => Err(Error::NotRunning(dir.id.clone())),
        }
    })
}
