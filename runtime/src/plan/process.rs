//! `process`, for the container's init and for exec: the program, who it runs as, and how it is scheduled.

use super::capabilities::{self, CapabilitySets};
use super::{Host, Labels, Landlock, Seccomp, clean, landlock, seccomp, text};
use crate::config::spec::{self, Linux};
use crate::error::{Result, bad};
use crate::sys::{BitSet, Schedule, StringArray};
use rootfs::plan::CText;
use serde::Serialize;

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Process {
    pub args: StringArray,
    /// Where the program is looked for, in order.
    pub candidates: Vec<CText>,
    pub env: StringArray,
    /// HOME is to be taken from the container's /etc/passwd.
    pub needs_home: bool,
    pub cwd: CText,
    pub uid: u32,
    pub gid: u32,
    pub umask: u32,
    pub groups: Vec<u32>,
    /// Its process has no groups, and all its ids are the program's, from before it is made: they need not be set.
    #[serde(skip)]
    pub has_no_groups: bool,
    #[serde(skip)]
    pub has_ids: bool,
    pub capabilities: CapabilitySets,
    pub no_new_privileges: bool,
    pub labels: Labels,
    pub rlimits: Vec<Rlimit>,
    pub oom_score_adj: Option<i32>,
    pub terminal: bool,
    /// Rows and columns; zeros are left to whoever watches.
    pub console_size: (u16, u16),
    pub schedule: Option<Schedule>,
    /// Class and level.
    pub io_priority: Option<(u32, u32)>,
    /// execCPUAffinity, exec only: before and after the move into the cgroup.
    pub affinity: Affinity,
    pub memory_policy: Option<MemoryPolicy>,
    pub personality: Option<u64>,
    pub keyring: Option<CText>,
    pub seccomp: Option<Seccomp>,
    pub landlock: Option<Landlock>,
    /// Signals whose default action has to be restored.
    pub ignored_signals: u64,
}

#[derive(Debug, Serialize)]
pub(crate) struct MemoryPolicy {
    pub mode: u32,
    pub nodes: BitSet,
}

#[derive(Clone, Copy, Debug, Serialize)]
pub(crate) struct Rlimit {
    /// RLIMIT_* number.
    pub resource: u32,
    pub soft: u64,
    pub hard: u64,
}

/// What does not stand in `process` itself.
pub(crate) struct ProcessOptions<'a> {
    /// All capabilities can be granted in a user namespace of the container's.
    pub new_user_namespace: bool,
    pub keyring: Option<String>,
    pub extra_env: &'a [String],
    pub notify: bool,
    /// The annotation's value.
    pub landlock: Option<&'a str>,
    pub exec: bool,
}

impl Process {
    pub(crate) fn new(
        process: &spec::Process<'_>,
        linux: Option<&Linux<'_>>,
        options: &ProcessOptions<'_>,
        host: &Host,
        warnings: &mut Vec<String>,
    ) -> Result<Process> {
        let status = host.status()?;
        let mut env = environment(process, options)?;
        let args = arguments(process)?;
        let candidates = candidates(&args[0], &env)?;
        let needs_home =
            !env.iter().any(|entry| entry.to_bytes().strip_prefix(b"HOME=").is_some_and(|v| !v.is_empty()));
        if needs_home {
            env.retain(|entry| entry.to_bytes() != b"HOME=");
        }
        let user = process.user.as_ref();
        let umask = user.and_then(|user| user.umask).unwrap_or(0o022);
        if umask > 0o777 {
            return Err(bad("process.user.umask", format_args!("{umask} has bits beyond permissions")));
        }
        ids(user)?;
        let no_new_privileges = process.no_new_privileges.unwrap_or(false);
        // What create has said of filter and capabilities need not be said again, to whom the program's errors go.
        let mut said = Vec::new();
        let warnings = if options.exec { &mut said } else { warnings };
        let seccomp = seccomp::plan(linux, host, warnings)?;
        let (uid, gid) = (user.and_then(|user| user.uid).unwrap_or(0), user.and_then(|user| user.gid).unwrap_or(0));
        // Who enters a user namespace becomes root there.
        let inherits_ids = !options.exec && !options.new_user_namespace;
        let available = if options.new_user_namespace { u64::MAX } else { status.permitted };
        Ok(Process {
            candidates,
            needs_home,
            cwd: cwd(process)?,
            args: StringArray::new(args),
            env: StringArray::new(env),
            uid,
            gid,
            has_no_groups: inherits_ids && status.has_no_groups,
            has_ids: inherits_ids && status.is_root && (uid, gid) == (0, 0),
            umask,
            groups: user.map(|user| user.additional_gids.to_vec()).unwrap_or_default(),
            capabilities: capabilities::plan(process.capabilities.as_ref(), available, warnings),
            no_new_privileges,
            labels: Labels::new(process, host)?,
            landlock: options.landlock.map(|value| landlock::plan(value, no_new_privileges, host)).transpose()?,
            rlimits: rlimits(process)?,
            oom_score_adj: oom_score_adj(process)?,
            terminal: process.terminal.unwrap_or(false),
            console_size: console_size(process),
            schedule: schedule(process)?,
            io_priority: io_priority(process)?,
            affinity: affinity(process)?.filter(|_| options.exec).unwrap_or_default(),
            memory_policy: memory_policy(linux)?,
            personality: personality(linux)?,
            seccomp,
            keyring: options.keyring.as_deref().map(|name| text("keyring", name)).transpose()?,
            ignored_signals: status.ignored_signals,
        })
    }
}

