//! Stops and continues all processes of a cgroup, by cgroup.freeze of v2 or the freezer controller of v1.

use std::time::Duration;

use rustix::io::Errno;

use crate::deadline::Deadline;
use crate::error::{Context, Error};
use crate::files::{TEXT, read_text, write_text};
use crate::place::{Directory, Place};
use crate::remove::wait_for;
use crate::walk;

/// How long processes may take to freeze: those in an uninterruptible sleep freeze when they wake.
const PATIENCE: Duration = Duration::from_secs(5);
/// The same where the processes are to be killed, and again if this was too short.
const HOLD: Duration = Duration::from_millis(50);
/// After how many looks a v1 cgroup that does not get there runs for a moment, to unlock what its processes wait for.
const LOOKS: u32 = 40;

/// The directory that freezes: that of the v1 controller where the host has it in v1, else that of v2.
fn freezer(place: &Place) -> Result<&Directory, Error> {
    let v1 = place.v1.iter().find(|directory| directory.has("freezer"));
    v1.or(place.unified.as_ref()).ok_or(Error::NoFreezer)
}

/// Freezes, and returns when all have; thawed again when they do not in time.
pub(crate) fn freeze(place: &Place) -> Result<(), Error> {
    let directory = freezer(place)?;
    let frozen = match directory.controllers.is_empty() {
        true => freeze_v2(directory),
        false => freeze_v1(directory, PATIENCE),
    };
    if matches!(frozen, Ok(true)) {
        return Ok(());
    }
    let thawed = thaw_directory(directory);
    frozen?;
    thawed?;
    Err(Error::FreezeTimeout { path: directory.full(), waited: PATIENCE })
}

fn freeze_v2(directory: &Directory) -> Result<bool, Error> {
    let file = directory.file("cgroup.freeze");
    write_text(&file, "1").context("write \"1\" to", &file)?;
    wait_for(directory, "frozen 1", &mut Deadline::after(PATIENCE))
}

/// Writes FROZEN again and again: a process that was just born when the others froze is only caught by the next.
fn freeze_v1(directory: &Directory, patience: Duration) -> Result<bool, Error> {
    let file = directory.file("freezer.state");
    let mut deadline = Deadline::after(patience);
    for look in 1u32.. {
        write_text(&file, "FROZEN").context("write \"FROZEN\" to", &file)?;
        if read_text(&file, &mut [0; TEXT]).context("read", &file)? == "FROZEN" {
            return Ok(true);
        }
        if look % LOOKS == 0 {
            write_text(&file, "THAWED").context("write \"THAWED\" to", &file)?;
        }
        if !deadline.pause() {
            break;
        }
    }
    Ok(false)
}

/// Thaws. Processes that a cgroup above keeps frozen stay so.
pub(crate) fn thaw(place: &Place) -> Result<(), Error> {
    thaw_directory(freezer(place)?)
}

/// Thaws what the v1 freezer may have frozen, with all below: other than on v2, a frozen process there does not die when
/// killed.
pub(crate) fn thaw_v1(place: &Place) -> Result<(), Error> {
    place.v1.iter().find(|directory| directory.has("freezer")).map_or(Ok(()), thaw_all_v1)
}

/// Freezes with the v1 freezer, if there is one, what can be in a moment. The caller thaws.
pub(crate) fn hold_v1(place: &Place) -> Result<(), Error> {
    if let Some(directory) = place.v1.iter().find(|directory| directory.has("freezer")) {
        freeze_v1(directory, HOLD)?;
    }
    Ok(())
}

fn thaw_directory(directory: &Directory) -> Result<(), Error> {
    let (name, text) = match directory.controllers.is_empty() {
        true => ("cgroup.freeze", "0"),
        false => ("freezer.state", "THAWED"),
    };
    let file = directory.file(name);
    match write_text(&file, text) {
        Err(Errno::NOENT | Errno::NODEV) => Ok(()),
        result => result.context(&format!("write {text:?} to"), &file),
    }
}

/// The same of all cgroups below too, which a container may have frozen itself.
fn thaw_all_v1(directory: &Directory) -> Result<(), Error> {
    thaw_directory(directory)?;
    walk::write_below(&directory.full(), c"freezer.state", "THAWED")
}

/// Whether the cgroup has been told to freeze, itself and not by one above it.
pub(crate) fn place_is_frozen(place: &Place) -> Result<bool, Error> {
    match freezer(place) {
        Ok(directory) => is_frozen(directory),
        Err(Error::NoFreezer) => Ok(false),
        Err(error) => Err(error),
    }
}

/// The same of one directory; one without a freezer is not frozen.
pub(crate) fn is_frozen(directory: &Directory) -> Result<bool, Error> {
    let name = match directory.controllers.as_str() {
        "" => "cgroup.freeze",
        _ if directory.has("freezer") => "freezer.self_freezing",
        _ => return Ok(false),
    };
    let file = directory.file(name);
    match read_text(&file, &mut [0; TEXT]) {
        Ok(text) => Ok(text == "1"),
        Err(Errno::NOENT | Errno::NODEV) => Ok(false),
        Err(errno) => Err(errno).context("read", &file),
    }
}
