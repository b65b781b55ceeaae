//! The facts of the host that plans depend on, each asked at most once and only if somebody needs it.

use crate::error::{Context, Error, Result};
use rustix::io::Errno;
use std::cell::OnceCell;

/// This process as the kernel describes it, and the host's cgroups.
#[derive(Default)]
pub(crate) struct Host {
    status: OnceCell<SelfStatus>,
    cgroups: OnceCell<cgroup::Host>,
}

/// statfs(2).
const SELINUX_MAGIC: rustix::fs::FsWord = 0xf97c_ff8c;

/// From /proc/self/status.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct SelfStatus {
    /// Capabilities that a container can be given.
    pub permitted: u64,
    /// Signals that are ignored, which execve(2) keeps.
    pub ignored_signals: u64,
    /// All its ids are 0: real, effective, saved, and of the file system.
    pub is_root: bool,
    pub has_no_groups: bool,
}

impl Host {
    pub(crate) fn status(&self) -> Result<SelfStatus> {
        if let Some(status) = self.status.get() {
            return Ok(*status);
        }
        let mut text = [0u8; 4096];
        let path = "/proc/self/status";
        let length = crate::state::read_file(path, &mut text).context(|| format!("read {path}"))?;
        let status =
            parse(&text[..length]).ok_or_else(|| Error::Sys { what: format!("read {path}"), errno: Errno::INVAL })?;
        Ok(*self.status.get_or_init(|| status))
    }

    /// Whether the kernel runs AppArmor (Documentation/admin-guide/LSM/apparmor.rst).
    pub(crate) fn has_apparmor(&self) -> bool {
        std::fs::read("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.first() == Some(&b'Y'))
    }

    /// Whether the kernel runs SELinux: its file system is mounted where it belongs.
    pub(crate) fn has_selinux(&self) -> bool {
        rustix::fs::statfs("/sys/fs/selinux").is_ok_and(|fs| fs.f_type == SELINUX_MAGIC)
    }

    pub(crate) fn cgroups(&self) -> Result<&cgroup::Host> {
        if self.cgroups.get().is_none() {
            let found = cgroup::Host::detect()?;
            return Ok(self.cgroups.get_or_init(|| found));
        }
        self.cgroups.get().ok_or_else(|| Error::Usage("cgroups are not known".to_owned()))
    }

    /// Whether the kernel knows this SECCOMP_FILTER_FLAG_*.
    pub(crate) fn has_seccomp_flag(&self, flag: u64) -> bool {
        crate::sys::has_filter_flags(flag)
    }

    /// The version of Landlock, if the kernel has it and it is on.
    pub(crate) fn landlock_version(&self) -> Option<u32> {
        crate::sys::landlock_version().ok()
    }

    /// Whether the kernel has huge pages of so many kilobytes.
    pub(crate) fn has_hugepages(&self, kilobytes: u64) -> bool {
        rustix::fs::stat(format!("/sys/kernel/mm/hugepages/hugepages-{kilobytes}kB")).is_ok()
    }

    /// Whether `path` is the namespace of `kind` that this process is in.
    pub(crate) fn is_own_namespace(&self, kind: &str, path: &str) -> Result<bool> {
        let own = format!("/proc/self/ns/{kind}");
        let id = |path: &str| rustix::fs::stat(path).map(|stat| (stat.st_dev, stat.st_ino));
        let own = id(&own).context(|| format!("stat {own}"))?;
        Ok(id(path).is_ok_and(|other| other == own))
    }
}

/// The inode number of the first user namespace, PROC_USER_INIT_INO of linux/proc_ns.h.
const FIRST_USER_NAMESPACE: u64 = 0xEFFF_FFFD;

/// Whether this process is in another user namespace than the host's first. A map of all ids to themselves, as systemd
/// gives services, does not make that one.
pub(crate) fn is_in_user_namespace() -> bool {
    rustix::fs::stat("/proc/self/ns/user").is_ok_and(|stat| stat.st_ino != FIRST_USER_NAMESPACE)
}

/// The program's name in it may be any bytes.
fn parse(text: &[u8]) -> Option<SelfStatus> {
    let line = |name: &str| {
        let line = text.split(|byte| *byte == b'\n').find_map(|line| line.strip_prefix(name.as_bytes()))?;
        std::str::from_utf8(line).ok().map(str::trim)
    };
    let field = |name: &str| u64::from_str_radix(line(name)?, 16).ok();
    let is_root = ["Uid:", "Gid:"].iter().all(|name| line(name) == Some("0\t0\t0\t0"));
    Some(SelfStatus {
        permitted: field("CapPrm:")?,
        ignored_signals: field("SigIgn:")?,
        is_root,
        has_no_groups: line("Groups:") == Some(""),
    })
}

#[cfg(test)]
mod tests {
    #[test]
    fn fields_are_hexadecimal() {
        let text = b"Name:\tx\nSigIgn:\t0000000000001000\nSigCgt:\t00\nCapPrm:\t000001ffffffffff\n";
        let status = super::parse(text).unwrap();
        assert_eq!((status.ignored_signals, status.permitted), (0x1000, 0x1ff_ffff_ffff));
        // Nothing is said, so nothing is known.
        assert!(!status.is_root && !status.has_no_groups);
        let with = |ids: &str| super::parse(&[&text[..], ids.as_bytes()].concat()).unwrap();
        let status = with("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t0\t0\nGroups:\t \n");
        assert!(status.is_root && status.has_no_groups);
        let status = with("Uid:\t0\t0\t0\t0\nGid:\t0\t0\t5\t0\nGroups:\t0 5 \n");
        assert!(!status.is_root && !status.has_no_groups);
    }
}
