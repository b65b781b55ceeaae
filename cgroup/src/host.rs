//! Which cgroup hierarchies this host has, where they are mounted, and where in them this process is.

use std::path::Path;

use rustix::fs::statfs;

use crate::error::Error;
use crate::join;
use crate::mountinfo::{self, CgroupMount};
use crate::own::{self, Membership};
use crate::path::{Wish, join, parent};
use crate::place::{Directory, Place};
use crate::systemd::{self, Scope};

/// Where systemd, and everyone after it, mounts them.
const ROOT: &str = "/sys/fs/cgroup";
// From linux/magic.h.
const CGROUP_SUPER_MAGIC: u64 = 0x27_e0eb;
const CGROUP2_SUPER_MAGIC: u64 = 0x6367_7270;

/// The kinds of hierarchies that a host has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// cgroup v2 alone.
    V2,
    /// cgroup v1 alone.
    V1,
    /// The controllers in cgroup v1 (most or all of them), and a cgroup v2 beside.
    Hybrid,
}

/// A cgroup v1 hierarchy of the host.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Hierarchy {
    /// As in /proc/self/cgroup: `cpu,cpuacct`, `name=systemd`; empty for cgroup v2.
    controllers: String,
    mount: String,
    /// The cgroup that is mounted there, `/` but in containers.
    root: String,
    /// This process's cgroup, from the root of the hierarchy.
    own: String,
}

impl Hierarchy {
    /// The name of its directory below /sys/fs/cgroup: `cpu,cpuacct` or `systemd`.
    pub fn name(&self) -> &str {
        self.controllers.strip_prefix("name=").unwrap_or(&self.controllers)
    }

    /// What mount(2) of type `cgroup` takes as data for it: `cpu,cpuacct` or `none,name=systemd`.
    pub fn mount_data(&self) -> String {
        if self.controllers.starts_with("name=") {
            format!("none,{}", self.controllers)
        } else {
            self.controllers.clone()
        }
    }

    /// Where it is mounted on this host.
    pub fn mount_point(&self) -> &Path {
        Path::new(&self.mount)
    }

    /// The cgroup of this process, from the mount point; `None` when that cannot be reached from there.
    pub fn own(&self) -> Option<&str> {
        self.reach("self", &self.own).ok()
    }

    /// The names that link to the directory where controllers share a hierarchy: `cpu` and `cpuacct`, or none.
    pub fn aliases(&self) -> impl Iterator<Item = &str> {
        let shared = self.name().contains(',');
        self.name().split(',').filter(move |_| shared)
    }

    pub(crate) fn controllers(&self) -> &str {
        &self.controllers
    }

    /// A process's cgroup as seen from the mount point.
    fn reach<'p>(&self, process: &str, cgroup: &'p str) -> Result<&'p str, Error> {
        let reached = mountinfo::below(cgroup, &self.root).filter(|_| !own::is_outside(cgroup));
        reached.ok_or_else(|| Error::OutOfReach {
            process: process.to_owned(),
            cgroup: cgroup.to_owned(),
            mount: self.mount.clone(),
        })
    }

    fn below_own(&self, path: &str) -> Result<Directory, Error> {
        Ok(self.directory(join(self.reach("self", &self.own)?, path)))
    }

    fn beside(&self, own: &str, path: &str) -> Result<Directory, Error> {
        Ok(self.directory(join(parent(self.reach("self", own)?), path)))
    }

    fn directory(&self, path: String) -> Directory {
        Directory::new(&self.controllers, &self.mount, path)
    }
}

/// What the host has, asked once.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Host {
    mode: Mode,
    hierarchies: Vec<Hierarchy>,
    /// cgroup v2. Its `own` is empty where it was not needed so far.
    unified: Option<Hierarchy>,
}

impl Host {
    /// Asks the kernel. On a host with cgroup v2 alone that is one statfs(2); otherwise /proc/self/cgroup is read and
    /// each hierarchy looked for at its conventional place, and only if it is not there in /proc/self/mountinfo.
    ///
    /// # Errors
    /// When /proc cannot be read or understood, or no cgroup file system is mounted. A hierarchy that is mounted
    /// nowhere is no error: nothing can be done in it.
    pub fn detect() -> Result<Host, Error> {
        if has_magic(ROOT, CGROUP2_SUPER_MAGIC) {
            let unified = hierarchy(Membership::default(), ROOT, "/");
            return Ok(Host { mode: Mode::V2, hierarchies: Vec::new(), unified: Some(unified) });
        }
        let mut mounts = None;
        let mut found = Vec::new();
        for membership in own::memberships("self")? {
            found.extend(locate(membership, &mut mounts)?);
        }
        let (unified, hierarchies) = found.into_iter().partition::<Vec<_>, _>(|it| it.controllers.is_empty());
        let unified = unified.into_iter().next();
        let mode = match (hierarchies.is_empty(), &unified) {
            (true, None) => return Err(Error::NotMounted),
            (true, Some(_)) => Mode::V2,
            (false, None) => Mode::V1,
            (false, Some(_)) => Mode::Hybrid,
        };
        Ok(Host { mode, hierarchies, unified })
    }

