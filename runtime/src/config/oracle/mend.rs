//! Where oci-spec 0.10 is known to differ, as a list of small functions that each take one difference out of a
//! document. What is left must be accepted alike and read alike. That each difference is real is shown in `faults.rs`.

use super::shape::{CAPABILITIES, CONFIG, Shape};
use serde_json::Value;

/// Rewrites what stands at a place, if it concerns it.
type Mend = fn(&str, &Shape, &mut Value);

/// In the order in which they are applied.
const DIFFERENCES: [Mend; 9] = [
    nulls,
    arrays_for_objects,
    absent,
    capability_names,
    unknown_words,
    scheduler_flags,
    cpu_lists,
    hugepage_limits,
    argument_indices,
];

/// `document` without what is known to be read differently.
pub(super) fn mend(document: &Value) -> Value {
    let mut document = document.clone();
    for difference in DIFFERENCES {
        CONFIG.visit(&mut document, &mut |path, shape, value| difference(path, shape, value));
    }
    document
}

/// `null` is absence to proa, everywhere. To the oracle only where a property is optional in its eyes.
fn nulls(_: &str, shape: &Shape, value: &mut Value) {
    if let (Shape::Object(fields), Value::Object(map)) = (shape, value) {
        map.retain(|name, value| !value.is_null() || !fields.iter().any(|field| field.name == *name));
    }
}

/// The oracle takes an array for an object, its items for the properties in some order. proa refuses it.
fn arrays_for_objects(_: &str, shape: &Shape, value: &mut Value) {
    if matches!(shape, Shape::Object(_)) && value.is_array() {
        *value = "an array".into();
    }
}

/// What the oracle does without a property.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Absence {
    /// Takes the value given here for it, and cannot tell.
    Invents,
    /// Refuses the document.
    Refuses,
}
use Absence::{Invents, Refuses};

const HOOKS: [&str; 6] = [
    "hooks.prestart[]",
    "hooks.createRuntime[]",
    "hooks.createContainer[]",
    "hooks.startContainer[]",
    "hooks.poststart[]",
    "hooks.poststop[]",
];
const MAPPINGS: [&str; 4] =
    ["linux.uidMappings[]", "linux.gidMappings[]", "mounts[].uidMappings[]", "mounts[].gidMappings[]"];
const THROTTLES: [&str; 4] = [
    "linux.resources.blockIO.throttleReadBpsDevice[]",
    "linux.resources.blockIO.throttleWriteBpsDevice[]",
    "linux.resources.blockIO.throttleReadIOPSDevice[]",
    "linux.resources.blockIO.throttleWriteIOPSDevice[]",
];

/// Objects, and the properties in them that the oracle needs, with a value for each.
type Needs = (&'static [&'static str], &'static [(&'static str, &'static str)], Absence);

/// To proa everything may be absent in the text; the plan refuses what lacks something required.
pub(super) const NEEDED: &[Needs] = &[
    (&[""], &[("ociVersion", "\"\"")], Invents),
    (&["root"], &[("path", "\"\"")], Invents),
    (&["process"], &[("cwd", "\"/\""), ("user", "{}")], Refuses),
    (&["process.user"], &[("uid", "0"), ("gid", "0")], Invents),
    (&["process.consoleSize"], &[("height", "0"), ("width", "0")], Invents),
    (&["process.rlimits[]"], &[("type", "\"RLIMIT_CPU\"")], Refuses),
    (&["process.rlimits[]"], &[("soft", "0"), ("hard", "0")], Invents),
    (&["process.scheduler"], &[("policy", "\"SCHED_OTHER\"")], Refuses),
    (&["process.ioPriority"], &[("class", "\"IOPRIO_CLASS_BE\""), ("priority", "0")], Invents),
    (&["mounts[]"], &[("destination", "\"/\"")], Refuses),
    (&HOOKS, &[("path", "\"/\"")], Refuses),
    (&MAPPINGS, &[("containerID", "0"), ("hostID", "0"), ("size", "0")], Invents),
    (&["linux.namespaces[]"], &[("type", "\"pid\"")], Refuses),
    (&["linux.devices[]"], &[("type", "\"c\"")], Refuses),
    (&["linux.devices[]"], &[("path", "\"\""), ("major", "0"), ("minor", "0")], Invents),
    (&["linux.resources.devices[]"], &[("allow", "false")], Invents),
    (&["linux.resources.pids"], &[("limit", "0")], Invents),
    (&["linux.resources.blockIO.weightDevice[]"], &[("major", "0"), ("minor", "0")], Invents),
    (&THROTTLES, &[("major", "0"), ("minor", "0"), ("rate", "0")], Invents),
    (&["linux.resources.hugepageLimits[]"], &[("pageSize", "\"\""), ("limit", "0")], Invents),
    (&["linux.resources.network.priorities[]"], &[("name", "\"\""), ("priority", "0")], Invents),
    (&["linux.seccomp"], &[("defaultAction", "\"SCMP_ACT_KILL\"")], Refuses),
    (&["linux.seccomp.syscalls[]"], &[("names", "[]"), ("action", "\"SCMP_ACT_KILL\"")], Refuses),
    (&["linux.seccomp.syscalls[].args[]"], &[("index", "0"), ("value", "0"), ("op", "\"SCMP_CMP_NE\"")], Refuses),
    (&["linux.personality"], &[("domain", "\"LINUX\"")], Refuses),
    (&["linux.memoryPolicy"], &[("mode", "\"MPOL_DEFAULT\"")], Refuses),
];