/// The highest number is nobody: setresuid(2) would leave the user as it is, which is root.
fn ids(user: Option<&spec::User<'_>>) -> Result<()> {
    let Some(user) = user else { return Ok(()) };
    let groups = user.additional_gids.iter().map(|gid| ("additionalGids", Some(*gid)));
    for (name, id) in [("uid", user.uid), ("gid", user.gid)].into_iter().chain(groups) {
        if id == Some(u32::MAX) {
            return Err(bad(format_args!("process.user.{name}"), format_args!("{} is no id", u32::MAX)));
        }
    }
    Ok(())
}

fn cwd(process: &spec::Process<'_>) -> Result<CText> {
    let cwd = process.cwd.as_deref().unwrap_or_default();
    if !cwd.starts_with('/') {
        return Err(bad("process.cwd", format_args!("{cwd:?} is not an absolute path")));
    }
    text("process.cwd", &clean(cwd))
}

fn arguments(process: &spec::Process<'_>) -> Result<Vec<CText>> {
    if process.args.is_empty() || process.args[0].is_empty() {
        return Err(bad("process.args", "must not be empty"));
    }
    process.args.iter().enumerate().map(|(at, arg)| text(format_args!("process.args[{at}]"), arg)).collect()
}

/// In the order given; of a name that comes twice the last value counts.
fn environment(process: &spec::Process<'_>, options: &ProcessOptions<'_>) -> Result<Vec<CText>> {
    let mut env: Vec<CText> = Vec::with_capacity(process.env.len() + 4);
    let notify = options.notify.then(|| format!("NOTIFY_SOCKET={}/notify.sock", super::mounts::NOTIFY_DIR));
    let extra = options.extra_env.iter().map(String::as_str).chain(notify.as_deref());
    for (at, entry) in process.env.iter().map(|entry| &**entry).chain(extra).enumerate() {
        let property = format_args!("process.env[{at}]");
        let Some(equals) = entry.find('=').filter(|at| *at > 0) else {
            return Err(bad(property, format_args!("{entry:?} is not NAME=VALUE")));
        };
        let name = &entry.as_bytes()[..=equals];
        let value = text(property, entry)?;
        match env.iter_mut().find(|other| other.to_bytes().starts_with(name)) {
            Some(other) => *other = value,
            None => env.push(value),
        }
    }
    Ok(env)
}

/// As execvp(3): a name with a slash stands for itself, else PATH of the container's environment is searched.
fn candidates(program: &CText, env: &[CText]) -> Result<Vec<CText>> {
    if program.to_bytes().contains(&b'/') {
        return Ok(vec![program.clone()]);
    }
    let path = env.iter().find_map(|entry| entry.to_bytes().strip_prefix(b"PATH=")).unwrap_or_default();
    let candidates = path.split(|byte| *byte == b':').map(|dir| {
        let mut full = if dir.is_empty() { b".".to_vec() } else { dir.to_vec() };
        full.push(b'/');
        full.extend_from_slice(program.to_bytes());
        CText::new(full).ok_or_else(|| bad("process.env", "PATH contains a NUL byte"))
    });
    if path.is_empty() { Ok(Vec::new()) } else { candidates.collect() }
}

fn console_size(process: &spec::Process<'_>) -> (u16, u16) {
    let size = process.console_size.unwrap_or_default();
    let (rows, columns) = (size.height.unwrap_or(0), size.width.unwrap_or(0));
    let fit = |n: u64| u16::try_from(n).unwrap_or(u16::MAX);
    if rows > 0 && columns > 0 { (fit(rows), fit(columns)) } else { (0, 0) }
}

