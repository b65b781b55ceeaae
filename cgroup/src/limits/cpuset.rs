//! The `cpuset` controller: on which processors, with memory of which nodes. The same files in v1 and v2.
//!
//! That a v1 cpuset has any before the first process comes is creation's business (`crate::cpuset`).

use super::controller::Controller;
use crate::error::Error;
use crate::resources::Cpu;

/// Both lists.
pub(crate) fn apply(files: &Controller<'_>, cpu: &Cpu) -> Result<(), Error> {
    if let Some(cpus) = &cpu.cpus {
        files.set("cpu.cpus", "cpuset.cpus", cpus)?;
    }
    if let Some(mems) = &cpu.mems {
        files.set("cpu.mems", "cpuset.mems", mems)?;
    }
    Ok(())
}
