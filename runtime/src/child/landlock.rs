//! Restricting the process by Landlock.

use super::{Result, property};
use crate::plan::{Landlock, Process};
use crate::sync::Item;
use crate::sys;
use rustix::fd::AsFd;
use rustix::fs::{CWD, FileType, Mode, OFlags, fstat, openat};

/// Those of LANDLOCK_ACCESS_FS_* that mean something for what is no directory: execute, write_file, read_file, truncate,
/// ioctl_dev. The kernel takes no others for it.
const OF_FILES: u64 = 0b1100_0000_0000_0111;

/// Puts the rules into force, if there are any. What follows in this process, and the hooks of the container, are under
/// them too.
pub(crate) fn restrict(process: &Process) -> Result<()> {
    let Some(Landlock { handled, rules }) = &process.landlock else { return Ok(()) };
    let ruleset = property("landlock: make the rules", sys::landlock_ruleset(*handled))?;
    for (index, rule) in rules.iter().enumerate() {
        let item = Item::Landlock(index as u16);
        let file = item.at("open", openat(CWD, &*rule.path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()))?;
        let directory = FileType::from_raw_mode(item.at("look at", fstat(&file))?.st_mode) == FileType::Directory;
        let access = if directory { rule.access } else { rule.access & OF_FILES };
        if access != 0 {
            item.at("allow", sys::landlock_allow(ruleset.as_fd(), file.as_fd(), access))?;
        }
    }
    property("landlock: put the rules into force", sys::landlock_restrict(ruleset.as_fd()))
}
