//! The differences that `mend.rs` takes out, each shown on a small document: first what the spec says, then that proa
//! reads it so and that oci-spec 0.10 does not. A test that fails after an update of oci-spec is one line less there.

use super::mend::{Absence, NEEDED};
use super::shape::{CAPABILITIES, CONFIG, Shape, join};
use super::{disagreement, ours, parse_spec, theirs};
use crate::config::unknown_properties;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// What stands at `pointer` in what was read.
fn at(read: &Result<Value, String>, pointer: &str) -> Value {
    read.as_ref().unwrap().pointer(pointer).cloned().unwrap_or_default()
}

fn process(property: &str, value: &Value) -> Value {
    json!({"process": {"cwd": "/", "user": {"uid": 0, "gid": 0}, property: value}})
}

fn resources(property: &str, value: &Value) -> Value {
    json!({"linux": {"resources": {property: value}}})
}

/// config.md: "Any value which cannot be mapped to a relevant kernel interface, or cannot be granted otherwise MUST be
/// logged as a warning by the runtime. Runtimes SHOULD NOT fail if the container configuration requests capabilities
/// that cannot be granted".
#[test]
fn the_oracle_refuses_unknown_capabilities() {
    let document = process("capabilities", &json!({"bounding": ["CAP_KILL", "CAP_OF_TOMORROW"]}));
    assert_eq!(at(&ours(&document), "/process/capabilities/bounding"), json!(["CAP_KILL", "CAP_OF_TOMORROW"]));
    assert!(theirs(&document).unwrap_err().contains("CAP_OF_TOMORROW"));
}

/// config.md: "Valid values are defined in the capabilities(7) man page, such as `CAP_CHOWN`." Others get a warning,
/// which must show what was written.
#[test]
fn the_oracle_respells_capabilities() {
    let document = process("capabilities", &json!({"ambient": ["chown"]}));
    assert_eq!(at(&ours(&document), "/process/capabilities/ambient"), json!(["chown"]));
    assert_eq!(at(&theirs(&document), "/process/capabilities/ambient"), json!(["CAP_CHOWN"]));
}

/// config.md: "the `effective` field is an array of effective capabilities that are kept for the process." An array has
/// an order and repeats what is repeated; the oracle has a set, in another order each time.
#[test]
fn the_oracle_loses_the_order_of_capabilities() {
    let names: Vec<String> =
        CAPABILITIES.split_whitespace().chain(["KILL"]).map(|name| format!("CAP_{name}")).collect();
    let document = process("capabilities", &json!({"effective": names}));
    assert_eq!(at(&ours(&document), "/process/capabilities/effective"), json!(names));
    let theirs = at(&theirs(&document), "/process/capabilities/effective");
    let kept: BTreeSet<&str> = theirs.as_array().unwrap().iter().filter_map(Value::as_str).collect();
    assert_eq!((theirs.as_array().unwrap().len(), kept.len()), (41, 41));
    assert_ne!(theirs, json!(names));
}

/// config.md, `scheduler.flags`: "A valid list of values is: * `SCHED_FLAG_RESET_ON_FORK` * `SCHED_FLAG_RECLAIM`
/// * `SCHED_FLAG_DL_OVERRUN`" and four more, which the oracle knows.
#[test]
fn the_oracle_misspells_two_scheduler_flags() {
    let flags = |flags: &[&str]| process("scheduler", &json!({"policy": "SCHED_DEADLINE", "flags": flags}));
    for flag in ["SCHED_FLAG_RESET_ON_FORK", "SCHED_FLAG_DL_OVERRUN"] {
        assert_eq!(at(&ours(&flags(&[flag])), "/process/scheduler/flags/0"), flag);
        assert!(theirs(&flags(&[flag])).unwrap_err().contains(flag));
    }
    assert!(theirs(&flags(&["SCHED_RESET_ON_FORK", "SCHED_FLAG_D_L_OVERRUN"])).is_ok());
}

/// config.md, `execCPUAffinity.final`: "If omitted or empty"; config-schema.json has the pattern `^[0-9, -]*$` for
/// it and for `initial`, which the empty text fits.
#[test]
fn the_oracle_refuses_an_empty_cpu_list() {
    let document = process("execCPUAffinity", &json!({"initial": "0-1", "final": ""}));
    assert_eq!(at(&ours(&document), "/process/execCPUAffinity/final"), "");
    assert!(theirs(&document).unwrap_err().contains("Invalid execCPUAffinity format"));
}

