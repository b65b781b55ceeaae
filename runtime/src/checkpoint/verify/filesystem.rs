//! What restored processes see of files: the root, each mount with its flags, masked and read-only paths, and that
//! nothing else is mounted.

use crate::checkpoint::mounts;
use crate::error::{Context, Result, bad};
use crate::mountinfo::{self, Mounted};
use crate::plan::Plan;
use rootfs::options::{NODEV, NOEXEC, NOSUID, RDONLY};
use rootfs::plan::{Mount, What};
use rustix::fd::{AsFd, OwnedFd};
use rustix::fs::{
    AtFlags, CWD, FileType, Mode, OFlags, Stat, StatVfsMountFlags, StatxFlags, fstat, fstatvfs, makedev, openat, stat,
    statx,
};
use rustix::io::Errno;
use std::collections::BTreeSet;
use std::ffi::CStr;

const SYS_ADMIN: u64 = 1 << 21;

pub(super) fn check(plan: &Plan, init: i32) -> Result<()> {
    let path = format!("/proc/{init}/root");
    let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
    let root = openat(CWD, &path, flags, Mode::empty()).context(|| format!("open {path}"))?;
    let seen = Seen { root, mounts: mountinfo::of(&init.to_string())? };
    let mut expected = BTreeSet::from([b"/".to_vec()]);
    seen.check_root(plan)?;
    for (index, mount) in plan.root.mounts.iter().enumerate() {
        let later = plan.root.mounts.iter().skip(index + 1);
        if !later.map(|later| later.destination.to_bytes()).any(|later| covers(later, mount.destination.to_bytes())) {
            expected.extend(seen.check_mount(index, mount)?);
        }
        expected.insert(mount.destination.to_bytes().to_vec());
    }
    for (index, path) in plan.root.readonly_paths.iter().enumerate() {
        let Some(found) = seen.open(path)? else { continue };
        expected.extend(seen.point(&found)?);
        if !is_read_only(&found)? {
            return Err(differs(format_args!("linux.readonlyPaths[{index}] {path:?}"), "can be written to"));
        }
    }
    for (index, path) in plan.root.masked_paths.iter().enumerate() {
        let Some(found) = seen.open(path)? else { continue };
        expected.extend(seen.point(&found)?);
        if !seen.is_mask(&found)? {
            return Err(differs(format_args!("linux.maskedPaths[{index}] {path:?}"), "is not masked"));
        }
    }
    let may_mount = plan.process.as_ref().is_some_and(|of| of.capabilities.bounding.0 & SYS_ADMIN != 0);
    if may_mount {
        return Ok(());
    }
    expected.extend(mounts::sources(plan)?.into_iter().map(|source| source.point));
    expected.extend([b"/dev/console".to_vec(), b"/dev/ptmx".to_vec()]);
    match seen.mounts.iter().find(|mounted| !expected.contains(&mounted.point)) {
        Some(more) => {
            let point = String::from_utf8_lossy(&more.point);
            Err(differs("mounts", format_args!("{point:?} ({}) is mounted, which nothing asks for", more.kind)))
        }
        None => Ok(()),
    }
}

/// What is mounted on a path hides what was mounted there, or below it, before.
fn covers(later: &[u8], path: &[u8]) -> bool {
    path.strip_prefix(later).is_some_and(|rest| rest.first().is_none_or(|byte| *byte == b'/'))
}

fn differs(property: impl std::fmt::Display, problem: impl std::fmt::Display) -> crate::error::Error {
    bad(property, format_args!("the checkpoint is not as this config.json has it: {problem}"))
}

fn is_read_only(fd: &OwnedFd) -> Result<bool> {
    Ok(flags(fd)?.contains(StatVfsMountFlags::RDONLY))
}

fn flags(fd: &OwnedFd) -> Result<StatVfsMountFlags> {
    fstatvfs(fd).map(|stat| stat.f_flag).context(|| "statfs of a restored mount".to_owned())
}