fn oom_score_adj(process: &spec::Process<'_>) -> Result<Option<i32>> {
    match process.oom_score_adj {
        Some(score) if !(-1000..=1000).contains(&score) => {
            Err(bad("process.oomScoreAdj", format_args!("{score} is not between -1000 and 1000")))
        }
        score => Ok(score),
    }
}

/// At the numbers that the kernel has for them (asm-generic/resource.h).
const RLIMITS: [&str; 16] = [
    "CPU",
    "FSIZE",
    "DATA",
    "STACK",
    "CORE",
    "RSS",
    "NPROC",
    "NOFILE",
    "MEMLOCK",
    "AS",
    "LOCKS",
    "SIGPENDING",
    "MSGQUEUE",
    "NICE",
    "RTPRIO",
    "RTTIME",
];

fn rlimits(process: &spec::Process<'_>) -> Result<Vec<Rlimit>> {
    let mut limits: Vec<Rlimit> = Vec::with_capacity(process.rlimits.len());
    for (at, given) in process.rlimits.iter().enumerate() {
        let property = |name: &str| format!("process.rlimits[{at}].{name}");
        let kind = given.kind.as_deref().unwrap_or_default();
        let known = kind.strip_prefix("RLIMIT_").and_then(|name| RLIMITS.iter().position(|known| *known == name));
        let Some(resource) = known.map(|number| number as u32) else {
            return Err(bad(property("type"), format_args!("{kind:?} is no resource limit")));
        };
        if limits.iter().any(|other| other.resource == resource) {
            return Err(bad(property("type"), format_args!("{kind} is given twice")));
        }
        let soft = given.soft.ok_or_else(|| bad(property("soft"), "missing"))?;
        let hard = given.hard.ok_or_else(|| bad(property("hard"), "missing"))?;
        if soft > hard {
            return Err(bad(property("soft"), format_args!("{soft} is above the hard limit {hard}")));
        }
        limits.push(Rlimit { resource, soft, hard });
    }
    Ok(limits)
}

impl Rlimit {
    pub(crate) fn name(&self) -> &'static str {
        RLIMITS.get(self.resource as usize).copied().unwrap_or("?")
    }
}

/// Words with their numbers; the first argument names the property in the error.
fn number<T: Copy>(property: &str, word: &str, table: &[(&str, T)]) -> Result<T> {
    let found = table.iter().find(|(known, _)| *known == word);
    found.map(|(_, number)| *number).ok_or_else(|| bad(property, format_args!("{word:?} is not known")))
}

const POLICIES: [(&str, u32); 7] = [
    ("SCHED_OTHER", 0),
    ("SCHED_FIFO", 1),
    ("SCHED_RR", 2),
    ("SCHED_BATCH", 3),
    ("SCHED_ISO", 4),
    ("SCHED_IDLE", 5),
    ("SCHED_DEADLINE", 6),
];
const SCHED_FLAGS: [(&str, u64); 7] = [
    ("SCHED_FLAG_RESET_ON_FORK", 0x01),
    ("SCHED_FLAG_RECLAIM", 0x02),
    ("SCHED_FLAG_DL_OVERRUN", 0x04),
    ("SCHED_FLAG_KEEP_POLICY", 0x08),
    ("SCHED_FLAG_KEEP_PARAMS", 0x10),
    ("SCHED_FLAG_UTIL_CLAMP_MIN", 0x20),
    ("SCHED_FLAG_UTIL_CLAMP_MAX", 0x40),
];

fn schedule(process: &spec::Process<'_>) -> Result<Option<Schedule>> {
    let Some(given) = &process.scheduler else { return Ok(None) };
    let word = given.policy.as_deref().unwrap_or_default();
    let policy = number("process.scheduler.policy", word, &POLICIES)?;
    let mut flags = 0;
    for flag in given.flags.iter() {
        flags |= number("process.scheduler.flags", flag, &SCHED_FLAGS)?;
    }
    let nice = given.nice.unwrap_or(0);
    if !(-20..=19).contains(&nice) {
        return Err(bad("process.scheduler.nice", format_args!("{nice} is not between -20 and 19")));
    }
    if nice != 0 && !matches!(policy, 0 | 3) {
        return Err(bad("process.scheduler.nice", format_args!("{nice} means nothing for {word}")));
    }
    let priority = given.priority.unwrap_or(0);
    if priority != 0 && !matches!(policy, 1 | 2) {
        return Err(bad("process.scheduler.priority", format_args!("{priority} means nothing for {word}")));
    }
    let priority = u32::try_from(priority)
        .map_err(|_| bad("process.scheduler.priority", format_args!("{priority} is below zero")))?;
    let (runtime, deadline, period) =
        (given.runtime.unwrap_or(0), given.deadline.unwrap_or(0), given.period.unwrap_or(0));
    if policy != 6 && (runtime, deadline, period) != (0, 0, 0) {
        return Err(bad("process.scheduler.runtime", format_args!("times mean nothing for {word}")));
    }
    Ok(Some(Schedule { policy, flags, nice, priority, runtime, deadline, period }))
}

