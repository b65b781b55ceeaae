//! Who `User` of an image is: numbers, or names that the image's own /etc/passwd and /etc/group know.

use crate::error::{Context, Result, bad};
use rustix::fd::BorrowedFd;
use rustix::fs::{FileType, OFlags, fstat};
use rustix::io::Errno;
use serde::Serialize;
use std::fs::File;
use std::io::Read;
use std::os::fd::AsRawFd;

/// `process.user`.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct User {
    pub uid: u32,
    pub gid: u32,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub additional_gids: Vec<u32>,
}

/// Longest file that is read, in bytes.
const MOST: u64 = 4 << 20;

/// `word` is as in config.md of the image-spec: `user`, `uid`, `user:group`, `uid:gid` and the mixed ones.
///
/// # Errors
/// A name that the files do not have.
pub(crate) fn find(property: &str, word: &str, root: BorrowedFd<'_>) -> Result<User> {
    let passwd = read(root, "etc/passwd")?;
    let group = read(root, "etc/group")?;
    of_files(word, &passwd, &group).map_err(|problem| bad(property, format_args!("{word:?}: {problem}")))
}

fn of_files(word: &str, passwd: &str, group: &str) -> std::result::Result<User, String> {
    let (user, wanted_group) = word.split_once(':').map_or((word, None), |(user, group)| (user, Some(group)));
    let user = if user.is_empty() { "0" } else { user };
    let fields = |line: &'_ str| line.split(':').map(str::to_owned).collect::<Vec<_>>();
    let number = user.parse::<u32>().ok();
    let entry = passwd.lines().map(fields).find(|entry| match number {
        Some(uid) => entry.get(2).and_then(|field| field.parse().ok()) == Some(uid),
        None => entry.first().is_some_and(|name| name == user),
    });
    let numbered = |entry: &[String], at: usize| entry.get(at).and_then(|field| field.parse::<u32>().ok());
    let uid = match (number, &entry) {
        (Some(uid), _) => uid,
        (None, Some(entry)) => numbered(entry, 2).ok_or("its line in /etc/passwd has no uid")?,
        (None, None) => return Err("the image's /etc/passwd has no such user".to_owned()),
    };
    if uid == u32::MAX {
        return Err("is no id".to_owned());
    }
    let groups: Vec<Vec<String>> = group.lines().map(fields).collect();
    let gid = match wanted_group.filter(|group| !group.is_empty()) {
        Some(wanted) => match wanted.parse() {
            Ok(gid) => gid,
            Err(_) => {
                let found = groups.iter().find(|entry| entry.first().is_some_and(|name| name == wanted));
                let entry = found.ok_or("the image's /etc/group has no such group")?;
                numbered(entry, 2).ok_or("its line in /etc/group has no gid")?
            }
        },
        None => entry.as_ref().and_then(|entry| numbered(entry, 3)).unwrap_or(0),
    };
    if gid == u32::MAX {
        return Err("its group is no id".to_owned());
    }
    let mut additional_gids = Vec::new();
    // A group that was asked for is the only one, as with engines.
    if let (None, Some(name)) = (wanted_group, entry.as_ref().and_then(|entry| entry.first())) {
        let member = |entry: &&Vec<String>| entry.get(3).is_some_and(|list| list.split(',').any(|it| it == name));
        additional_gids.extend(groups.iter().filter(member).filter_map(|entry| numbered(entry, 2)));
        additional_gids.retain(|other| *other != gid);
        additional_gids.sort_unstable();
        additional_gids.dedup();
    }
    Ok(User { uid, gid, additional_gids })
}

/// A file of the image, never one of the host; an absent one is empty. A device is not opened: that alone does something
/// to the host.
fn read(root: BorrowedFd<'_>, path: &str) -> Result<String> {
    let what = || format!("read /{path} of the image");
    let found = match rootfs::open_in_root(root, path, OFlags::PATH) {
        Ok(found) => found,
        Err(Errno::NOENT | Errno::NOTDIR | Errno::LOOP) => return Ok(String::new()),
        Err(errno) => return Err(errno).context(what),
    };
    if FileType::from_raw_mode(fstat(&found).context(what)?.st_mode) != FileType::RegularFile {
        return Ok(String::new());
    }
    let file = File::open(format!("/proc/self/fd/{}", found.as_raw_fd())).context(what)?;
    let mut bytes = Vec::new();
    file.take(MOST).read_to_end(&mut bytes).context(what)?;
    Ok(String::from_utf8_lossy(&bytes).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    const PASSWD: &str = "root:x:0:0:root:/root:/bin/sh\nweb:x:33:34:web:/var:/bin/sh\nbroken\nodd:x:many:0::/:\n";
    const GROUP: &str = "root:x:0:\nweb:x:34:\naudio:x:29:web,root\ntape:x:26:web\n";

    fn user(uid: u32, gid: u32, additional_gids: &[u32]) -> User {
        User { uid, gid, additional_gids: additional_gids.to_vec() }
    }

    #[test]
    fn users_of_an_image() {
        let found = |word: &str| of_files(word, PASSWD, GROUP);
        assert_eq!(found(""), Ok(user(0, 0, &[29])));
        assert_eq!(found("web"), Ok(user(33, 34, &[26, 29])));
        assert_eq!(found("33"), Ok(user(33, 34, &[26, 29])));
        assert_eq!(found("1000"), Ok(user(1000, 0, &[])));
        assert_eq!(found("web:audio"), Ok(user(33, 29, &[])));
        assert_eq!(found("1000:1000"), Ok(user(1000, 1000, &[])));
        for wrong in ["nobody", "web:nobody", "odd", "4294967295", "0:4294967295", "4294967296"] {
            assert!(found(wrong).is_err(), "{wrong}");
        }
        assert_eq!(of_files("7", "", ""), Ok(user(7, 0, &[])));
    }
}