    /// Which kinds of hierarchies there are.
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The cgroup v1 hierarchies, to mount them inside a container; none on cgroup v2.
    pub fn hierarchies(&self) -> &[Hierarchy] {
        &self.hierarchies
    }

    /// Where cgroup v2 is mounted.
    pub fn unified(&self) -> Option<&Path> {
        self.unified.as_ref().map(Hierarchy::mount_point)
    }

    /// Whether a controller is in a hierarchy of cgroup v1.
    pub fn has_v1(&self, controller: &str) -> bool {
        self.hierarchies.iter().any(|hierarchy| hierarchy.controllers.split(',').any(|name| name == controller))
    }

    /// The place that `linux.cgroupsPath` means, or the id where that is absent. Nothing is made or looked for; at
    /// most /proc/self/cgroup is read.
    ///
    /// An absolute path is below each mount point. A relative one, and the id, is below this process's own cgroup on
    /// cgroup v1 and hybrid, and on cgroup v2 beside it: a cgroup with processes of its own cannot hand out
    /// controllers.
    ///
    /// # Errors
    /// The path is empty, the root, or has a name `..` or one that no directory can have; a relative one also when
    /// this process's own cgroup cannot be reached from the mount point.
    pub fn place(&self, cgroups_path: Option<&str>, id: &str) -> Result<Place, Error> {
        let wish = Wish::new(cgroups_path, id)?;
        if let (Mode::V2, Some(unified)) = (self.mode, &self.unified) {
            let directory = match wish.absolute {
                true => unified.directory(wish.path),
                false => unified.beside(&own::unified("self")?.path, &wish.path)?,
            };
            return Ok(Place::new(Some(directory), Vec::new()));
        }
        let directory = |hierarchy: &Hierarchy| match wish.absolute {
            true => Ok(hierarchy.directory(wish.path.clone())),
            false => hierarchy.below_own(&wish.path),
        };
        let v1 = self.hierarchies.iter().map(directory).collect::<Result<_, Error>>()?;
        Ok(Place::new(self.unified.as_ref().map(directory).transpose()?, v1))
    }

    /// The place of the scope that `linux.cgroupsPath` means to the systemd driver, `slice:prefix:name`; where that is
    /// absent, of `proa-ID.scope` in its default slice. Nothing is made or looked for but where systemd itself is.
    ///
    /// # Errors
    /// The path has not that form, or a part of it cannot be in a unit's name.
    pub fn scope(&self, cgroups_path: Option<&str>, id: &str) -> Result<Place, Error> {
        let user = systemd::is_user();
        let scope = Scope::new(cgroups_path, id, user)?;
        let path = format!("{}{}", systemd::root(user)?, scope.path());
        let directory = |hierarchy: &Hierarchy| hierarchy.directory(path.clone());
        let v1 = self.hierarchies.iter().map(directory).collect();
        let place = Place::new(self.unified.as_ref().map(directory), v1);
        Ok(Place { scope: Some(scope), ..place })
    }

    /// Moves a process to where the calling one is, out of a container's cgroup say.
    ///
    /// # Errors
    /// Where that is cannot be reached from the mount point, or a write fails.
    pub fn fetch(&self, pid: i32) -> Result<(), Error> {
        join::join(&self.place_of(std::process::id() as i32)?, pid, true)
    }

    /// The place where a process is now, for another to join it there: the container may have moved its own init.
    ///
    /// # Errors
    /// The process is gone, or its cgroup cannot be reached from the mount point.
    pub fn place_of(&self, pid: i32) -> Result<Place, Error> {
        let process = pid.to_string();
        let memberships = own::memberships(&process)?;
        let directory = |hierarchy: &Hierarchy| {
            let line = memberships.iter().find(|line| line.controllers == hierarchy.controllers)?;
            Some(hierarchy.reach(&process, &line.path).map(|path| hierarchy.directory(path.to_owned())))
        };
        let v1 = self.hierarchies.iter().filter_map(directory).collect::<Result<_, Error>>()?;
        Ok(Place::new(self.unified.as_ref().and_then(directory).transpose()?, v1))
    }
}

/// Finds where the hierarchy of a line of /proc/self/cgroup is mounted.
fn locate(membership: Membership, mounts: &mut Option<Vec<CgroupMount>>) -> Result<Option<Hierarchy>, Error> {
    let (name, magic) = match membership.controllers.as_str() {
        "" => ("unified", CGROUP2_SUPER_MAGIC),
        controllers => (controllers.strip_prefix("name=").unwrap_or(controllers), CGROUP_SUPER_MAGIC),
    };
    let conventional = format!("{ROOT}/{name}");
    // Asked of the own cgroup, not of the mount point: inside a container that shows its part of the hierarchy alone.
    let own = if own::is_outside(&membership.path) { "/" } else { &membership.path };
    if has_magic(&join(&conventional, own), magic) {
        return Ok(Some(hierarchy(membership, &conventional, "/")));
    }
    let mounts = match mounts {
        Some(mounts) => mounts,
        None => mounts.insert(mountinfo::cgroup_mounts()?),
    };
    let mount = mountinfo::find(mounts, &membership.controllers, &membership.path).cloned();
    Ok(mount.map(|mount| hierarchy(membership, &mount.point, &mount.root)))
}