fn absent(path: &str, _: &Shape, value: &mut Value) {
    let Value::Object(map) = value else { return };
    for (objects, properties, _) in NEEDED {
        if objects.contains(&path) {
            for (name, json) in *properties {
                map.entry(*name).or_insert_with(|| serde_json::from_str(json).unwrap());
            }
        }
    }
}

/// The oracle refuses capabilities it does not know, and reads `chown` as `CAP_CHOWN`.
fn capability_names(path: &str, _: &Shape, value: &mut Value) {
    if path.starts_with("process.capabilities.") && !path.ends_with("[]") {
        let Value::Array(list) = value else { return };
        list.retain(|name| name.as_str().is_none_or(is_capability));
    }
}

fn is_capability(name: &str) -> bool {
    name.strip_prefix("CAP_").is_some_and(|name| CAPABILITIES.split_whitespace().any(|known| known == name))
}

/// The oracle knows the words of a closed set and stops at others; in proa the plan does that. The one set that the
/// oracle leaves open as well is that of rootfsPropagation.
fn unknown_words(path: &str, shape: &Shape, value: &mut Value) {
    let Shape::Word(words) = shape else { return };
    let unknown = value.as_str().is_some_and(|word| !words.iter().any(|known| known == word));
    if unknown && path != "linux.rootfsPropagation" {
        *value = words[0].clone().into();
    }
}

/// The oracle's words for two of the flags are not those of the spec.
fn scheduler_flags(path: &str, _: &Shape, value: &mut Value) {
    if path == "process.scheduler.flags[]"
        && (*value == "SCHED_FLAG_RESET_ON_FORK" || *value == "SCHED_FLAG_DL_OVERRUN")
    {
        *value = "SCHED_FLAG_RECLAIM".into();
    }
}

/// The oracle checks the CPU lists of execCPUAffinity, wrongly for the empty one; in proa the plan does.
fn cpu_lists(path: &str, _: &Shape, value: &mut Value) {
    if !path.starts_with("process.execCPUAffinity.") {
        return;
    }
    let is_number = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_range = |range: &str| range.split_once('-').map_or(is_number(range), |(a, b)| is_number(a) && is_number(b));
    if value.as_str().is_some_and(|list| !list.split(',').all(is_range)) {
        *value = "0".into();
    }
}

/// The oracle has these limits signed: it refuses big ones and takes negative ones.
fn hugepage_limits(path: &str, _: &Shape, value: &mut Value) {
    if path == "linux.resources.hugepageLimits[].limit" {
        if value.as_i64().is_some_and(i64::is_negative) {
            *value = "negative".into();
        } else if value.is_u64() && !value.is_i64() {
            *value = i64::MAX.into();
        }
    }
}

/// The oracle takes any usize for the index of an argument.
fn argument_indices(path: &str, _: &Shape, value: &mut Value) {
    if path == "linux.seccomp.syscalls[].args[].index" && value.as_u64().is_some_and(|index| index > u32::MAX.into()) {
        *value = "too big".into();
    }
}
