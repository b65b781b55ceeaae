//! The mounts that containerd hands over for a container's root: a snapshot, as overlay or bind mounts.
//!
//! They are made in a mount namespace that lives as long as the call of the runtime which makes the container, between
//! fork and exec. The container has its copy of it; the host never sees them, nothing of them is left when the container
//! has gone, and nobody has to unmount anything. All else stays as it is on the host: each mount is a peer of the
//! host's, so that volumes propagate as they would without it. The bundle alone is not, below a bind mount of itself.

use std::ffi::CString;
use std::fs;
use std::io;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use containerd_shim_protos::api::Mount;
use nix::mount::{MsFlags, mount};
use nix::sched::{CloneFlags, unshare};
use rootfs::overlay::{self, Layers};
use rustix::fs::{AtFlags, CWD, Mode, OFlags, ResolveFlags, StatxFlags, openat, openat2, statx};
use rustix::mount::{MoveMountFlags, move_mount};

use crate::error::{Error, Result};
use crate::idmap;
use crate::sys;

/// Decided, and not yet made.
#[derive(Debug, Clone)]
pub(crate) struct Mounts {
    bundle: PathBuf,
    /// The mount that holds the bundle.
    holder: PathBuf,
    steps: Vec<Step>,
    set_group: bool,
}

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Step {
    kind: String,
    source: String,
    /// Below the root; empty for the root itself.
    target: String,
    flags: MsFlags,
    /// For the file system.
    data: Vec<String>,
    /// `uidmap=`, `gidmap=`: the layers below are seen with other owners.
    maps: Option<idmap::Maps>,
}

impl Mounts {
    /// Checks what containerd wants, in the bundle's `rootfs`. None where it wants nothing.
    ///
    /// # Errors
    /// A mount that cannot be made from here, by its type; the place cannot be made.
    pub(crate) fn plan(bundle: &Path, wanted: &[Mount]) -> Result<Option<Mounts>> {
        if wanted.is_empty() {
            return Ok(None);
        }
        let rootfs = bundle.join("rootfs");
        match fs::create_dir(&rootfs) {
            Err(error) if error.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::failed(format!("mkdir {}", rootfs.display()))(error));
            }
            _ => {}
        }
        let steps = wanted.iter().map(Step::of).collect::<Result<_>>()?;
        let holder =
            holder(bundle).map_err(Error::failed(format!("find the mount that holds {}", bundle.display())))?;
        Ok(Some(Mounts { bundle: bundle.to_owned(), holder, steps, set_group: sys::can_set_group() }))
    }

    /// Makes them, in a mount namespace of its own that the caller is in from now on: between fork and exec.
    ///
    /// # Errors
    /// One line for each: the mount, and why.
    pub(crate) fn make(&self) -> std::result::Result<(), (String, io::Error)> {
        let what = |what: String| move |error: nix::Error| (what, io::Error::from(error));
        let host = open_path(&self.holder).map_err(|error| (format!("open {}", self.holder.display()), error))?;
        unshare(CloneFlags::CLONE_NEWNS).map_err(what("unshare the mount namespace".into()))?;
        let alone = if self.set_group { MsFlags::MS_PRIVATE } else { MsFlags::MS_SLAVE };
        change(&self.holder, alone).map_err(what(format!("leave the peers of {}", self.holder.display())))?;
        let bundle = Some(&self.bundle);
        mount(bundle, &self.bundle, None::<&str>, MsFlags::MS_BIND | MsFlags::MS_REC, None::<&str>)
            .map_err(what(format!("bind {} to itself", self.bundle.display())))?;
        change(&self.bundle, MsFlags::MS_PRIVATE).map_err(what(format!("make {} private", self.bundle.display())))?;
        if self.set_group {
            self.come_back(&host);
        }
        for step in &self.steps {
            step.make(&self.bundle.join("rootfs")).map_err(|error| (step.to_string(), error))?;
        }
        Ok(())
    }

    /// The mount that holds the bundle becomes a peer of the host's again. It was none before if this fails.
    fn come_back(&self, host: &OwnedFd) {
        if let Ok(here) = open_path(&self.holder) {
            sys::join_peers(host.as_fd(), here.as_fd()).ok();
        }
    }
}