/// config-linux.md, PIDs: "`limit` (int64, REQUIRED) - specifies the maximum number of tasks in the cgroup". A document
/// without it is at fault; it does not ask for a limit of zero.
#[test]
fn the_oracle_takes_no_pids_limit_for_zero() {
    let document = resources("pids", &json!({}));
    assert_eq!(at(&ours(&document), "/linux/resources/pids"), json!({"limit": null}));
    assert_eq!(at(&theirs(&document), "/linux/resources/pids"), json!({"limit": 0}));
}

/// config-linux.md, Seccomp: "`defaultAction` (string, REQUIRED) - the default action for seccomp." Its absence is for
/// the plan to judge: engines that want no filter may write `{}`.
#[test]
fn the_oracle_refuses_an_empty_seccomp() {
    let document = json!({"linux": {"seccomp": {}}});
    assert_eq!(at(&ours(&document), "/linux/seccomp/defaultAction"), Value::Null);
    assert!(ours(&document).is_ok() && theirs(&document).unwrap_err().contains("missing field `defaultAction`"));
}

/// config-linux.md, Huge page limits: "`limit` (uint64, REQUIRED) - limit in bytes of hugepagesize HugeTLB reservations
/// (if supported) or usage."
#[test]
fn the_oracle_has_signed_hugepage_limits() {
    let limit = |limit: Value| resources("hugepageLimits", &json!([{"pageSize": "2MB", "limit": limit}]));
    let most = limit(u64::MAX.into());
    assert_eq!(at(&ours(&most), "/linux/resources/hugepageLimits/0/limit"), u64::MAX);
    assert!(theirs(&most).unwrap_err().contains("expected i64"));
    assert!(ours(&limit(json!(-1))).unwrap_err().contains("expected u64") && theirs(&limit(json!(-1))).is_ok());
}

/// defs-linux.json, SyscallArg: `"index": { "$ref": "defs.json#/definitions/uint32" }`.
#[test]
fn the_oracle_has_no_bound_for_the_index_of_an_argument() {
    let argument = json!({"index": 1_u64 << 32, "value": 0, "op": "SCMP_CMP_EQ"});
    let syscall = json!({"names": ["read"], "action": "SCMP_ACT_ALLOW", "args": [argument]});
    let document = json!({"linux": {"seccomp": {"defaultAction": "SCMP_ACT_ERRNO", "syscalls": [syscall]}}});
    assert!(ours(&document).unwrap_err().contains("args[0].index: invalid value: integer `4294967296`, expected u32"));
    assert!(theirs(&document).is_ok());
}

/// defs.json, Mount: `"type": "object"`; config.md, Valid values: "Runtimes MUST generate an error when invalid or
/// unsupported values are encountered."
#[test]
fn the_oracle_takes_arrays_for_objects() {
    for document in
        [json!(["1.3.0", {"path": "rootfs"}]), json!({"root": ["rootfs", true]}), json!({"mounts": [["/proc"]]})]
    {
        assert!(ours(&document).unwrap_err().contains("invalid type: sequence, expected struct"), "{document}");
        assert!(theirs(&document).is_ok(), "{document}");
    }
}

/// glossary.md: "JSON objects MUST NOT include duplicate names."
#[test]
fn the_oracle_takes_the_last_of_duplicate_names() {
    for text in [
        r#"{"annotations":{"a":"1","a":"2"}}"#,
        r#"{"linux":{"sysctl":{"a":"1","b":"","a":"2"}}}"#,
        r#"{"linux":{"netDevices":{"eth0":{},"eth0":{"name":"a"}}}}"#,
    ] {
        assert!(parse_spec(text).unwrap_err().to_string().contains("duplicate name"), "{text}");
        assert!(serde_json::from_str::<oci_spec::runtime::Spec>(text).is_ok(), "{text}");
    }
}

/// A writer in Go leaves `null` where it has a nil; the spec does not say what it means. Here it is absence.
#[test]
fn the_oracle_refuses_null_where_it_needs_a_value() {
    assert!(ours(&json!({"root": {"path": null}})).is_ok() && theirs(&json!({"root": {"path": null}})).is_err());
    assert!(ours(&json!({"root": null})).is_ok() && theirs(&json!({"root": null})).is_ok());
}

/// A document with every property, and what `change` makes of that at `place`.
fn example_but(place: &str, change: impl Fn(&mut Value)) -> Value {
    let mut document = CONFIG.example();
    CONFIG.visit(&mut document, &mut |path, _, value| {
        if path == "process.scheduler.flags[]" {
            *value = "SCHED_FLAG_RECLAIM".into();
        }
        if path == place {
            change(value);
        }
    });
    document
}

