//! `proa delete`, of one container or several.

use super::App;
use crate::error::{Error, Result};
use crate::parent::delete;
use crate::state::{StateRoot, check_id};

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let force = app.flag("force");
    let root = StateRoot::open(&app.root)?;
    let mut failed = None;
    let ids = &app.parsed.args;
    ids.iter().try_for_each(|id| check_id(id))?;
    for id in ids {
        let done = match root.as_ref().map(|root| Ok::<_, Error>((root, root.find(id)?))).transpose()? {
            Some((root, Some(dir))) => delete::delete(root, &dir, force),
            _ if force => Ok(()),
            _ => Err(Error::NoContainer((*id).to_owned())),
        };
        // The others are deleted all the same.
        if let Err(error) = done
            && let Some(earlier) = failed.replace(error)
        {
            log::error!("{earlier}");
        }
    }
    failed.map_or(Ok(()), Err)
}
