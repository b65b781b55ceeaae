//! `linux.seccomp` (config-linux.md, Seccomp): from its words to a program for the kernel.

use super::Host;
use crate::config::spec::{self, Linux};
use crate::error::{Result, bad};
use crate::seccomp::{self, Action, Arch, Condition, Instruction, MAX_INSTRUCTIONS, Operator, Profile, Rule};
use crate::sys::{NEW_LISTENER, WAIT_KILLABLE_RECV};
use serde::Serialize;
use std::fmt::Display;

/// What the process loads before it becomes its program.
#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Seccomp {
    #[serde(rename = "instructions", serialize_with = "length")]
    pub program: Vec<Instruction>,
    /// SECCOMP_FILTER_FLAG_*.
    pub flags: u64,
    /// Who is told of calls with SCMP_ACT_NOTIFY.
    pub listener: Option<Listener>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Listener {
    /// A socket of the host.
    pub path: String,
    pub metadata: Option<String>,
}

fn length<S: serde::Serializer>(program: &[Instruction], serializer: S) -> std::result::Result<S::Ok, S::Error> {
    serializer.serialize_u64(program.len() as u64)
}

/// What a word for an action means.
#[derive(Clone, Copy)]
enum Kind {
    Fixed(Action),
    /// With a number, EPERM if none is given.
    Errno,
    Trace,
}

const ACTIONS: [(&str, Kind); 9] = [
    ("SCMP_ACT_ALLOW", Kind::Fixed(Action::ALLOW)),
    ("SCMP_ACT_ERRNO", Kind::Errno),
    ("SCMP_ACT_KILL", Kind::Fixed(Action::KILL_THREAD)),
    ("SCMP_ACT_KILL_PROCESS", Kind::Fixed(Action::KILL_PROCESS)),
    ("SCMP_ACT_KILL_THREAD", Kind::Fixed(Action::KILL_THREAD)),
    ("SCMP_ACT_LOG", Kind::Fixed(Action::LOG)),
    ("SCMP_ACT_NOTIFY", Kind::Fixed(Action::NOTIFY)),
    ("SCMP_ACT_TRACE", Kind::Trace),
    ("SCMP_ACT_TRAP", Kind::Fixed(Action::TRAP)),
];

const OPERATORS: [(&str, Operator); 7] = [
    ("SCMP_CMP_EQ", Operator::Eq),
    ("SCMP_CMP_GE", Operator::Ge),
    ("SCMP_CMP_GT", Operator::Gt),
    ("SCMP_CMP_LE", Operator::Le),
    ("SCMP_CMP_LT", Operator::Lt),
    ("SCMP_CMP_MASKED_EQ", Operator::MaskedEq),
    ("SCMP_CMP_NE", Operator::Ne),
];

/// Those of the specification. One without a table is never the architecture of a call on a machine that proa runs on.
const ARCHITECTURES: [(&str, Option<Arch>); 23] = [
    ("SCMP_ARCH_AARCH64", Some(Arch::Aarch64)),
    ("SCMP_ARCH_ARM", Some(Arch::Arm)),
    ("SCMP_ARCH_LOONGARCH64", None),
    ("SCMP_ARCH_M68K", None),
    ("SCMP_ARCH_MIPS", None),
    ("SCMP_ARCH_MIPS64", None),
    ("SCMP_ARCH_MIPS64N32", None),
    ("SCMP_ARCH_MIPSEL", None),
    ("SCMP_ARCH_MIPSEL64", None),
    ("SCMP_ARCH_MIPSEL64N32", None),
    ("SCMP_ARCH_PARISC", None),
    ("SCMP_ARCH_PARISC64", None),
    ("SCMP_ARCH_PPC", None),
    ("SCMP_ARCH_PPC64", None),
    ("SCMP_ARCH_PPC64LE", None),
    ("SCMP_ARCH_RISCV64", None),
    ("SCMP_ARCH_S390", None),
    ("SCMP_ARCH_S390X", None),
    ("SCMP_ARCH_SH", None),
    ("SCMP_ARCH_SHEB", None),
    ("SCMP_ARCH_X32", Some(Arch::X32)),
    ("SCMP_ARCH_X86", Some(Arch::X86)),
    ("SCMP_ARCH_X86_64", Some(Arch::X86_64)),
];

/// linux/seccomp.h
const LOG: u64 = 1 << 1;
const SPEC_ALLOW: u64 = 1 << 2;