fn io_priority(process: &spec::Process<'_>) -> Result<Option<(u32, u32)>> {
    let Some(given) = &process.io_priority else { return Ok(None) };
    let classes = [("IOPRIO_CLASS_RT", 1), ("IOPRIO_CLASS_BE", 2), ("IOPRIO_CLASS_IDLE", 3)];
    let class = number("process.ioPriority.class", given.class.as_deref().unwrap_or_default(), &classes)?;
    match given.priority.unwrap_or(0) {
        level @ 0..=7 => Ok(Some((class, level as u32))),
        level => Err(bad("process.ioPriority.priority", format_args!("{level} is not between 0 and 7"))),
    }
}

type Affinity = (Option<BitSet>, Option<BitSet>);

fn affinity(process: &spec::Process<'_>) -> Result<Option<Affinity>> {
    let Some(given) = &process.exec_cpu_affinity else { return Ok(None) };
    let set = |name: &str, list: &Option<spec::Str<'_>>| match list.as_deref().filter(|list| !list.is_empty()) {
        Some(list) => bit_set(&format!("process.execCPUAffinity.{name}"), list).map(Some),
        None => Ok(None),
    };
    Ok(Some((set("initial", &given.initial)?, set("final", &given.last)?)))
}

/// A list such as `0-3,7`.
fn bit_set(property: &str, list: &str) -> Result<BitSet> {
    let wrong = || bad(property, format_args!("{list:?} is no list such as \"0-3,7\""));
    let mut set = BitSet::new();
    for part in list.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.trim().parse::<usize>().ok().filter(|n| *n < BitSet::LIMIT).ok_or_else(wrong);
        let (first, last) = (number(first)?, number(last)?);
        if first > last {
            return Err(wrong());
        }
        (first..=last).for_each(|n| set.insert(n));
    }
    Ok(set)
}

const MEMORY_MODES: [(&str, u32); 7] = [
    ("MPOL_DEFAULT", 0),
    ("MPOL_PREFERRED", 1),
    ("MPOL_BIND", 2),
    ("MPOL_INTERLEAVE", 3),
    ("MPOL_LOCAL", 4),
    ("MPOL_PREFERRED_MANY", 5),
    ("MPOL_WEIGHTED_INTERLEAVE", 6),
];
const MEMORY_FLAGS: [(&str, u32); 3] =
    [("MPOL_F_STATIC_NODES", 1 << 15), ("MPOL_F_RELATIVE_NODES", 1 << 14), ("MPOL_F_NUMA_BALANCING", 1 << 13)];

/// The words that `linux.memoryPolicy` knows, for `features`.
pub(crate) fn memory_policy_words() -> (Vec<&'static str>, Vec<&'static str>) {
    (MEMORY_MODES.iter().map(|(word, _)| *word).collect(), MEMORY_FLAGS.iter().map(|(word, _)| *word).collect())
}

fn memory_policy(linux: Option<&Linux<'_>>) -> Result<Option<MemoryPolicy>> {
    let Some(given) = linux.and_then(|linux| linux.memory_policy.as_ref()) else { return Ok(None) };
    let word = given.mode.as_deref().unwrap_or_default();
    let mut mode = number("linux.memoryPolicy.mode", word, &MEMORY_MODES)?;
    for flag in given.flags.iter() {
        mode |= number("linux.memoryPolicy.flags", flag, &MEMORY_FLAGS)?;
    }
    let nodes = match given.nodes.as_deref().filter(|nodes| !nodes.is_empty()) {
        Some(nodes) => bit_set("linux.memoryPolicy.nodes", nodes)?,
        None => BitSet::new(),
    };
    Ok(Some(MemoryPolicy { mode, nodes }))
}

fn personality(linux: Option<&Linux<'_>>) -> Result<Option<u64>> {
    let Some(given) = linux.and_then(|linux| linux.personality.as_ref()) else { return Ok(None) };
    let domains = [("LINUX", 0u64), ("LINUX32", 8)];
    number("linux.personality.domain", given.domain.as_deref().unwrap_or_default(), &domains).map(Some)
}
