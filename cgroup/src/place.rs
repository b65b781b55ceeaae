//! Where a container's cgroup is: plain data, decided before anything is made and kept in the state file.

use std::path::PathBuf;

use rustix::fs::{Access, AtFlags, CWD, Mode, OFlags, accessat, openat};
use rustix::io::Errno;
use serde::{Deserialize, Serialize};

use crate::error::{Context, Error};
use crate::path::join;
use crate::systemd::Scope;
use crate::{Cgroup, Hierarchy, create, freeze, remove};

/// Where a container's cgroup is, in each hierarchy.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Place {
    /// The scope that systemd makes the directories for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) scope: Option<Scope>,
    /// The cgroup below it that the first process lives in, of cgroup v2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) leaf: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(crate) unified: Option<Directory>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub(crate) v1: Vec<Directory>,
}

/// A directory in one hierarchy.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Directory {
    /// As in /proc/self/cgroup: `cpu,cpuacct`, `name=systemd`; empty for cgroup v2.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub(crate) controllers: String,
    /// Where the hierarchy is mounted.
    pub(crate) mount: String,
    /// The cgroup, from the mount point: `/a/b`.
    pub(crate) path: String,
    /// How many directories above it were made for it, and go with it if nobody else uses them.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub(crate) made: u32,
}

fn is_zero(number: &u32) -> bool {
    *number == 0
}

impl Directory {
    pub(crate) fn new(controllers: &str, mount: &str, path: String) -> Directory {
        Directory { controllers: controllers.to_owned(), mount: mount.to_owned(), path, made: 0 }
    }

    /// The path on this host.
    pub(crate) fn full(&self) -> String {
        join(&self.mount, &self.path)
    }

    /// The path on this host of one of its files.
    pub(crate) fn file(&self, name: &str) -> String {
        format!("{}/{name}", self.full())
    }

    /// Whether this is of the cgroup v1 hierarchy of that controller.
    pub(crate) fn has(&self, controller: &str) -> bool {
        self.controllers.split(',').any(|name| name == controller)
    }

    /// Whether the directory is there.
    pub(crate) fn exists(&self) -> Result<bool, Error> {
        let path = self.full();
        match accessat(CWD, &*path, Access::EXISTS, AtFlags::empty()) {
            Ok(()) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(errno) => Err(errno).context("access", &path),
        }
    }
}

impl Place {
    pub(crate) fn new(unified: Option<Directory>, v1: Vec<Directory>) -> Place {
        Place { scope: None, leaf: None, unified, v1 }
    }

    /// The same place, whose first process is to live in a cgroup of that name below it.
    ///
    /// # Errors
    /// Why it cannot, as the end of a sentence.
    pub fn with_leaf(self, name: &str) -> Result<Place, &'static str> {
        let fits = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'-' | b'_');
        match () {
            () if self.unified.is_none() || !self.v1.is_empty() => Err("needs cgroup v2 alone"),
            () if name.is_empty() || name.len() > 64 || !name.bytes().all(fits) => {
                Err("a name has letters, digits, - and _, 64 at most")
            }
            () => Ok(Place { leaf: Some(name.to_owned()), ..self }),
        }
    }

    /// That name.
    pub fn leaf(&self) -> Option<&str> {
        self.leaf.as_deref()
    }

    /// Whether systemd makes it, around the first process.
    pub fn is_scope(&self) -> bool {
        self.scope.is_some()
    }

    /// No place: the container stays in the cgroups of who starts it. Whatever is done with it does nothing, but for
    /// freezing, which is an error.
    pub fn disabled() -> Place {
        Place::default()
    }

    /// Whether this is [`Place::disabled`].
    pub fn is_disabled(&self) -> bool {
        self.unified.is_none() && self.v1.is_empty()
    }

    /// Makes the cgroup, with the directories above it that are missing, and enables on cgroup v2 all controllers
    /// there are in them. The umask applies, from 0755. A scope is not made yet, see [`Cgroup::start`].
    ///
    /// [`Cgroup::place`] is then the place to keep: it also knows which directories above it were made.
    ///
    /// # Errors
    /// The cgroup is there and has processes in it or below, or is frozen; or a directory cannot be made. What was
    /// made is removed again.
    pub fn create(&self) -> Result<Cgroup, Error> {
        create::create(self)
    }

    /// Opens the cgroup that was made; `None` when it is gone already, in every hierarchy, or is a scope that was not.
    ///
    /// # Errors
    /// Any but that it does not exist.
    pub fn open(&self) -> Result<Option<Cgroup>, Error> {
        if self.scope.as_ref().is_some_and(|scope| !scope.started) {
            return Ok(None);
        }
        self.check()?;
        let unified = match &self.unified {
            Some(directory) => match open_directory(&directory.full()) {
                Ok(fd) => Some(fd),
                Err(Errno::NOENT) => None,
                Err(errno) => return Err(errno).context("open", &directory.full()),
            },
            None => None,
        };
        let mut there = unified.is_some() || self.is_disabled();
        for directory in &self.v1 {
            there = there || directory.exists()?;
        }
        Ok(there.then(|| Cgroup::of(self.clone(), unified, false)))
    }

    /// Removes the cgroup with those below it in all hierarchies, see [`Cgroup::remove`], without opening it first.
    ///
    /// # Errors
    /// As there.
    pub fn remove(&self) -> Result<(), Error> {
        self.check()?;
        remove::remove(self)
    }

    /// Whether the cgroup has been told to freeze. One that is gone, or not made yet, is not; nor is one that only stands
    /// still as a cgroup above it is frozen.
    ///
    /// # Errors
    /// The file cannot be read.
    pub fn is_frozen(&self) -> Result<bool, Error> {
        self.check()?;
        freeze::place_is_frozen(self)
    }

    /// No container's cgroup is the root of a hierarchy, where everything is that runs.
    fn check(&self) -> Result<(), Error> {
        match self.directories().find(|directory| !directory.path.starts_with('/') || directory.path == "/") {
            Some(directory) => {
                Err(Error::BadPath { path: directory.full(), reason: "it is no cgroup of a container's" })
            }
            None => Ok(()),
        }
    }

    /// The host path of the cgroup in a cgroup v1 hierarchy.
    pub fn path_in(&self, hierarchy: &Hierarchy) -> Option<PathBuf> {
        let directory = self.v1.iter().find(|it| it.controllers == hierarchy.controllers())?;
        Some(directory.full().into())
    }

    /// The host path of the cgroup in cgroup v2.
    pub fn unified_path(&self) -> Option<PathBuf> {
        Some(self.unified.as_ref()?.full().into())
    }

    /// The host paths of the cgroup by controllers: `cpu,cpuacct`, `name=systemd`, or an empty name for cgroup v2.
    pub fn paths(&self) -> impl Iterator<Item = (&str, PathBuf)> {
        self.directories().map(|directory| (directory.controllers.as_str(), directory.full().into()))
    }

    /// All directories, that of cgroup v2 first.
    pub(crate) fn directories(&self) -> impl Iterator<Item = &Directory> {
        self.unified.iter().chain(&self.v1)
    }
}

