//! What a caller without privileges on the host goes without, rather than fail: a cgroup that nobody asked for, device
//! rules, an OOM score below the own one.
//!
//! Whether the caller is one is asked only once something was refused.

use crate::error::{Context, Error, Result, bad};
use crate::plan::{Plan, is_in_user_namespace};
use cgroup::{Cgroup, Place, Resources};
use rustix::io::Errno;

/// `asked` is what `--rootless` says; without it, who is not root of the host's first user namespace.
fn is_rootless(asked: Option<bool>) -> bool {
    asked.unwrap_or_else(|| !rustix::process::geteuid().is_root() || is_in_user_namespace())
}

fn is_refusal(errno: Errno) -> bool {
    matches!(errno, Errno::PERM | Errno::ACCESS | Errno::ROFS)
}

fn may_pass_over(error: &cgroup::Error, rootless: Option<bool>) -> bool {
    error.errno().is_some_and(|errno| is_refusal(Errno::from_raw_os_error(errno))) && is_rootless(rootless)
}

/// Makes the container's cgroup, or goes without where neither a path nor a limit was asked for.
pub(crate) fn make_cgroup(plan: &mut Plan) -> Result<Cgroup> {
    match plan.cgroup.create() {
        Err(error) if !plan.cgroups_path_given && may_pass_over(&error, plan.rootless) => {
            if !plan.resources.is_unlimited() {
                return Err(bad(
                    "linux.resources",
                    format_args!("limits need a cgroup, and none can be made: {error}"),
                ));
            }
            log::debug!("going on without a cgroup: {error}");
            plan.cgroup = Place::disabled();
            crate::plan::show_own_cgroups(&mut plan.root)?;
            Ok(plan.cgroup.create()?)
        }
        made => made.map_err(|error| bad("linux.cgroupsPath", error)),
    }
}

/// [`Cgroup::prepare`], without device rules where the kernel does not let the caller set them: the devices that a user
/// may open are those that the host lets it open.
pub(crate) fn prepare_cgroup(plan: &Plan, cgroup: &Cgroup) -> Result<()> {
    match cgroup.prepare(&plan.resources) {
        Err(error) if !plan.resources.devices.is_empty() && may_pass_over(&error, plan.rootless) => {
            log::debug!("going on without device rules: {error}");
            Ok(cgroup.prepare(&Resources { devices: Vec::new(), ..plan.resources.clone() })?)
        }
        prepared => Ok(prepared?),
    }
}

/// [`Cgroup::settle`]; an owner that cannot be given the cgroup goes without, as the specification asks for none.
pub(crate) fn settle(plan: &Plan, cgroup: &Cgroup, pid: i32) -> Result<()> {
    match cgroup.settle(pid, plan.cgroup_owner) {
        Err(error) if plan.cgroup_owner.is_some() && may_pass_over(&error, plan.rootless) => {
            log::debug!("going on without another owner of the cgroup: {error}");
            Ok(cgroup.settle(pid, None)?)
        }
        settled => Ok(settled?),
    }
}

/// `process.oomScoreAdj`, proc_pid_oom_score_adj(5). To lower it takes CAP_SYS_RESOURCE on the host.
pub(crate) fn set_oom_score(pid: i32, score: i32, rootless: Option<bool>) -> Result<()> {
    let path = format!("/proc/{pid}/oom_score_adj");
    let what = || format!("process.oomScoreAdj: write {score} to {path}");
    match std::fs::write(&path, score.to_string()).context(what) {
        Err(Error::Sys { errno, what }) if is_refusal(errno) && is_rootless(rootless) => {
            log::debug!("going on without {what}: {}", crate::error::text(errno));
            Ok(())
        }
        done => done,
    }
}
