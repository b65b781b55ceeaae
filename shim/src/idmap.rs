//! The layers of an overlay as a container with a user namespace sees them: with other owners, by idmapped mounts
//! (mount_setattr(2), Linux 5.12). containerd asks for it with the options `uidmap=` and `gidmap=`.

use std::fs;
use std::io;
use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use nix::mount::{MsFlags, mount};
use rustix::fs::CWD;
use rustix::mount::{MoveMountFlags, OpenTreeFlags, move_mount, open_tree};

use crate::sys;

/// Lines of uid_map and gid_map, user_namespaces(7).
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Maps {
    uids: String,
    gids: String,
}

impl Maps {
    /// Reads `container:host:size`, with commas between several.
    ///
    /// # Errors
    /// One line: the option.
    pub(crate) fn parse(uids: &str, gids: &str) -> Result<Maps, String> {
        Ok(Maps { uids: lines("uidmap", uids)?, gids: lines("gidmap", gids)? })
    }
}

fn lines(option: &str, text: &str) -> Result<String, String> {
    let mut lines = String::new();
    for map in text.split(',') {
        let numbers: Vec<u32> = map.split(':').map_while(|number| number.parse().ok()).collect();
        let [container, host, size] = numbers[..] else {
            return Err(format!("rootfs: mount option {option}={text:?}: not container:host:size"));
        };
        lines.push_str(&format!("{container} {host} {size}\n"));
    }
    Ok(lines)
}

/// The data of an overlay whose lower directories are mapped. The mapped mounts are on a tmpfs on `place`, where the
/// overlay will cover them. For a mount namespace of one's own.
///
/// # Errors
/// The kernel, or a file system of a layer, cannot.
pub(crate) fn lower(data: &[String], maps: &Maps, place: &Path) -> io::Result<Vec<String>> {
    let namespace = namespace(maps)?;
    mount(Some("layers"), place, Some("tmpfs"), MsFlags::empty(), Some("mode=0755"))?;
    let mut number = 0;
    let mut mapped = Vec::with_capacity(data.len());
    for option in data {
        let Some(layers) = option.strip_prefix("lowerdir=") else {
            mapped.push(option.clone());
            continue;
        };
        let mut paths = Vec::new();
        for layer in layers.split(':') {
            let tree = open_tree(CWD, layer, OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC)?;
            sys::map_ids(tree.as_fd(), namespace.as_fd())?;
            let path = place.join(number.to_string());
            number += 1;
            fs::create_dir(&path)?;
            move_mount(tree, "", CWD, &path, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
            paths.push(path.display().to_string());
        }
        mapped.push(format!("lowerdir={}", paths.join(":")));
    }
    Ok(mapped)
}

/// A user namespace that nobody is in.
fn namespace(maps: &Maps) -> io::Result<OwnedFd> {
    let holder = sys::user_namespace_holder()?;
    let proc = format!("/proc/{}", holder.pid());
    fs::write(format!("{proc}/uid_map"), &maps.uids)?;
    fs::write(format!("{proc}/gid_map"), &maps.gids)?;
    Ok(fs::File::open(format!("{proc}/ns/user"))?.into())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn maps_are_read() {
        let maps = Maps::parse("0:65536:65536", "0:1:2,5:6:7").unwrap();
        assert_eq!((maps.uids.as_str(), maps.gids.as_str()), ("0 65536 65536\n", "0 1 2\n5 6 7\n"));
        assert!(Maps::parse("0:1", "0:1:2").unwrap_err().contains("uidmap"));
    }
}