/// A descriptor of a cgroup's directory, good for CLONE_INTO_CGROUP and bpf(2).
pub(crate) fn open_directory(path: &str) -> Result<std::os::fd::OwnedFd, Errno> {
    openat(CWD, path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_place_is_kept_as_little_text() {
        let v2 = Place::new(Some(Directory::new("", "/sys/fs/cgroup", "/c1".into())), vec![]);
        let text = serde_json::to_string(&v2).unwrap();
        assert_eq!(text, r#"{"unified":{"mount":"/sys/fs/cgroup","path":"/c1"}}"#);
        assert_eq!(serde_json::from_str::<Place>(&text).unwrap(), v2);

        let made = Directory { made: 2, ..Directory::new("cpu,cpuacct", "/m", "/a/b/c".into()) };
        let v1 = Place::new(None, vec![made]);
        let text = serde_json::to_string(&v1).unwrap();
        assert_eq!(text, r#"{"v1":[{"controllers":"cpu,cpuacct","mount":"/m","path":"/a/b/c","made":2}]}"#);
        assert_eq!(serde_json::from_str::<Place>(&text).unwrap(), v1);
    }

    #[test]
    fn a_disabled_place_is_kept_and_does_nothing() {
        let disabled = serde_json::from_str::<Place>("{}").unwrap();
        assert_eq!(serde_json::to_string(&disabled).unwrap(), "{}");
        assert!(disabled.is_disabled());
        let cgroup = disabled.create().unwrap();
        cgroup.join(std::process::id() as i32, false).unwrap();
        cgroup.apply(&crate::Resources { devices: crate::default_device_rules(), ..Default::default() }).unwrap();
        cgroup.kill().unwrap();
        cgroup.signal(15).unwrap();
        assert!(cgroup.procs().unwrap().is_empty());
        assert!(!cgroup.place().is_frozen().unwrap());
        assert!(matches!(cgroup.freeze(), Err(Error::NoFreezer)));
        assert!(cgroup.unified_fd().is_none());
        assert!(disabled.open().unwrap().is_some());
        cgroup.remove().unwrap();
    }

    #[test]
    fn the_root_of_a_hierarchy_is_no_containers() {
        for path in ["/", ""] {
            let place = Place::new(Some(Directory::new("", "/nowhere", path.into())), vec![]);
            assert!(matches!(place.open(), Err(Error::BadPath { .. })));
            assert!(matches!(place.remove(), Err(Error::BadPath { .. })));
        }
    }

    #[test]
    fn a_directory_knows_its_controllers_by_whole_names() {
        let directory = Directory::new("cpu,cpuacct", "/m", "/a".into());
        assert!(directory.has("cpuacct") && !directory.has("cpuset") && !directory.has("cp"));
    }
}
