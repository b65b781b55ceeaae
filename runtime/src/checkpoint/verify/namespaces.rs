//! The namespaces of restored processes.

use crate::child::Entry;
use crate::error::{Context, Result, bad};
use crate::plan::{IdMapping, NAMESPACES, Plan};
use rustix::fs::{fstat, stat};

const SYS_ADMIN: u64 = 1 << 21;

/// Each is new where config.json says so, that which it names, or the host's. A process that is allowed to may have made
/// others since, of which nobody knows what they were like; but never a user namespace, in which everything is allowed.
pub(super) fn check(plan: &Plan, entries: &[Entry], init: i32, process: i32) -> Result<()> {
    let may_make = plan.process.as_ref().is_some_and(|of| of.capabilities.bounding.0 & SYS_ADMIN != 0);
    for (word, flag, file) in NAMESPACES {
        let own = inode(&format!("/proc/self/ns/{file}"))?;
        let Some(found) = inode(&format!("/proc/{process}/ns/{file}"))? else { continue };
        let problem = |what: &str| {
            let problem = format!("process {process} of the checkpoint is in another {word} namespace than {what}");
            Err(bad("linux.namespaces", problem))
        };
        if process != init {
            let first = inode(&format!("/proc/{init}/ns/{file}"))?;
            if Some(found) == first || (may_make && flag != libc::CLONE_NEWUSER && Some(found) != own) {
                continue;
            }
            return problem("the container's");
        }
        let joined = entries.iter().find(|entry| entry.kind == flag);
        match joined {
            Some(entry) => {
                let wanted = fstat(&entry.fd).context(|| format!("stat the {word} namespace"))?.st_ino;
                if found != wanted {
                    return problem("the one that is named");
                }
            }
            // CRIU sets the clocks by one of its own.
            None if flag == libc::CLONE_NEWTIME => {}
            None if plan.namespaces.has_new(flag) && Some(found) == own => return problem("a new one"),
            None if !plan.namespaces.has_new(flag) && Some(found) != own => return problem("the host's"),
            None => {}
        }
    }
    match &plan.namespaces.ids {
        Some(ids) if process == init => {
            check_map(init, "uid_map", "linux.uidMappings", &ids.uid)?;
            check_map(init, "gid_map", "linux.gidMappings", &ids.gid)
        }
        _ => Ok(()),
    }
}

/// None: the kernel has no such namespaces.
fn inode(path: &str) -> Result<Option<u64>> {
    match stat(path) {
        Err(rustix::io::Errno::NOENT) => Ok(None),
        stat => stat.map(|stat| Some(stat.st_ino)).context(|| format!("stat {path}")),
    }
}

fn check_map(init: i32, file: &str, property: &str, wanted: &[IdMapping]) -> Result<()> {
    let path = format!("/proc/{init}/{file}");
    let text = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let mut found: Vec<Vec<u32>> =
        text.lines().map(|line| line.split_whitespace().filter_map(|word| word.parse().ok()).collect()).collect();
    let mut wanted: Vec<Vec<u32>> = wanted.iter().map(|map| vec![map.container, map.host, map.size]).collect();
    found.sort_unstable();
    wanted.sort_unstable();
    match found == wanted {
        true => Ok(()),
        false => Err(bad(property, format_args!("the checkpoint has other ids: {:?}", text.trim()))),
    }
}
