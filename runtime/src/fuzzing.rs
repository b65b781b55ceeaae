//! Where fuzzers come in (conformance/fuzz): what proa makes of texts that others write. None of it changes the machine.

use crate::config::{self, spec};
use crate::plan::{CgroupManager, Host, Options, Plan, seccomp_profile, updated_limits};
use crate::seccomp::MAX_INSTRUCTIONS;
use crate::state::{Record, check_id};
use std::path::Path;

/// config.json, to the plan, by each driver of cgroups; what a plan prints; what `plan` says of unknown properties.
pub fn config(text: &str) {
    config::unknown_properties(text);
    let Ok(spec) = config::parse_spec(text) else { return };
    let host = Host::default();
    for cgroup_manager in [CgroupManager::Cgroupfs, CgroupManager::Systemd, CgroupManager::Disabled] {
        let options = Options { cgroup_manager, ..Options::default() };
        if let Ok(plan) = Plan::new(&spec, Path::new("/nowhere"), "id", &options, &host) {
            serde_json::to_string(&plan).expect("a plan is JSON");
        }
    }
}

/// process.json of `exec`, and the resources of `update`.
pub fn other_documents(text: &str) {
    config::parse_process("file", text).ok();
    if let Ok(resources) = config::parse_resources("file", text) {
        updated_limits(&resources, &Host::default(), &mut Vec::new()).ok();
    }
}

/// state.json: what was read can be written, and reads the same.
pub fn state(text: &str) {
    let Ok(record) = Record::parse(text) else { return };
    let written = serde_json::to_string(&record).expect("a record is JSON");
    let again = Record::parse(&written).expect("a record reads again");
    assert_eq!(serde_json::to_string(&again).expect("a record is JSON"), written);
}

/// linux.seccomp, to a program: jumps that lead somewhere, ends that return.
pub fn seccomp(text: &str) {
    let Ok(given) = serde_json::from_str::<spec::Seccomp<'_>>(text) else { return };
    let Ok(profile) = seccomp_profile(&given) else { return };
    let program = profile.compile().0;
    if program.len() > MAX_INSTRUCTIONS {
        return;
    }
    let last = program.len() - 1;
    for (at, instruction) in program.iter().enumerate() {
        // linux/bpf_common.h: classes BPF_JMP and BPF_RET, BPF_JA.
        let reach = match (instruction.code & 7, instruction.code) {
            (5, 5) => at + 1 + instruction.k as usize,
            (5, _) => at + 1 + usize::from(instruction.jt.max(instruction.jf)),
            (6, _) => at,
            _ => at + 1,
        };
        assert!(reach <= last, "instruction {at} of {} leads to {reach}", program.len());
    }
}

/// Words of the command line and of bundles: ids, users, cgroup paths, mount options, properties of units.
pub fn words(text: &str) {
    let host = cgroup::Host::detect().expect("there are cgroups");
    if check_id(text).is_ok() {
        assert!(!text.contains(['/', '\0']) && !text.starts_with('.') && !text.is_empty() && text.len() <= 255);
    }
    crate::cli::exec::parse_user(text).ok();
    for place in [host.place(Some(text), "id"), host.scope(Some(text), "id")].into_iter().flatten() {
        for (_, path) in place.paths() {
            assert!(path.components().all(|part| part != std::path::Component::ParentDir), "{path:?}");
        }
    }
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    cgroup::Property::parse(name, value).ok();
    rootfs::options::lookup(text);
    cgroup::unescape(text.as_bytes());
}
