//! `proa delete`, of one container or several.

use super::{App, record_text};
use crate::error::{Error, Result};
use crate::parent::delete;
use crate::state::{Record, StateDir, StateRoot, check_id};

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let force = app.flag("force");
    let root = StateRoot::open(&app.root)?;
    let mut failed = None;
    for id in matching(app, usize::MAX)? {
        let done = match root.as_ref().map(|root| Ok::<_, Error>((root, root.find(&id)?))).transpose()? {
            Some((root, Some(dir))) => delete::delete(root, &dir, force),
            _ if force => Ok(()),
            _ => Err(Error::NoContainer(id)),
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

/// The ids on the command line, at most `limit` of them, or all that match with `--regex`.
pub(super) fn matching(app: &App<'_>, limit: usize) -> Result<Vec<String>> {
    let given: Vec<String> = app.parsed.args.iter().take(limit).map(|id| (*id).to_owned()).collect();
    if !app.flag("regex") {
        given.iter().try_for_each(|id| check_id(id))?;
        return Ok(given);
    }
    Err(Error::Usage("--regex is not supported by this version of proa".to_owned()))
}

/// Calls `with` for a container by its id.
pub(super) fn with_container<T>(
    app: &App<'_>,
    id: &str,
    with: impl FnOnce(&StateRoot, &StateDir, &Record<'_>) -> Result<T>,
) -> Result<T> {
    let root = StateRoot::open(&app.root)?.ok_or_else(|| Error::NoContainer(id.to_owned()))?;
    let dir = root.container(id)?;
    let text = record_text(&dir)?;
    let record = dir.parse(&text)?;
    with(&root, &dir, &record)
}
