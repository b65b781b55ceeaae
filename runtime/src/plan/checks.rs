//! Rules about config.json that concern no single section: a list, so that a new one is a function and a line.

use crate::config::spec::Spec;
use crate::error::{Result, bad, unsupported};

const CHECKS: &[fn(&Spec<'_>) -> Result<()>] =
    &[version, root, annotations, hostname, seccomp, labels, resources, personality];

pub(crate) fn run(spec: &Spec<'_>) -> Result<()> {
    CHECKS.iter().try_for_each(|check| check(spec))
}

fn version(spec: &Spec<'_>) -> Result<()> {
    let version = spec.oci_version.as_deref().unwrap_or_default();
    match semantic(version) {
        Some([0 | 1, ..]) => Ok(()),
        Some(_) => Err(bad("ociVersion", format_args!("{version:?} is newer than 1.3, which proa follows"))),
        None => Err(bad("ociVersion", format_args!("{version:?} is no version such as \"1.3.0\""))),
    }
}

/// Major, minor and patch of a version by SemVer 2.0.0; none if it is not one.
fn semantic(version: &str) -> Option<[u32; 3]> {
    let (version, build) = version.split_once('+').map_or((version, None), |(version, build)| (version, Some(build)));
    let (core, pre) = version.split_once('-').map_or((version, None), |(core, pre)| (core, Some(pre)));
    let word = |word: &str| !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'-');
    let digits = |word: &str| word.bytes().all(|byte| byte.is_ascii_digit());
    // Without leading zeros.
    let number = |text: &str| digits(text) && (text == "0" || !text.starts_with('0'));
    let good = build.is_none_or(|build| build.split('.').all(word))
        && pre.is_none_or(|pre| pre.split('.').all(|part| word(part) && (!digits(part) || number(part))));
    let mut parts = core.split('.').map(|text| text.parse().ok().filter(|_| number(text)));
    match (good, parts.next()?, parts.next()?, parts.next()?, parts.next()) {
        (true, Some(major), Some(minor), Some(patch), None) => Some([major, minor, patch]),
        _ => None,
    }
}

fn root(spec: &Spec<'_>) -> Result<()> {
    match &spec.root {
        None => Err(bad("root", "missing")),
        Some(root) if root.path.as_deref().unwrap_or_default().is_empty() => Err(bad("root.path", "missing or empty")),
        Some(_) => Ok(()),
    }
}

fn annotations(spec: &Spec<'_>) -> Result<()> {
    match spec.annotations.iter().any(|(key, _)| key.is_empty()) {
        true => Err(bad("annotations", "a key is empty")),
        false => Ok(()),
    }
}

fn hostname(spec: &Spec<'_>) -> Result<()> {
    let has_uts = spec
        .linux
        .as_ref()
        .is_some_and(|linux| linux.namespaces.iter().any(|namespace| namespace.kind.as_deref() == Some("uts")));
    for (property, value) in [("hostname", &spec.hostname), ("domainname", &spec.domainname)] {
        let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else { continue };
        // Whether that is the host's is seen later.
        if !has_uts {
            return Err(bad(property, format_args!("{value:?} needs a uts namespace")));
        }
        if value.len() > 64 {
            return Err(bad(property, format_args!("{value:?} is longer than 64 bytes")));
        }
    }
    Ok(())
}

/// runc takes a seccomp section without an action and without system calls as none.
fn seccomp(spec: &Spec<'_>) -> Result<()> {
    let asked = spec
        .linux
        .as_ref()
        .and_then(|linux| linux.seccomp.as_ref())
        .is_some_and(|seccomp| seccomp.default_action.is_some() || !seccomp.syscalls.is_empty());
    if asked { Err(unsupported("linux.seccomp")) } else { Ok(()) }
}

fn labels(spec: &Spec<'_>) -> Result<()> {
    let set = |value: &Option<crate::config::spec::Str<'_>>| value.as_deref().is_some_and(|value| !value.is_empty());
    if let Some(process) = &spec.process {
        process_labels(process)?;
    }
    if spec.linux.as_ref().is_some_and(|linux| set(&linux.mount_label)) {
        return Err(unsupported("linux.mountLabel"));
    }
    Ok(())
}

/// Labels of a process, for exec as well.
pub(crate) fn process_labels(process: &crate::config::spec::Process<'_>) -> Result<()> {
    let set = |value: &Option<crate::config::spec::Str<'_>>| value.as_deref().is_some_and(|value| !value.is_empty());
    if set(&process.apparmor_profile) {
        return Err(unsupported("process.apparmorProfile"));
    }
    if set(&process.selinux_label) {
        return Err(unsupported("process.selinuxLabel"));
    }
    Ok(())
}

/// Limits come with the cgroup controllers; until then asking for one is an error.
fn resources(spec: &Spec<'_>) -> Result<()> {
    let Some(resources) = spec.linux.as_ref().and_then(|linux| linux.resources.as_ref()) else { return Ok(()) };
    let set = [
        ("memory", resources.memory.as_ref().is_some_and(|memory| *memory != Default::default())),
        ("cpu", resources.cpu.as_ref().is_some_and(|cpu| *cpu != Default::default())),
        ("pids", resources.pids.as_ref().is_some_and(|pids| *pids != Default::default())),
        ("blockIO", resources.block_io.as_ref().is_some_and(block_io_set)),
        ("hugepageLimits", !resources.hugepage_limits.is_empty()),
        ("network", resources.network.as_ref().is_some_and(|n| n.class_id.is_some() || !n.priorities.is_empty())),
        ("rdma", !resources.rdma.is_empty()),
        ("unified", !resources.unified.is_empty()),
    ];
    match set.iter().find(|(_, set)| *set) {
        Some((name, _)) => Err(unsupported(format_args!("linux.resources.{name}"))),
        None => Ok(()),
    }
}

fn block_io_set(io: &crate::config::spec::BlockIo) -> bool {
    io.weight.is_some()
        || io.leaf_weight.is_some()
        || !io.weight_device.is_empty()
        || !io.throttle_read_bps_device.is_empty()
        || !io.throttle_write_bps_device.is_empty()
        || !io.throttle_read_iops_device.is_empty()
        || !io.throttle_write_iops_device.is_empty()
}

fn personality(spec: &Spec<'_>) -> Result<()> {
    let Some(personality) = spec.linux.as_ref().and_then(|linux| linux.personality.as_ref()) else { return Ok(()) };
    match personality.flags.first() {
        Some(flag) => Err(bad("linux.personality.flags", format_args!("{:?}: no flag is defined", &**flag))),
        None => Ok(()),
    }
}