/// A container's files as its init sees them.
struct Seen {
    root: OwnedFd,
    mounts: Vec<Mounted>,
}

impl Seen {
    /// None: it is not there.
    fn open(&self, path: &CStr) -> Result<Option<OwnedFd>> {
        match rootfs::open_in_root(self.root.as_fd(), path, OFlags::PATH) {
            Err(Errno::NOENT | Errno::NOTDIR) => Ok(None),
            opened => opened.map(Some).context(|| format!("open {path:?} of the restored container")),
        }
    }

    /// The mount that a file is on.
    fn mount_of(&self, fd: &OwnedFd) -> Result<Option<&Mounted>> {
        let found = statx(fd, "", AtFlags::EMPTY_PATH, StatxFlags::MNT_ID).context(|| "statx".to_owned())?;
        Ok(self.mounts.iter().find(|mounted| mounted.id == found.stx_mnt_id))
    }

    fn point(&self, fd: &OwnedFd) -> Result<Option<Vec<u8>>> {
        Ok(self.mount_of(fd)?.map(|mounted| mounted.point.clone()))
    }

    fn check_root(&self, plan: &Plan) -> Result<()> {
        if plan.root.layers.is_none() {
            let wanted = stat(&*plan.root.path).context(|| format!("stat {}", plan.root.path))?;
            let found = fstat(&self.root).context(|| "stat the restored root".to_owned())?;
            if !is_same(&wanted, &found) {
                return Err(differs("root.path", "it has another root"));
            }
        }
        match plan.root.readonly && !is_read_only(&self.root)? {
            true => Err(differs("root.readonly", "the root can be written to")),
            false => Ok(()),
        }
    }

    /// Where it is, links followed.
    fn check_mount(&self, index: usize, mount: &Mount) -> Result<Option<Vec<u8>>> {
        let property = format!("mounts[{index}] {:?}", mount.destination);
        let Some(found) = self.open(&mount.destination)? else { return Err(differs(property, "it is not there")) };
        let is_there = match &mount.what {
            What::Bind { source, .. } => {
                let wanted = stat(&**source).context(|| format!("{property}: stat {source}"))?;
                is_same(&wanted, &fstat(&found).context(|| property.clone())?)
            }
            What::Filesystem(of) => {
                self.mount_of(&found)?.is_some_and(|mounted| mounted.kind.as_bytes() == of.kind.to_bytes())
            }
            What::Cgroup(_) => {
                self.mount_of(&found)?.is_some_and(|m| m.kind.starts_with("cgroup") || m.kind == "tmpfs")
            }
            What::Remount(_) => true,
        };
        if !is_there {
            return Err(differs(property, "something else is there"));
        }
        let now = flags(&found)?;
        let set = mount.attr.map_or(0, |attr| attr.set);
        let wanted = [
            (RDONLY, StatVfsMountFlags::RDONLY, "ro"),
            (NOSUID, StatVfsMountFlags::NOSUID, "nosuid"),
            (NODEV, StatVfsMountFlags::NODEV, "nodev"),
            (NOEXEC, StatVfsMountFlags::NOEXEC, "noexec"),
        ];
        match wanted.into_iter().find(|(bit, flag, _)| set & bit != 0 && !now.contains(*flag)) {
            Some((.., word)) => Err(differs(property, format_args!("it is not {word}"))),
            None => self.point(&found),
        }
    }

    /// The null device, or an empty directory that stays so.
    fn is_mask(&self, fd: &OwnedFd) -> Result<bool> {
        let stat = fstat(fd).context(|| "stat a masked path".to_owned())?;
        Ok(match FileType::from_raw_mode(stat.st_mode) {
            FileType::CharacterDevice => stat.st_rdev == makedev(1, 3),
            FileType::Directory => is_read_only(fd)? && self.mount_of(fd)?.is_some_and(|m| m.kind == "tmpfs"),
            _ => false,
        })
    }
}

fn is_same(one: &Stat, other: &Stat) -> bool {
    (one.st_dev, one.st_ino) == (other.st_dev, other.st_ino)
}
