//! `process`: the program and who it runs as (config.md, Process).

use super::{List, Str};
use serde::Deserialize;

super::base::objects!(Process User Rlimit Capabilities Scheduler IoPriority ExecCpuAffinity; ConsoleSize);

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Process<'a> {
    pub terminal: Option<bool>,
    pub console_size: Option<ConsoleSize>,
    #[serde(borrow)]
    pub user: Option<User<'a>>,
    #[serde(borrow)]
    pub cwd: Option<Str<'a>>,
    #[serde(borrow)]
    pub env: List<Str<'a>>,
    #[serde(borrow)]
    pub args: List<Str<'a>>,
    #[serde(borrow)]
    pub rlimits: List<Rlimit<'a>>,
    #[serde(borrow)]
    pub apparmor_profile: Option<Str<'a>>,
    #[serde(borrow)]
    pub selinux_label: Option<Str<'a>>,
    #[serde(borrow)]
    pub capabilities: Option<Capabilities<'a>>,
    pub no_new_privileges: Option<bool>,
    pub oom_score_adj: Option<i32>,
    #[serde(borrow)]
    pub scheduler: Option<Scheduler<'a>>,
    #[serde(borrow)]
    pub io_priority: Option<IoPriority<'a>>,
    #[serde(borrow, rename = "execCPUAffinity")]
    pub exec_cpu_affinity: Option<ExecCpuAffinity<'a>>,
}

/// Characters, not pixels.
#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct ConsoleSize {
    pub height: Option<u64>,
    pub width: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct User<'a> {
    pub uid: Option<u32>,
    pub gid: Option<u32>,
    pub umask: Option<u32>,
    pub additional_gids: List<u32>,
    /// Means something on Windows only; names are resolved by upper layers.
    #[serde(borrow)]
    pub username: Option<Str<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Rlimit<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Str<'a>>,
    pub soft: Option<u64>,
    pub hard: Option<u64>,
}

/// Five sets of names as in capabilities(7).
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Capabilities<'a> {
    #[serde(borrow)]
    pub bounding: List<Str<'a>>,
    #[serde(borrow)]
    pub effective: List<Str<'a>>,
    #[serde(borrow)]
    pub inheritable: List<Str<'a>>,
    #[serde(borrow)]
    pub permitted: List<Str<'a>>,
    #[serde(borrow)]
    pub ambient: List<Str<'a>>,
}

/// See sched_setattr(2); times in nanoseconds.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Scheduler<'a> {
    #[serde(borrow)]
    pub policy: Option<Str<'a>>,
    pub nice: Option<i32>,
    pub priority: Option<i32>,
    #[serde(borrow)]
    pub flags: List<Str<'a>>,
    pub runtime: Option<u64>,
    pub deadline: Option<u64>,
    pub period: Option<u64>,
}

/// See ioprio_set(2).
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct IoPriority<'a> {
    #[serde(borrow)]
    pub class: Option<Str<'a>>,
    pub priority: Option<i64>,
}

/// CPU lists such as `0-3,7`, for exec only.
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct ExecCpuAffinity<'a> {
    #[serde(borrow)]
    pub initial: Option<Str<'a>>,
    #[serde(borrow, rename = "final")]
    pub last: Option<Str<'a>>,
}
