//! Enables controllers from the top of a cgroup v2 hierarchy down to a container's cgroup.
//!
//! As far as that goes: a cgroup above that has processes of its own, or belongs to someone else, hands out what it
//! does already. A limit that then has no file to be written to is an error of its own.

use rustix::io::Errno;

use crate::error::{Context, Error};
use crate::files::{TEXT, read_text, write_text};
use crate::path::{join, parent};
use crate::place::Directory;

const OFFERED: &str = "cgroup.controllers";
const HANDED_DOWN: &str = "cgroup.subtree_control";

/// Makes all controllers of the mounted root available in `directory`. Two files are read where they are already, one
/// where there are none.
pub(crate) fn enable(directory: &Directory) -> Result<(), Error> {
    let mut buffer = [0; TEXT];
    let offered = read(&directory.mount, OFFERED, &mut buffer)?.to_owned();
    let mut offered = words(&offered);
    if offered.is_empty() {
        return Ok(());
    }
    let above = parent(&directory.path);
    if missing(&offered, read(&join(&directory.mount, above), HANDED_DOWN, &mut buffer)?).is_empty() {
        return Ok(());
    }
    for level in levels_above(directory) {
        let mut missing = missing(&offered, read(&level, HANDED_DOWN, &mut buffer)?);
        hand_down(&level, &mut missing);
        offered.retain(|name| !missing.contains(name));
    }
    Ok(())
}

/// Hands down whatever a cgroup has. It must have no processes.
pub(crate) fn hand_down_all(directory: &Directory) -> Result<(), Error> {
    let mut buffer = [0; TEXT];
    let offered = read(&directory.full(), OFFERED, &mut buffer)?.to_owned();
    hand_down(&directory.full(), &mut words(&offered));
    Ok(())
}

/// The same on a host whose controllers are in v1: hands down only what the root does already, since the root is the
/// machine's. Whether that may have changed anything. Fails silently: who needs a controller asks [`why_missing`].
pub(crate) fn enable_below_root(directory: &Directory) -> bool {
    let mut buffer = [0; TEXT];
    let Ok(offered) = read(&directory.mount, HANDED_DOWN, &mut buffer).map(str::to_owned) else { return false };
    let mut offered = words(&offered);
    for level in levels_above(directory).skip(1) {
        let mut missing = match read(&level, HANDED_DOWN, &mut buffer) {
            Ok(have) => missing(&offered, have),
            Err(_) => return false,
        };
        hand_down(&level, &mut missing);
        offered.retain(|name| !missing.contains(name));
    }
    !offered.is_empty()
}

/// Why a cgroup has not the files of a controller; `None` when it has the controller. `hybrid`: the root is not to be
/// touched.
pub(crate) fn why_missing(directory: &Directory, controller: &str, hybrid: bool) -> Option<Error> {
    let mut buffer = [0; TEXT];
    let mut has = |level: &str, file| match read_text(&format!("{level}/{file}"), &mut buffer) {
        Ok(text) => words(text).contains(&controller),
        Err(_) => false,
    };
    let path = directory.full();
    // Those of the cgroup itself have no controller.
    if controller == "cgroup" || has(&path, OFFERED) {
        return None;
    }
    let no =
        |reason: String| Some(Error::NoController { controller: controller.to_owned(), path: path.clone(), reason });
    if !has(&directory.mount, OFFERED) {
        return no(match hybrid {
            true => "cgroup v2 has it not on this machine; it may be one of cgroup v1".to_owned(),
            false => "cgroup v2 has it not on this machine".to_owned(),
        });
    }
    for (index, level) in levels_above(directory).enumerate() {
        let file = format!("{level}/{HANDED_DOWN}");
        if has(&level, HANDED_DOWN) {
            continue;
        }
        if hybrid && index == 0 {
            return no(format!("{file} has it not, and is the machine's"));
        }
        if has_processes(&level) {
            return no(format!("{level} has processes of its own, and so hands out no controllers"));
        }
        let text = format!("+{controller}");
        return match write_text(&file, &text) {
            Err(errno) => no(Error::sys(format!("write {text:?} to"), file, errno).to_string()),
            // Somebody else has just taken it away.
            Ok(()) => no(format!("{file} had it not")),
        };
    }
    no("it is a threaded cgroup, or one that a threaded cgroup makes unusable".to_owned())
}

/// The directories from the mount point to the one above `directory`.
fn levels_above(directory: &Directory) -> impl Iterator<Item = String> {
    let above = parent(&directory.path);
    let ends = above.match_indices('/').map(|(at, _)| at).chain((above != "/").then_some(above.len()));
    ends.map(move |end| join(&directory.mount, if end == 0 { "/" } else { &above[..end] }))
}

/// Whether processes are in this very cgroup, as far as that can be seen. Such a one, but for the root of all, can hand
/// out some controllers, and would turn threaded by it: what is below could then hold no container.
fn has_processes(level: &str) -> bool {
    let mut buffer = [0; TEXT];
    let populated = match read_text(&format!("{level}/cgroup.procs"), &mut buffer) {
        Ok(text) => !text.is_empty(),
        // More than fit, or those of a threaded cgroup, which cannot be listed.
        Err(errno) => matches!(errno, Errno::FBIG | Errno::OPNOTSUPP),
    };
    // The root of all has no type; that of a cgroup namespace has.
    populated && read_text(&format!("{level}/cgroup.type"), &mut buffer) != Err(Errno::NOENT)
}

/// Enables `names` for the children of the cgroup `level`; those that cannot be are left in `names`.
fn hand_down(level: &str, names: &mut Vec<&str>) {
    let file = format!("{level}/{HANDED_DOWN}");
    let enable = |names: &[&str]| {
        let text = names.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
        write_text(&file, &text).inspect_err(|errno| log::debug!("write {text:?} to {file}: {errno}"))
    };
    if names.is_empty() || has_processes(level) {
        return;
    }
    // All or nothing; if nothing, see which.
    if enable(names).is_ok() {
        names.clear();
    } else if names.len() > 1 {
        names.retain(|name| enable(&[name]).is_err());
    }
}

fn read<'b>(level: &str, name: &str, buffer: &'b mut [u8; TEXT]) -> Result<&'b str, Error> {
    let file = format!("{level}/{name}");
    match read_text(&file, buffer) {
        // The root of a bind mount, or a kernel, without it.
        Err(Errno::NOENT) => Ok(""),
        result => result.context("read", &file),
    }
}

fn words(text: &str) -> Vec<&str> {
    text.split_ascii_whitespace().collect()
}

fn missing<'o>(offered: &[&'o str], handed_down: &str) -> Vec<&'o str> {
    let have = words(handed_down);
    offered.iter().copied().filter(|name| !have.contains(name)).collect()
}