fn hierarchy(membership: Membership, mount: &str, root: &str) -> Hierarchy {
    let Membership { controllers, path: own } = membership;
    Hierarchy { controllers, mount: mount.to_owned(), root: root.to_owned(), own }
}

/// Whether `path` exists and is on a file system of that type.
fn has_magic(path: &str, magic: u64) -> bool {
    statfs(path).is_ok_and(|found| found.f_type as u64 == magic)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(controllers: &str, mount: &str, root: &str, own: &str) -> Hierarchy {
        hierarchy(Membership { controllers: controllers.into(), path: own.into() }, mount, root)
    }

    fn hybrid() -> Host {
        let hierarchies = vec![
            of("name=systemd", "/sys/fs/cgroup/systemd", "/", "/"),
            of("cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct", "/", "/own"),
            of("memory", "/m", "/docker/x", "/docker/x/y"),
        ];
        let unified = Some(of("", "/sys/fs/cgroup/unified", "/", "/own"));
        Host { mode: Mode::Hybrid, hierarchies, unified }
    }

    fn paths(place: &Place) -> Vec<String> {
        place.paths().map(|(_, path)| path.into_os_string().into_string().unwrap()).collect()
    }

    #[test]
    fn v1_and_hybrid_relative_paths_are_below_ones_own_cgroup_in_each_hierarchy() {
        let expected = [
            "/sys/fs/cgroup/unified/own/a/b",
            "/sys/fs/cgroup/systemd/a/b",
            "/sys/fs/cgroup/cpu,cpuacct/own/a/b",
            "/m/y/a/b",
        ];
        assert_eq!(paths(&hybrid().place(Some("a/b"), "c1").unwrap()), expected);
        assert_eq!(paths(&hybrid().place(None, "c1").unwrap())[2], "/sys/fs/cgroup/cpu,cpuacct/own/c1");
    }

    #[test]
    fn absolute_paths_are_below_each_mount_point() {
        let expected = ["/sys/fs/cgroup/unified/a", "/sys/fs/cgroup/systemd/a", "/sys/fs/cgroup/cpu,cpuacct/a", "/m/a"];
        assert_eq!(paths(&hybrid().place(Some("/a"), "c1").unwrap()), expected);
        let v2 = Host { mode: Mode::V2, hierarchies: vec![], unified: Some(of("", ROOT, "/", "")) };
        assert_eq!(paths(&v2.place(Some("/a/b"), "c1").unwrap()), ["/sys/fs/cgroup/a/b"]);
    }

    #[test]
    fn v2_relative_paths_are_beside_ones_own_cgroup() {
        let v2 = of("", ROOT, "/", "");
        let beside = |own| v2.beside(own, "/c1").map(|directory| directory.full());
        assert_eq!(beside("/").unwrap(), "/sys/fs/cgroup/c1");
        assert_eq!(beside("/own").unwrap(), "/sys/fs/cgroup/c1");
        assert_eq!(beside("/a.slice/b.service").unwrap(), "/sys/fs/cgroup/a.slice/c1");
        let error = beside("/../b").unwrap_err().to_string();
        assert!(error.contains("\"/../b\" of process self cannot be reached below /sys/fs/cgroup"), "{error}");
    }

    #[test]
    fn a_cgroup_out_of_reach_matters_only_to_relative_paths() {
        let outside = [of("cpu", "/c", "/", "/../x"), of("cpu", "/c", "/docker/x", "/elsewhere")];
        for hierarchy in outside {
            assert_eq!(hierarchy.own(), None);
            let host = Host { mode: Mode::V1, hierarchies: vec![hierarchy], unified: None };
            assert!(matches!(host.place(None, "c1"), Err(Error::OutOfReach { .. })));
            assert_eq!(paths(&host.place(Some("/c1"), "c1").unwrap()), ["/c/c1"]);
        }
    }

    #[test]
    fn a_hierarchy_says_how_it_is_mounted() {
        let host = hybrid();
        let [systemd, cpu, memory] = host.hierarchies() else { panic!() };
        assert_eq!((systemd.name(), &*systemd.mount_data()), ("systemd", "none,name=systemd"));
        assert_eq!((cpu.name(), &*cpu.mount_data()), ("cpu,cpuacct", "cpu,cpuacct"));
        assert_eq!(cpu.aliases().collect::<Vec<_>>(), ["cpu", "cpuacct"]);
        assert_eq!(memory.aliases().count() + systemd.aliases().count(), 0);
        assert_eq!((cpu.own(), memory.own()), (Some("/own"), Some("/y")));
        let place = host.place(Some("/a"), "c1").unwrap();
        assert_eq!(place.path_in(memory), Some("/m/a".into()));
        assert_eq!(place.unified_path(), Some("/sys/fs/cgroup/unified/a".into()));
    }
}
