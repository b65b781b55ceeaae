//! The options of the host's mount of cgroup v2. CRIU mounts it once more to look at cgroups, with none, and that is for
//! all mounts of it; `nsdelegate` among them makes a cgroup namespace a boundary (cgroups(7)).

use crate::error::{Context, Result};
use crate::mountinfo;
use rustix::fs::CWD;
use rustix::mount::{FsPickFlags, fsconfig_reconfigure, fsconfig_set_flag, fspick};

/// Mount points with their options.
pub(super) struct CgroupMounts(Vec<(Vec<u8>, String)>);

impl CgroupMounts {
    pub(super) fn now() -> Result<CgroupMounts> {
        let all = mountinfo::of("self")?.into_iter().filter(|mounted| mounted.kind == "cgroup2");
        Ok(CgroupMounts(all.map(|mounted| (mounted.point, mounted.options)).collect()))
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
