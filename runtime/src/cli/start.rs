//! `proa start`.

use super::{App, with_record};
use crate::error::{Error, Result};
use crate::parent::start;
use crate::state::{Status, view};

pub(super) fn command(app: &App<'_>) -> Result<()> {
    with_record(app, |root, dir, record| {
        let refuse = |article, status| Error::Status { verb: "start", article, status, id: dir.id.clone() };
        match view(dir, record)? {
            (Status::Created, Some(init)) => start::start(root, dir, record, &init),
            (Status::Running, _) => Err(refuse("an already", "running")),
            (Status::Creating, _) => Err(refuse("a still", "creating")),
            (Status::Paused, _) => {
                Err(Error::Refused { what: "cannot start a container in the paused state", id: dir.id.clone() })
            }
            _ => Err(Error::Refused { what: "cannot start a container that has stopped", id: dir.id.clone() }),
        }
    })
}