/// config.md and config-linux.md call each of these REQUIRED, but for `process.user`, of which they say nothing.
#[test]
fn each_absence_is_seen_by_proa_only() {
    for (objects, properties, absence) in NEEDED {
        for (object, (name, json)) in objects.iter().flat_map(|object| properties.iter().map(move |p| (*object, p))) {
            let document = example_but(object, |value| drop(value.as_object_mut().unwrap().remove(*name)));
            let pointer = format!("/{}", join(object, name).replace("[]", ".0").replace('.', "/"));
            let nothing = if *name == "names" { json!([]) } else { Value::Null };
            assert_eq!(at(&ours(&document), &pointer), nothing, "{pointer}");
            let expected: Value = serde_json::from_str(json).unwrap();
            match (absence, theirs(&document)) {
                (Absence::Invents, theirs) => assert_eq!(at(&theirs, &pointer), expected, "{pointer}"),
                (Absence::Refuses, theirs) => assert!(theirs.unwrap_err().contains("missing field"), "{pointer}"),
            }
        }
    }
}

/// What the schema requires is in the list of what the oracle needs; what is there beyond is what the text adds.
#[test]
fn the_list_of_needs_is_that_of_the_spec() {
    let mut required = BTreeSet::new();
    CONFIG.visit(&mut CONFIG.example(), &mut |path, shape, _| {
        required.extend(shape.fields().iter().filter(|f| f.required).map(|field| join(path, &field.name)));
    });
    let needed: BTreeSet<String> =
        NEEDED.iter().flat_map(|(o, p, _)| o.iter().flat_map(|o| p.iter().map(move |(p, _)| join(o, p)))).collect();
    assert_eq!(required.difference(&needed).collect::<Vec<_>>(), [""; 0]);
    let beyond: Vec<&str> =
        needed.difference(&required).map(String::as_str).filter(|p| !p.ends_with("Device[].rate")).collect();
    let text = [
        "linux.devices[].major",
        "linux.devices[].minor",
        "linux.memoryPolicy.mode",
        "linux.personality.domain",
        "process.ioPriority.priority",
        "process.user",
        "process.user.gid",
        "process.user.uid",
    ];
    assert_eq!(beyond, text);
}

/// The oracle knows each word of the spec but two, and stops at all others, unless the set is open in its eyes too.
/// proa's types take any; what is wrong with one is the plan's to say, with the property and its value.
#[test]
fn closed_sets_are_closed_in_the_oracle_only() {
    let mut sets = 0;
    for place in CONFIG.places() {
        let with = |word: &str| example_but(&place, |value| *value = word.into());
        let mut words = Vec::new();
        CONFIG.visit(&mut CONFIG.example(), &mut |path, shape, _| {
            if let (true, Shape::Word(set)) = (path == place, shape) {
                words.clone_from(set);
            }
        });
        for word in &words {
            let known = !matches!(word.as_str(), "SCHED_FLAG_RESET_ON_FORK" | "SCHED_FLAG_DL_OVERRUN");
            assert!(ours(&with(word)).is_ok() && theirs(&with(word)).is_ok() == known, "{place}: {word}");
        }
        if !words.is_empty() {
            sets += 1;
            assert!(ours(&with("no such word")).is_ok(), "{place}");
            assert_eq!(theirs(&with("no such word")).is_ok(), place == "linux.rootfsPropagation", "{place}");
        }
    }
    assert_eq!(sets, 21);
}

/// `enableCMT` and `enableMBM` were of spec 1.2; config-linux.json of 1.3 has `enableMonitoring` in their place.
/// config.md: "Runtimes MAY log unknown properties but MUST otherwise ignore them." (The oracle has both, misspelt.)
#[test]
fn what_left_the_spec_is_unknown() {
    let document = json!({"linux": {"intelRdt": {"enableCMT": true, "enableMBM": true, "enableMonitoring": true}}});
    assert_eq!(disagreement(&document), None);
    assert_eq!(unknown_properties(&document.to_string()), ["linux.intelRdt.enableCMT", "linux.intelRdt.enableMBM"]);
    let kept = at(&theirs(&document), "/linux/intelRdt");
    assert_eq!(kept, json!({"enableMonitoring": true}));
}

/// config-schema.json: `"freebsd": { "$ref": "config-freebsd.json#/freebsd" }`; config.md: "`vm` (object, OPTIONAL)
/// Virtual-machine-specific configuration." The oracle drops the one and a part of the other; proa, for Linux, reads
/// neither.
#[test]
fn other_platforms_are_unknown() {
    let document = json!({"freebsd": {"devices": []}, "vm": {"kernel": {"path": "/k"}, "hwConfig": {"vcpus": 1}}});
    assert_eq!(disagreement(&document), None);
    assert_eq!(unknown_properties(&document.to_string()), ["freebsd", "vm"]);
    assert_eq!(at(&theirs(&document), "/vm/hwConfig"), Value::Null);
}
