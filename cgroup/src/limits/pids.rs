//! The `pids` controller: how many processes and threads there may be. The same file in v1 and v2.

use super::controller::Controller;
use crate::error::Error;
use crate::resources::Limit;

/// Zero is a limit too: those there are go on, and no other is made.
pub(crate) fn apply(files: &Controller<'_>, limit: Limit) -> Result<(), Error> {
    files.set("pids.limit", "pids.max", limit)
}