fn open_path(path: &Path) -> io::Result<OwnedFd> {
    Ok(openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())?)
}

fn change(path: &Path, propagation: MsFlags) -> nix::Result<()> {
    mount(None::<&str>, path, None::<&str>, propagation, None::<&str>)
}

/// The mount point at or above a directory: statx(2) says what is one (Linux 5.8).
fn holder(directory: &Path) -> io::Result<PathBuf> {
    const STATX_ATTR_MOUNT_ROOT: u64 = libc::STATX_ATTR_MOUNT_ROOT as u64;
    let directory = directory.canonicalize()?;
    for ancestor in directory.ancestors() {
        let found = statx(CWD, ancestor, AtFlags::SYMLINK_NOFOLLOW, StatxFlags::BASIC_STATS)?;
        if found.stx_attributes.bits() & STATX_ATTR_MOUNT_ROOT != 0 {
            return Ok(ancestor.to_owned());
        }
    }
    Ok("/".into())
}

impl Step {
    fn of(mount: &Mount) -> Result<Step> {
        let mut step = Step {
            kind: mount.type_.clone(),
            source: mount.source.clone(),
            target: mount.target.trim_matches('/').to_owned(),
            flags: MsFlags::empty(),
            data: Vec::new(),
            maps: None,
        };
        let (mut uids, mut gids) = (None, None);
        for option in &mount.options {
            match (flag(option), option.split_once('=')) {
                (Some((flag, true)), _) => step.flags |= flag,
                (Some((flag, false)), _) => step.flags &= !flag,
                (None, Some(("uidmap", map))) => uids = Some(map),
                (None, Some(("gidmap", map))) => gids = Some(map),
                (None, _) if option == "loop" || option.starts_with("X-containerd.") => {
                    let message = format!("rootfs: mount option {option:?} of {} is not supported", mount.source);
                    return Err(Error::Invalid(message));
                }
                (None, _) => step.data.push(option.clone()),
            }
        }
        if mount.type_ == "bind" || mount.type_ == "rbind" {
            step.flags |= MsFlags::MS_BIND;
        }
        if let (Some(uids), Some(gids)) = (uids, gids) {
            step.maps = Some(idmap::Maps::parse(uids, gids).map_err(Error::Invalid)?);
        }
        Ok(step)
    }

    fn make(&self, rootfs: &Path) -> io::Result<()> {
        let (target, _kept) = self.place(rootfs)?;
        let data = match (&*self.kind, &self.maps) {
            ("overlay", maps) => return self.overlay(&target, maps.as_ref()),
            (_, Some(_)) => return Err(io::Error::from_raw_os_error(libc::EOPNOTSUPP)),
            (_, None) => self.data.join(","),
        };
        let data = (!data.is_empty()).then_some(data.as_str());
        let kind = (!self.flags.contains(MsFlags::MS_BIND)).then_some(self.kind.as_str());
        mount(Some(self.source.as_str()), &target, kind, self.flags, data)?;
        // mount(2): what a bind mount may not is ignored when it is made.
        match self.flags.contains(MsFlags::MS_BIND) {
            true => self.restrict(rootfs),
            false => Ok(()),
        }
    }

    /// The layers as one, with the ids of the lower ones mapped where that is wanted.
    fn overlay(&self, target: &Path, maps: Option<&idmap::Maps>) -> io::Result<()> {
        let layers = Layers::parse(self.data.iter().map(String::as_str)).ok_or(io::ErrorKind::InvalidInput)?;
        let place = CString::new(target.as_os_str().as_bytes())?;
        let layers = match maps {
            Some(maps) => overlay::mapped(&layers, idmap::namespace(maps)?.as_fd(), &place)?,
            None => layers,
        };
        let (mount, attached) = overlay::mount(&layers, Some(&place))?;
        if !attached {
            move_mount(mount, "", CWD, target, MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH)?;
        }
        self.restrict_at(target)
    }

