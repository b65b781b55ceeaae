//! Whose ids a container with a user namespace sees in the layers of its root: containerd says it with the options
//! `uidmap=` and `gidmap=` of an overlay.

use std::fs;
use std::io;
use std::os::fd::OwnedFd;

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

/// A user namespace that nobody is in.
///
/// # Errors
/// The kernel takes no such maps.
pub(crate) fn namespace(maps: &Maps) -> io::Result<OwnedFd> {
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
