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
    let ends = above.match_indices('/').map(|(at, _)| at).chain((above != "/").then_some(above.len()));
    for end in ends {
        let level = join(&directory.mount, if end == 0 { "/" } else { &above[..end] });
        let mut missing = missing(&offered, read(&level, HANDED_DOWN, &mut buffer)?);
        hand_down(&level, &mut missing);
        offered.retain(|name| !missing.contains(name));
    }
    Ok(())
}

/// Enables `names` for the children of the cgroup `level`; those that cannot be are left in `names`.
fn hand_down(level: &str, names: &mut Vec<&str>) {
    let file = format!("{level}/{HANDED_DOWN}");
    let enable = |names: &[&str]| {
        let text = names.iter().map(|name| format!("+{name}")).collect::<Vec<_>>().join(" ");
        write_text(&file, &text).inspect_err(|errno| log::debug!("write {text:?} to {file}: {errno}"))
    };
    // All or nothing; if nothing, see which.
    if names.is_empty() || enable(names).is_ok() {
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