    /// What the mount alone may not.
    fn restrict(&self, rootfs: &Path) -> io::Result<()> {
        let (target, _kept) = self.place(rootfs)?;
        self.restrict_at(&target)
    }

    fn restrict_at(&self, target: &Path) -> io::Result<()> {
        let restrictions = self.flags & !(MsFlags::MS_BIND | MsFlags::MS_REC);
        if !restrictions.is_empty() {
            let again = restrictions | MsFlags::MS_BIND | MsFlags::MS_REMOUNT;
            mount(None::<&str>, target, None::<&str>, again, None::<&str>)?;
        }
        Ok(())
    }
}

impl Step {
    /// Where it goes, found inside the root: a link in the image leads nowhere else.
    fn place(&self, rootfs: &Path) -> io::Result<(PathBuf, Option<OwnedFd>)> {
        if self.target.is_empty() {
            return Ok((rootfs.to_owned(), None));
        }
        let root = open_path(rootfs)?;
        let resolve = ResolveFlags::IN_ROOT | ResolveFlags::NO_MAGICLINKS;
        let found = openat2(root, &self.target, OFlags::PATH | OFlags::CLOEXEC, Mode::empty(), resolve)?;
        Ok((format!("/proc/self/fd/{}", found.as_raw_fd()).into(), Some(found)))
    }
}

impl std::fmt::Display for Step {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "mount {} {:?} on rootfs/{}", self.kind, self.source, self.target)?;
        if self.data.is_empty() { Ok(()) } else { write!(f, " with {}", self.data.join(",")) }
    }
}

/// What mount(8) calls a flag, and whether it is set or cleared.
fn flag(option: &str) -> Option<(MsFlags, bool)> {
    Some(match option {
        "ro" => (MsFlags::MS_RDONLY, true),
        "rw" => (MsFlags::MS_RDONLY, false),
        "bind" => (MsFlags::MS_BIND, true),
        "rbind" => (MsFlags::MS_BIND | MsFlags::MS_REC, true),
        "nosuid" => (MsFlags::MS_NOSUID, true),
        "suid" => (MsFlags::MS_NOSUID, false),
        "nodev" => (MsFlags::MS_NODEV, true),
        "dev" => (MsFlags::MS_NODEV, false),
        "noexec" => (MsFlags::MS_NOEXEC, true),
        "exec" => (MsFlags::MS_NOEXEC, false),
        "sync" => (MsFlags::MS_SYNCHRONOUS, true),
        "async" => (MsFlags::MS_SYNCHRONOUS, false),
        "dirsync" => (MsFlags::MS_DIRSYNC, true),
        "noatime" => (MsFlags::MS_NOATIME, true),
        "atime" => (MsFlags::MS_NOATIME, false),
        "nodiratime" => (MsFlags::MS_NODIRATIME, true),
        "diratime" => (MsFlags::MS_NODIRATIME, false),
        "relatime" => (MsFlags::MS_RELATIME, true),
        "norelatime" => (MsFlags::MS_RELATIME, false),
        "strictatime" => (MsFlags::MS_STRICTATIME, true),
        "nostrictatime" => (MsFlags::MS_STRICTATIME, false),
        "defaults" => (MsFlags::empty(), true),
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn step(kind: &str, options: &[&str]) -> Result<Step> {
        let mount = Mount {
            type_: kind.into(),
            source: "/src".into(),
            options: options.iter().map(|it| (*it).into()).collect(),
            ..Default::default()
        };
        Step::of(&mount)
    }

    #[test]
    fn options_become_flags_and_data() {
        let bind = step("bind", &["rbind", "ro"]).unwrap();
        assert_eq!(bind.flags, MsFlags::MS_BIND | MsFlags::MS_REC | MsFlags::MS_RDONLY);
        assert_eq!(bind.target, "");
        let overlay = step("overlay", &["index=off", "ro", "rw", "lowerdir=/a:/b"]).unwrap();
        assert_eq!((overlay.flags, overlay.data.len()), (MsFlags::empty(), 2));
        assert!(step("ext4", &["loop"]).unwrap_err().to_string().contains("loop"));
    }
}