const FLAGS: [(&str, u64); 4] = [
    ("SECCOMP_FILTER_FLAG_LOG", LOG),
    ("SECCOMP_FILTER_FLAG_SPEC_ALLOW", SPEC_ALLOW),
    // Of one thread, that has no others to take along.
    ("SECCOMP_FILTER_FLAG_TSYNC", 0),
    ("SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV", WAIT_KILLABLE_RECV),
];

/// The words that `linux.seccomp` knows, for `features`: actions, operators, architectures.
pub(crate) fn words() -> [Vec<&'static str>; 3] {
    [names(&ACTIONS), names(&OPERATORS), names(&ARCHITECTURES)]
}

/// The flags that are known, with their bits.
pub(crate) fn flags() -> &'static [(&'static str, u64)] {
    &FLAGS
}

fn names<T>(table: &[(&'static str, T)]) -> Vec<&'static str> {
    table.iter().map(|(name, _)| *name).collect()
}

fn word<T: Copy>(property: impl Display, word: Option<&str>, table: &[(&str, T)], what: &str) -> Result<T> {
    let Some(word) = word else { return Err(bad(property, "missing")) };
    let found = table.iter().find(|(known, _)| *known == word);
    found.map(|(_, value)| *value).ok_or_else(|| bad(property, format_args!("{word:?} is no {what}")))
}

/// None if no filter is asked for. runc takes a section without an action and without system calls as none.
pub(super) fn plan(linux: Option<&Linux<'_>>, host: &Host, warnings: &mut Vec<String>) -> Result<Option<Seccomp>> {
    let Some(given) = linux.and_then(|linux| linux.seccomp.as_ref()) else { return Ok(None) };
    if given.default_action.is_none() && given.syscalls.is_empty() {
        return Ok(None);
    }
    let profile = profile(given)?;
    let notifies = profile.rules.iter().any(|rule| rule.action == Action::NOTIFY);
    let listener = listener(given, notifies)?;
    let (program, unknown) = profile.compile();
    if !unknown.is_empty() {
        let names = unknown.join(", ");
        warnings.push(format!("linux.seccomp.syscalls: Linux {} has no {names}: skipped", seccomp::KERNEL));
    }
    if program.len() > MAX_INSTRUCTIONS {
        let problem = format_args!("needs {} instructions, the kernel takes {MAX_INSTRUCTIONS}", program.len());
        return Err(bad("linux.seccomp.syscalls", problem));
    }
    let mut flags = filter_flags(given, host)?;
    // The kernel takes this one with a listener only, and without it means nothing.
    flags = if notifies { flags | NEW_LISTENER } else { flags & !WAIT_KILLABLE_RECV };
    Ok(Some(Seccomp { program, flags, listener }))
}

pub(crate) fn profile<'a>(given: &'a spec::Seccomp<'_>) -> Result<Profile<'a>> {
    let property = "linux.seccomp.defaultAction";
    let default =
        action(property, given.default_action.as_deref(), "linux.seccomp.defaultErrnoRet", given.default_errno_ret)?;
    if default == Action::NOTIFY {
        return Err(bad(property, "SCMP_ACT_NOTIFY would stop the runtime itself"));
    }
    let mut profile =
        Profile { default, architectures: architectures(given)?, rules: Vec::with_capacity(given.syscalls.len()) };
    for (index, entry) in given.syscalls.iter().enumerate() {
        add(&mut profile, index, entry)?;
    }
    Ok(profile)
}

fn action(
    property: impl Display,
    given: Option<&str>,
    number_property: impl Display,
    number: Option<u32>,
) -> Result<Action> {
    let kind = word(property, given, &ACTIONS, "action of seccomp")?;
    let limit = match kind {
        // MAX_ERRNO of linux/err.h, to which the kernel would cut it.
        Kind::Errno => 4095,
        Kind::Trace => u16::MAX,
        Kind::Fixed(action) => {
            return match number {
                None => Ok(action),
                Some(number) => {
                    let action = given.unwrap_or_default();
                    Err(bad(number_property, format_args!("{number}: {action} returns no errno")))
                }
            };
        }
    };
    let number = match number {
        None => libc::EPERM as u16,
        Some(number) => u16::try_from(number)
            .ok()
            .filter(|number| *number <= limit)
            .ok_or_else(|| bad(number_property, format_args!("{number} is above {limit}")))?,
    };
    Ok(if matches!(kind, Kind::Errno) { Action::errno(number) } else { Action::trace(number) })
}

/// The machine's own architecture first, whether listed or not.
fn architectures(given: &spec::Seccomp<'_>) -> Result<Vec<Arch>> {
    let native = Arch::native().ok_or_else(|| bad("linux.seccomp", "no table of the system calls of this machine"))?;
    let mut list = vec![native];
    for (index, name) in given.architectures.iter().enumerate() {
        let property = format_args!("linux.seccomp.architectures[{index}]");
        let arch = word(property, Some(name), &ARCHITECTURES, "architecture of seccomp")?;
        list.extend(arch.filter(|arch| !list.contains(arch) && arch.runs_on(native)));
    }
    Ok(list)
}

/// One entry of `syscalls`.
fn add<'a>(profile: &mut Profile<'a>, index: usize, entry: &'a spec::Syscall<'_>) -> Result<()> {
    let property = |name: &str| format!("linux.seccomp.syscalls[{index}].{name}");
    if entry.names.is_empty() {
        return Err(bad(property("names"), "must not be empty"));
    }
    let action = action(
        format_args!("linux.seccomp.syscalls[{index}].action"),
        entry.action.as_deref(),
        format_args!("linux.seccomp.syscalls[{index}].errnoRet"),
        entry.errno_ret,
    )?;
    let names: Vec<&str> = entry.names.iter().map(|name| &**name).collect();
    for (at, name) in names.iter().enumerate() {
        if name.is_empty() {
            return Err(bad(property(&format!("names[{at}]")), "is empty"));
        }
        // Or the process could never say which descriptor the listener is.
        if action == Action::NOTIFY && *name == "write" {
            return Err(bad(property(&format!("names[{at}]")), "SCMP_ACT_NOTIFY cannot be used for write"));
        }
    }
    let mut conditions = Vec::with_capacity(entry.args.len());
    for (at, arg) in entry.args.iter().enumerate() {
        conditions.push(condition(&property(&format!("args[{at}]")), arg)?);
    }
    // runc takes conditions on the same argument as alternatives, and all others of the entry with them.
    let alternatives = conditions
        .iter()
        .enumerate()
        .any(|(at, condition)| conditions[..at].iter().any(|other| other.argument == condition.argument));
    if alternatives {
        let rules =
            conditions.into_iter().map(|condition| Rule { names: names.clone(), action, conditions: vec![condition] });
        profile.rules.extend(rules);
    } else {
        profile.rules.push(Rule { names, action, conditions });
    }
    Ok(())
}

fn condition(property: &str, arg: &spec::SyscallArg<'_>) -> Result<Condition> {
    let operator = word(format_args!("{property}.op"), arg.op.as_deref(), &OPERATORS, "operator of seccomp")?;
    let argument = match arg.index {
        None => return Err(bad(format_args!("{property}.index"), "missing")),
        Some(index @ 0..=5) => index as u8,
        Some(index) => return Err(bad(format_args!("{property}.index"), format_args!("{index} is above 5"))),
    };
    let value = arg.value.ok_or_else(|| bad(format_args!("{property}.value"), "missing"))?;
    Ok(match operator {
        Operator::MaskedEq => Condition { argument, operator, value: arg.value_two.unwrap_or(0), mask: value },
        _ => Condition { argument, operator, value, mask: u64::MAX },
    })
}

/// Without the property as runc: no mitigation of speculation beyond what the process has. A filter alone is no reason
/// for it, and it is slow.
fn filter_flags(given: &spec::Seccomp<'_>, host: &Host) -> Result<u64> {
    let Some(list) = &given.flags else { return Ok(SPEC_ALLOW) };
    let mut flags = 0;
    for (index, name) in list.iter().enumerate() {
        let property = format!("linux.seccomp.flags[{index}]");
        let flag = word(&property, Some(name), &FLAGS, "flag of seccomp")?;
        // All others are older than Linux 5.10.
        if flag == WAIT_KILLABLE_RECV && !host.has_seccomp_flag(flag) {
            return Err(bad(property, format_args!("{:?}: this kernel does not have it", &**name)));
        }
        flags |= flag;
    }
    Ok(flags)
}

fn listener(given: &spec::Seccomp<'_>, notifies: bool) -> Result<Option<Listener>> {
    let path = given.listener_path.as_deref().filter(|path| !path.is_empty());
    let metadata = given.listener_metadata.as_deref().filter(|metadata| !metadata.is_empty());
    match path {
        None if metadata.is_some() => Err(bad("linux.seccomp.listenerMetadata", "needs linux.seccomp.listenerPath")),
        None if notifies => Err(bad("linux.seccomp.listenerPath", "missing, and SCMP_ACT_NOTIFY needs it")),
        Some(path) if notifies => Ok(Some(Listener { path: path.to_owned(), metadata: metadata.map(str::to_owned) })),
        _ => Ok(None),
    }
}
