//! Whether restored processes are no more than config.json lets them be. They came out of files that anybody may have
//! written, so everything that confines them is asked of the kernel, while they are held still.

mod filesystem;
mod held;
mod identity;
mod namespaces;
mod status;

pub(super) use held::Held;

use crate::child::Entry;
use crate::error::Result;
use crate::plan::Plan;

/// # Errors
/// The first property of config.json that a process does not keep to.
pub(super) fn all(plan: &Plan, entries: &[Entry], init: i32, held: &Held) -> Result<()> {
    let expected = identity::Expected::new(plan, init)?;
    for process in held.processes() {
        namespaces::check(plan, entries, init, process)?;
        for thread in held.threads_of(process) {
            expected.check(process, thread)?;
        }
        identity::check_process(plan, process)?;
    }
    filesystem::check(plan, init)
}
