//! The writable layer of a root of layers: one container at a time, and none of an earlier boot if it was volatile.
//!
//! Overlayfs only warns of two mounts that write to one directory, and what they write is undefined then.

use crate::error::{Context, Error, Result, bad};
use crate::plan::{Plan, WRITABLE_ANNOTATION};
use crate::state::{self, ProcessStat};
use rustix::fd::OwnedFd;
use rustix::fs::{CWD, FlockOperation, Mode, OFlags, RenameFlags, flock, open, renameat_with};
use rustix::io::Errno;
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
pub(crate) fn claim(plan: &Plan) -> Result<Option<OwnedFd>> {
    let Some((writable, is_volatile)) = of(plan) else { return Ok(None) };
    let wrong = |error| bad(format_args!("annotations[{WRITABLE_ANNOTATION:?}]"), error);
    let Some(Lock { fd, of_this_boot }) = lock(&writable).map_err(wrong)? else { return Ok(None) };
    // What the kernel leaves there, so that it takes the layer for damaged until somebody says that it is not; after a
    // crash of the machine it may be.
    if is_volatile && writable.join("work").join("work/incompat/volatile").exists() {
        if !of_this_boot {
            log::warn!("{}: what was written before this boot is dropped, since it was volatile", writable.display());
            renew(&writable, "upper")?;
        }
        renew(&writable, "work")?;
    }
    Ok(Some(fd))
}

/// Nobody else can write as long as this lives.
pub(crate) struct Lock {
    fd: OwnedFd,
    /// The last who wrote is known to have done so since the machine was started.
    of_this_boot: bool,
}

/// Locks the directory that holds the upper one, if it is there.
///
/// # Errors
/// A container writes there, or is about to.
pub(crate) fn lock(writable: &Path) -> Result<Option<Lock>> {
    let what = || format!("lock {}", writable.display());
    let fd = match open(writable, OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty()) {
        Err(Errno::NOENT) => return Ok(None),
        opened => opened.context(what)?,
    };
    flock(&fd, FlockOperation::NonBlockingLockExclusive).context(what)?;
    let owner = match fs::read_to_string(writable.join(OWNER)) {
        Err(error) if error.kind() == ErrorKind::NotFound => String::new(),
        owner => owner.context(|| format!("read {}", writable.join(OWNER).display()))?,
    };
    let mut words = owner.split_ascii_whitespace();
    let pid = words.next().and_then(|word| word.parse::<i32>().ok());
    let start = words.next().and_then(|word| word.parse::<u64>().ok());
    let of_this_boot = words.next() == Some(state::boot_id()?);
    if let (Some(pid), true) = (pid, of_this_boot)
        && let Some(stat) = ProcessStat::read(pid)?
        && Some(stat.start_time) == start
        && !stat.has_ended()
    {
        let problem = format!("the container whose init is process {pid} writes to {}", writable.display());
        return Err(Error::Usage(problem));
    }
    Ok(Some(Lock { fd, of_this_boot }))
}

/// Once there is an init.
///
/// # Errors
/// The file cannot be written.
pub(crate) fn claimed(plan: &Plan, init: state::Init) -> Result<()> {
    let Some((writable, _)) = of(plan) else { return Ok(()) };
    let (path, new) = (writable.join(OWNER), writable.join("owner.new"));
    let text = format!("{} {} {}\n", init.pid, init.start_time, state::boot_id()?);
    // Whole or not at all; what a crash of the machine makes of it counts as written before this boot.
    fs::write(&new, text).and_then(|()| fs::rename(&new, &path)).context(|| format!("write {}", path.display()))
}

/// The directory that holds the upper one, and whether it is volatile.
fn of(plan: &Plan) -> Option<(PathBuf, bool)> {
    let layers = plan.root.layers.as_ref()?;
    let upper = layers.writable.as_ref()?.upper.to_string();
    let is_volatile = layers.options.iter().any(|option| &*option.name == c"volatile");
    Some((Path::new(&upper).parent()?.to_owned(), is_volatile))
}

/// An empty directory in the place of a full one, with its owner and mode; at no moment is there none.
fn renew(writable: &Path, name: &str) -> Result<()> {
    let (path, new) = (writable.join(name), writable.join("new"));
    let what = || format!("renew {}", path.display());
    let like = fs::symlink_metadata(&path).context(what)?;
    if !like.is_dir() {
        return Err(Error::Usage(format!("{} is no directory", path.display())));
    }
    // A killed call may have left it.
    rootfs::remove_all(&new).context(what)?;
    fs::create_dir(&new).context(what)?;
    chown(&new, Some(like.uid()), Some(like.gid())).context(what)?;
    fs::set_permissions(&new, fs::Permissions::from_mode(like.mode() & 0o7777)).context(what)?;
    renameat_with(CWD, &new, CWD, &path, RenameFlags::EXCHANGE).context(what)?;
    // Overlayfs makes it so that only root can look into it.
    let inner = new.join("work");
    match fs::symlink_metadata(&inner) {
        Ok(found) if found.is_dir() => fs::set_permissions(&inner, fs::Permissions::from_mode(0o700)).context(what)?,
        Err(error) if error.kind() != ErrorKind::NotFound => Err(error).context(what)?,
        _ => {}
    }
    rootfs::remove_all(&new).context(what)
}
