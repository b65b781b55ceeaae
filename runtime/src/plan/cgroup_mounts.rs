//! Mounts of type `cgroup`: what they show, and whose cgroup it is.

use super::mounts::parameter;
use super::{Namespaces, host::Host, path_text, text};
use crate::error::{Result, bad};
use rootfs::options;
use rootfs::plan::{CgroupMount, Filesystem, Hierarchy, Mount, Parameter, Plan, What};

/// config-linux.md, Cgroup ownership: who executes the program owns the cgroup that it can write to, in a cgroup
/// namespace of its own; the host's id of that user.
pub(super) fn cgroup_owner(root: &Plan, namespaces: &Namespaces, uid: u32) -> Option<u32> {
    let writable = |mount: &Mount| {
        matches!(mount.what, What::Cgroup(CgroupMount::Unified { .. }))
            && mount.attr.is_none_or(|attr| attr.set & options::RDONLY == 0)
    };
    if !namespaces.has_new(libc::CLONE_NEWCGROUP) || !root.mounts.iter().any(writable) {
        return None;
    }
    match (&namespaces.ids, namespaces.joins_user()) {
        (Some(maps), _) => maps.host_uid(uid),
        (None, true) => namespaces.expected_ids.as_ref().and_then(|maps| maps.host_uid(uid)),
        (None, false) => Some(uid),
    }
    // Root's it is already.
    .filter(|uid| *uid != 0)
}

/// What a mount of type `cgroup` shows: the container's place in each hierarchy that the host has.
pub(super) fn cgroups(
    property: &str,
    parameters: &mut Vec<Parameter>,
    namespaces: &Namespaces,
    place: &cgroup::Place,
    host: &Host,
) -> Result<CgroupMount> {
    let host = host.cgroups()?;
    let path = |path: Option<std::path::PathBuf>| path.map(|path| path_text("linux.cgroupsPath", &path)).transpose();
    if host.mode() == cgroup::Mode::V2 {
        let parameters = std::mem::take(parameters);
        return Ok(CgroupMount::Unified { parameters, fallback: path(place.unified_path())? });
    }
    if let Some(parameter) = parameters.first() {
        let problem = format_args!("cgroup v1 takes no option {:?} here", parameter.name);
        return Err(bad(format_args!("{property}.options"), problem));
    }
    let mut hierarchies = Vec::new();
    let mut aliases = Vec::new();
    for hierarchy in host.hierarchies() {
        let Some(source) = path(place.path_in(hierarchy))? else { continue };
        let data = hierarchy.mount_data();
        let parameters = data.split(',').map(|word| parameter("cgroup", word)).collect::<Result<_>>()?;
        let name = text("cgroup", hierarchy.name())?;
        let filesystem = Filesystem {
            kind: text("cgroup", "cgroup")?,
            source: Some(text("cgroup", "cgroup")?),
            parameters,
            ..Filesystem::default()
        };
        for alias in hierarchy.aliases() {
            aliases.push((text("cgroup", alias)?, name.clone()));
        }
        hierarchies.push(Hierarchy { name, filesystem, source });
    }
    if let (Some(_), Some(source)) = (host.unified(), path(place.unified_path())?) {
        let filesystem = Filesystem {
            kind: text("cgroup", "cgroup2")?,
            source: Some(text("cgroup", "cgroup")?),
            ..Filesystem::default()
        };
        hierarchies.push(Hierarchy { name: text("cgroup", "unified")?, filesystem, source });
    }
    Ok(CgroupMount::Hierarchies { hierarchies, aliases, fresh: namespaces.has_new(libc::CLONE_NEWCGROUP) })
}

/// Has every mount of type `cgroup` show the cgroups that this process is in, where the container stays in them. What
/// cannot be reached is left out.
pub(crate) fn show_own_cgroups(root: &mut Plan) -> Result<()> {
    let mounts = root.mounts.iter_mut().filter_map(|mount| match &mut mount.what {
        What::Cgroup(cgroups) => Some(cgroups),
        _ => None,
    });
    let mut found = None;
    for mount in mounts {
        let (host, own) = match &found {
            Some(found) => found,
            None => {
                let host = cgroup::Host::detect()?;
                let own = host.place_of(std::process::id() as i32).unwrap_or(cgroup::Place::disabled());
                found.insert((host, own))
            }
        };
        let unified = own.unified_path().map(|path| path_text("linux.cgroupsPath", &path)).transpose()?;
        match mount {
            CgroupMount::Unified { fallback, .. } => *fallback = unified,
            CgroupMount::Hierarchies { hierarchies, .. } => {
                for hierarchy in std::mem::take(hierarchies) {
                    let v1 = host.hierarchies().iter().find(|it| it.name().as_bytes() == hierarchy.name.to_bytes());
                    let source = match v1.and_then(|it| own.path_in(it)) {
                        Some(path) => Some(path_text("linux.cgroupsPath", &path)?),
                        None if v1.is_none() => unified.clone(),
                        None => None,
                    };
                    hierarchies.extend(source.map(|source| Hierarchy { source, ..hierarchy }));
                }
            }
        }
    }
    Ok(())
}
