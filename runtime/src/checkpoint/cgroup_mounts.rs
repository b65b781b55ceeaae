//! The options of the host's mount of cgroup v2. CRIU mounts it once more to look at cgroups, with none, and that is for
//! all mounts of it; `nsdelegate` among them makes a cgroup namespace a boundary (cgroups(7)).

use crate::error::{Context, Result};
use rustix::fs::CWD;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};

/// Mount points with their options.
pub(super) struct CgroupMounts(Vec<(Vec<u8>, String)>);

impl CgroupMounts {
    pub(super) fn now() -> Result<CgroupMounts> {
        let path = "/proc/self/mountinfo";
        let text = std::fs::read(path).context(|| format!("read {path}"))?;
        Ok(CgroupMounts(text.split(|byte| *byte == b'\n').filter_map(parse).collect()))
    }

    /// Sets those again that have changed.
    pub(super) fn restore(self) -> Result<()> {
        let now = CgroupMounts::now()?;
        for (point, options) in self.0.iter().filter(|mounted| !now.0.contains(mounted)) {
            let what = || format!("mount cgroup v2 with {options} as before");
            let filesystem = fspick(CWD, &**point, FsPickFlags::FSPICK_CLOEXEC).context(what)?;
            for word in options.split(',').filter(|word| !matches!(*word, "rw" | "ro")) {
                fsconfig_set_flag(&filesystem, word).context(what)?;
            }
            fsconfig_reconfigure(&filesystem).context(what)?;
        }
        Ok(())
    }
}

/// Of a line of proc_pid_mountinfo(5) the fifth field, and the options of the file system.
fn parse(line: &[u8]) -> Option<(Vec<u8>, String)> {
    let mut fields = line.split(|byte| *byte == b' ');
    let point = cgroup::unescape(fields.nth(4)?);
    fields.by_ref().find(|field| *field == b"-")?;
    if fields.next()? != b"cgroup2" {
        return None;
    }
    Some((point, String::from_utf8_lossy(fields.nth(1)?).into_owned()))
}

#[cfg(test)]
mod tests {
    use super::parse;

    #[test]
    fn only_cgroup_v2() {
        let line = b"30 24 0:26 / /sys/fs/cgroup rw,nosuid shared:9 - cgroup2 cgroup2 rw,nsdelegate";
        assert_eq!(parse(line), Some((b"/sys/fs/cgroup".to_vec(), "rw,nsdelegate".to_owned())));
        assert_eq!(parse(b"30 24 0:26 / /sys/fs/cgroup/cpu rw shared:9 - cgroup cgroup rw,cpu"), None);
    }
}
