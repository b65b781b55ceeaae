//! The writable layer of a root of layers: one container at a time, and none of an earlier boot if it was volatile.
//!
//! Overlayfs only warns of two mounts that write to one directory, and what they write is undefined then.

use crate::error::{Context, Error, Result, bad};
use crate::plan::{Plan, WRITABLE_ANNOTATION};
use crate::state::{self, ProcessStat};
use rustix::fd::OwnedFd;
use rustix::fs::{FlockOperation, Mode, OFlags, flock, open};
use std::fs;
use std::io::ErrorKind;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::path::{Path, PathBuf};

/// Says who writes: `PID START BOOT`.
const OWNER: &str = "owner";

/// Before anything is mounted. The claim is to be kept until [`claimed`].
///
/// # Errors
/// A container writes there. What is left of an earlier one cannot be cleared.
pub(super) fn claim(plan: &Plan) -> Result<Option<OwnedFd>> {
    let Some((writable, is_volatile)) = of(plan) else { return Ok(None) };
    let what = || format!("lock {}", writable.display());
    let lock = open(&writable, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()).context(what)?;
    flock(&lock, FlockOperation::NonBlockingLockExclusive).context(what)?;
    let owner = fs::read_to_string(writable.join(OWNER)).unwrap_or_default();
    let mut words = owner.split_ascii_whitespace();
    let pid = words.next().and_then(|word| word.parse::<i32>().ok());
    let start = words.next().and_then(|word| word.parse::<u64>().ok());
    let same_boot = words.next() == Some(&*state::boot_id()?);
    if let (Some(pid), true) = (pid, same_boot)
        && let Some(stat) = ProcessStat::read(pid)?
        && Some(stat.start_time) == start
        && !stat.has_ended()
    {
        let problem = format_args!("the container whose init is process {pid} writes to {}", writable.display());
        return Err(bad(format_args!("annotations[{WRITABLE_ANNOTATION:?}]"), problem));
    }
    if is_volatile {
        // The kernel takes it for damaged until somebody says that it is not; after a crash it may be.
        if !owner.is_empty() && !same_boot {
            log::warn!("{}: what was written before this boot is dropped, since it was volatile", writable.display());
            renew(&writable.join("upper"))?;
        }
        if !owner.is_empty() {
            renew(&writable.join("work"))?;
        }
    }
    Ok(Some(lock))
}

/// Once there is an init.
///
/// # Errors
/// The file cannot be written.
pub(super) fn claimed(plan: &Plan, init: state::Init) -> Result<()> {
    let Some((writable, _)) = of(plan) else { return Ok(()) };
    let path = writable.join(OWNER);
    let text = format!("{} {} {}\n", init.pid, init.start_time, state::boot_id()?);
    fs::write(&path, text).context(|| format!("write {}", path.display()))
}

/// The directory that holds the upper one, and whether it is volatile.
fn of(plan: &Plan) -> Option<(PathBuf, bool)> {
    let layers = plan.root.layers.as_ref()?;
    let upper = layers.writable.as_ref()?.upper.to_string();
    let is_volatile = layers.options.iter().any(|option| &*option.name == c"volatile");
    Some((Path::new(&upper).parent()?.to_owned(), is_volatile))
}

/// An empty directory in the place of a full one, with its owner and mode.
fn renew(path: &Path) -> Result<()> {
    let what = || format!("renew {}", path.display());
    let like = fs::symlink_metadata(path).context(what)?;
    if !like.is_dir() {
        return Err(Error::Usage(format!("{} is no directory", path.display())));
    }
    // Overlayfs makes it so that only root can look into it.
    let inner = path.join("work");
    match fs::symlink_metadata(&inner) {
        Ok(found) if found.is_dir() => fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).context(what)?,
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(what)?,
        _ => {}
    }
    fs::remove_dir_all(path).context(what)?;
    fs::create_dir(path).context(what)?;
    chown(path, Some(like.uid()), Some(like.gid())).context(what)?;
    fs::set_permissions(path, fs::Permissions::from_mode(like.mode() & 0o7777)).context(what)
}
