//! The cgroups of a checkpoint. CRIU puts what is below their roots below the container's cgroup, and the rest where it
//! says.

use super::image_file;
use super::rpc::{CgroupDirectory, CgroupEntry, CgroupRoot};
use crate::error::{Context, Result, bad};
use rustix::fd::OwnedFd;

/// In CRIU's magic.h.
const MAGIC: u32 = 0x5938_3330;

/// Whether there are cgroups in the images: a checkpoint that left them out says only where processes were.
pub(super) fn are_saved(images: &OwnedFd) -> Result<bool> {
    Ok(read(images)?.iter().any(|(_, entry)| entry.controllers.iter().any(|of| !of.dirs.is_empty())))
}

fn read(images: &OwnedFd) -> Result<Vec<(String, CgroupEntry)>> {
    let mut all = Vec::new();
    for name in image_file::names(images, "cgroup.img")? {
        let entries: Vec<CgroupEntry> = image_file::read(images, &name, MAGIC)?;
        all.extend(entries.into_iter().map(|entry| (name.clone(), entry)));
    }
    Ok(all)
}

/// # Errors
/// A process is in a cgroup, or a cgroup has a name or a property, that leads out of the container's.
pub(super) fn check(images: &OwnedFd) -> Result<()> {
    for (name, entry) in read(images)? {
        check_one(&entry).map_err(|path| {
            bad("--image-path", format_args!("{name}: {path:?} leads out of the container's cgroup"))
        })?;
    }
    Ok(())
}

/// Else the path that leads out.
fn check_one(entry: &CgroupEntry) -> std::result::Result<(), String> {
    for controller in &entry.controllers {
        for dir in &controller.dirs {
            if !dir.dir_name.split('/').all(is_plain) {
                return Err(dir.dir_name.clone());
            }
            check_below(dir)?;
        }
    }
    for member in entry.sets.iter().flat_map(|set| &set.ctls) {
        let of_it = entry.controllers.iter().filter(|controller| controller.cnames.contains(&member.name));
        let mut roots = of_it.flat_map(|controller| &controller.dirs).map(|dir| dir.dir_name.trim_matches('/'));
        let path = member.path.trim_matches('/');
        let is_below = |root: &str| {
            root.is_empty() || path.strip_prefix(root).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
        };
        if !roots.any(is_below) || !member.path.split('/').all(is_plain) {
            return Err(member.path.clone());
        }
    }
    Ok(())
}

fn check_below(dir: &CgroupDirectory) -> std::result::Result<(), String> {
    if let Some(property) = dir.properties.iter().find(|property| property.name.contains('/')) {
        return Err(property.name.clone());
    }
    for child in &dir.children {
        let name = child.dir_name.trim_matches('/');
        if name.is_empty() || !name.split('/').all(is_plain) {
            return Err(child.dir_name.clone());
        }
        check_below(child)?;
    }
    Ok(())
}

fn is_plain(part: &str) -> bool {
    !matches!(part, "." | "..")
}

/// What takes the place of the roots in the images: the cgroups that a process is in.
pub(super) fn roots(pid: i32) -> Result<Vec<CgroupRoot>> {
    let path = format!("/proc/{pid}/cgroup");
    let text = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
    let root = |line: &str| {
        let mut fields = line.splitn(3, ':');
        let (names, path) = (fields.nth(1)?, fields.next()?);
        Some(CgroupRoot { ctrl: Some(names.to_owned()), path: path.to_owned() })
    };
    Ok(text.lines().filter_map(root).collect())
}

#[cfg(test)]
mod tests {
    use super::super::rpc::{CgroupController, CgroupMember, CgroupProperty, CgroupSet};
    use super::*;

    fn dir(name: &str, children: Vec<CgroupDirectory>) -> CgroupDirectory {
        CgroupDirectory { dir_name: name.to_owned(), children, properties: Vec::new() }
    }

    fn entry(dirs: Vec<CgroupDirectory>, path: &str) -> CgroupEntry {
        let member = CgroupMember { name: "memory".to_owned(), path: path.to_owned() };
        let controllers = vec![CgroupController { cnames: vec!["memory".to_owned()], dirs }];
        CgroupEntry { sets: vec![CgroupSet { ctls: vec![member] }], controllers }
    }

    #[test]
    fn cgroups_stay_in_the_container_s() {
        let fine = |entry: &CgroupEntry| check_one(entry).is_ok();
        assert!(fine(&entry(vec![dir("/c", vec![dir("sub", vec![])])], "/c/sub")));
        assert!(fine(&entry(vec![dir("/c", vec![])], "/c")));
        assert!(!fine(&entry(vec![dir("/c", vec![])], "/other")));
        assert!(!fine(&entry(vec![dir("/c", vec![])], "/cc")));
        assert!(!fine(&entry(vec![dir("/c", vec![])], "/c/../other")));
        assert!(!fine(&entry(vec![dir("/c", vec![dir("../other", vec![])])], "/c")));
        assert!(!fine(&entry(vec![], "/c")));
        let property = CgroupProperty { name: "../x/memory.max".to_owned() };
        let with = CgroupDirectory { properties: vec![property], ..dir("/c", vec![]) };
        assert!(!fine(&entry(vec![with], "/c")));
    }
}
