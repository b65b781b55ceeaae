//! Ids, capabilities, no_new_privs, the filter of system calls, labels and limits of restored threads.

use super::status::ThreadStatus;
use crate::error::{Context, Error, Result, bad};
use crate::plan::{Plan, Process};
use crate::seccomp::Instruction;
use crate::sys;
use std::fmt::Display;

/// What config.json allows.
pub(super) struct Expected<'p> {
    process: &'p Process,
    init: i32,
    uid: u32,
    gid: u32,
    groups: Vec<u32>,
}

const SETGID: u32 = 6;
const SETUID: u32 = 7;
const SYS_RESOURCE: u32 = 24;

fn has(mask: u64, capability: u32) -> bool {
    mask & (1 << capability) != 0
}

impl<'p> Expected<'p> {
    pub(super) fn new(plan: &'p Plan, init: i32) -> Result<Expected<'p>> {
        let process =
            plan.process.as_ref().ok_or_else(|| Error::Child("process: not set in config.json".to_owned()))?;
        let maps = plan.namespaces.ids.as_ref().or(plan.namespaces.expected_ids.as_ref());
        let on_host = |uid, gid| maps.map_or(Some((uid, gid)), |maps| maps.on_host(uid, gid));
        let (uid, gid) = on_host(process.uid, process.gid).ok_or_else(|| bad("process.user", "is not mapped"))?;
        let group = |gid: &u32| on_host(process.uid, *gid).map(|(_, gid)| gid);
        Ok(Expected { process, init, uid, gid, groups: process.groups.iter().filter_map(group).collect() })
    }

    pub(super) fn check(&self, process: i32, thread: i32) -> Result<()> {
        let status = ThreadStatus::read(process, thread)?;
        self.check_capabilities(process, &status)?;
        if self.process.no_new_privileges && !status.no_new_privileges {
            return Err(differs("process.noNewPrivileges", process, "it may gain privileges"));
        }
        self.check_ids(process, &status)?;
        match &self.process.seccomp {
            Some(seccomp) if !has_filter(thread, &seccomp.program)? => {
                Err(differs("linux.seccomp", process, "it has not this filter of system calls"))
            }
            _ => Ok(()),
        }
    }

    /// A program whose file has the set-user-ID bit may have what is bounding, unless no_new_privs keeps it from that.
    fn check_capabilities(&self, process: i32, status: &ThreadStatus) -> Result<()> {
        let sets = &self.process.capabilities;
        let bounding = sets.bounding.0;
        let permitted = sets.permitted.0 | if self.process.no_new_privileges { 0 } else { bounding };
        let inheritable = sets.inheritable.0 | bounding;
        let within = [
            ("bounding", status.bounding, bounding),
            ("permitted", status.permitted, permitted),
            ("effective", status.effective, permitted),
            ("inheritable", status.inheritable, inheritable),
            ("ambient", status.ambient, permitted & inheritable),
        ];
        for (set, found, allowed) in within {
            let more = found & !allowed;
            if more != 0 {
                let names = caps::all().into_iter().filter(|cap| more & cap.bitmask() != 0);
                let names: Vec<String> = names.map(|cap| cap.to_string()).collect();
                let names = if names.is_empty() { format!("{more:#x}") } else { names.join(", ") };
                return Err(differs(
                    format_args!("process.capabilities.{set}"),
                    process,
                    format_args!("it has {names}"),
                ));
            }
        }
        Ok(())
    }

    /// The init has the ids of config.json, unless it was allowed to change them. Others may also have them from a program
    /// with the set-user-ID bit.
    fn check_ids(&self, process: i32, status: &ThreadStatus) -> Result<()> {
        let sets = &self.process.capabilities;
        let by_program = process != self.init && !self.process.no_new_privileges;
        let may = |capability| has(sets.permitted.0 | if by_program { sets.bounding.0 } else { 0 }, capability);
        if let Some(uid) = status.uids.iter().find(|uid| **uid != self.uid).filter(|_| !may(SETUID)) {
            return Err(differs("process.user.uid", process, format_args!("it runs as {uid} (of the host)")));
        }
        let group = |gid: &&u32| **gid != self.gid && !self.groups.contains(gid);
        if let Some(gid) = status.gids.iter().find(|gid| **gid != self.gid).filter(|_| !may(SETGID)) {
            return Err(differs("process.user.gid", process, format_args!("it runs as {gid} (of the host)")));
        }
        match status.groups.iter().find(group).filter(|_| !may(SETGID)) {
            Some(gid) => {
                Err(differs("process.user.additionalGids", process, format_args!("it is in {gid} (of the host)")))
            }
            None => Ok(()),
        }
    }
}

/// What is the same for all threads of a process.
pub(super) fn check_process(plan: &Plan, pid: i32) -> Result<()> {
    let Some(process) = &plan.process else { return Ok(()) };
    for label in [&process.labels.apparmor, &process.labels.selinux].into_iter().flatten() {
        let text = label.text.to_string();
        let wanted = text.strip_prefix("exec ").unwrap_or(&text);
        let path = format!("/proc/{pid}/attr/current");
        let found = std::fs::read_to_string(&path).context(|| format!("read {path}"))?;
        let found = found.trim_end_matches(['\n', '\0']);
        // AppArmor adds in what mode the profile is.
        if found != wanted && found.split(" (").next() != Some(wanted) {
            return Err(differs(label.property, pid, format_args!("it has {found:?}")));
        }
    }
    let may_raise = has(process.capabilities.bounding.0, SYS_RESOURCE);
    for limit in process.rlimits.iter().filter(|_| !may_raise) {
        let (_, hard) = sys::get_rlimit(pid, limit.resource).context(|| format!("prlimit of {pid}"))?;
        if hard > limit.hard {
            let property = format_args!("process.rlimits RLIMIT_{}", limit.name());
            return Err(differs(property, pid, format_args!("its hard limit is {hard}")));
        }
    }
    Ok(())
}

fn differs(property: impl Display, process: i32, problem: impl Display) -> Error {
    bad(property, format_args!("process {process} of the checkpoint is not as this config.json has it: {problem}"))
}

/// Of several filters the strictest answer counts, so that one more does no harm.
fn has_filter(thread: i32, wanted: &[Instruction]) -> Result<bool> {
    for index in 0.. {
        match sys::seccomp_filter(thread, index).context(|| format!("read the filters of process {thread}"))? {
            None => return Ok(false),
            Some(found) if found == wanted => return Ok(true),
            Some(_) => {}
        }
    }
    Ok(false)
}
