//! Device rules as the kernel carries them out.

mod common;

use cgroup::{Cgroup, DeviceKind, DeviceRule, Error, Mode, Resources, default_device_rules};
use common::{Scratch, run_in, skip};

const DENY_ALL: DeviceRule =
    DeviceRule { allow: false, kind: DeviceKind::All, major: None, minor: None, read: true, write: true, mknod: true };

fn char(allow: bool, minor: u32, read: bool, write: bool) -> DeviceRule {
    DeviceRule { allow, kind: DeviceKind::Char, major: Some(1), minor: Some(minor), read, write, mknod: false }
}

fn apply(cgroup: &Cgroup, rules: &[DeviceRule]) {
    cgroup.apply(&Resources { devices: rules.to_vec(), ..Default::default() }).unwrap();
}

// Shells, as what they are told to open is opened with exactly these flags.
const READ_ZERO: &str = "exec 3</dev/zero";
const READ_NULL: &str = "exec 3</dev/null";
const WRITE_NULL: &str = "exec 3>/dev/null";
const READ_WRITE_NULL: &str = "exec 3<>/dev/null";
const READ_KMSG: &str = "exec 3</dev/kmsg";

fn may(cgroup: &Cgroup, script: &str) -> bool {
    run_in(cgroup, script) == Some(0)
}

#[test]
fn a_device_that_is_not_allowed_is_neither_opened_nor_made() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    assert!(may(&cgroup, READ_ZERO) && may(&cgroup, READ_KMSG));
    let node = std::env::temp_dir().join(&scratch.name);
    let mknod = format!("mknod {0} c 1 5 && rm {0}", node.display());

    apply(&cgroup, &[DENY_ALL, char(true, 3, true, true)]);
    assert!(!may(&cgroup, READ_ZERO));
    assert!(may(&cgroup, READ_NULL) && may(&cgroup, READ_WRITE_NULL));
    assert!(!may(&cgroup, &mknod));
    // EPERM, not any other failure.
    let errno = r#"python3 -c "import errno,os,sys
try: os.open('/dev/zero', os.O_RDONLY)
except OSError as e: sys.exit(e.errno)""#;
    if may(&cgroup, "command -v python3") {
        assert_eq!(run_in(&cgroup, errno), Some(libc::EPERM));
    }
    assert!(std::fs::File::open("/dev/zero").is_ok());
}

#[test]
fn the_default_list_leaves_the_usual_devices() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let mut rules = vec![DENY_ALL];
    rules.extend(default_device_rules());
    apply(&cgroup, &rules);
    assert!(may(&cgroup, READ_ZERO) && may(&cgroup, READ_WRITE_NULL));
    assert!(!may(&cgroup, READ_KMSG));
    let node = std::env::temp_dir().join(&scratch.name);
    assert!(may(&cgroup, &format!("mknod {0} c 1 11 && rm {0}", node.display())));
}

#[test]
fn kinds_of_access_are_told_apart_and_added_up() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    apply(&cgroup, &[DENY_ALL, char(true, 3, true, false)]);
    assert!(may(&cgroup, READ_NULL) && !may(&cgroup, WRITE_NULL) && !may(&cgroup, READ_WRITE_NULL));

    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    apply(&cgroup, &[DENY_ALL, char(true, 3, true, false), char(true, 3, false, true)]);
    assert!(may(&cgroup, READ_WRITE_NULL));

    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    apply(&cgroup, &[DENY_ALL, char(true, 3, true, true), char(false, 3, false, true)]);
    assert!(may(&cgroup, READ_NULL) && !may(&cgroup, WRITE_NULL) && !may(&cgroup, READ_WRITE_NULL));
}

#[test]
fn what_is_denied_alone_leaves_the_rest() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    apply(&cgroup, &[DeviceRule { allow: true, ..DENY_ALL }, char(false, 5, true, true)]);
    assert!(!may(&cgroup, READ_ZERO) && may(&cgroup, READ_NULL) && may(&cgroup, READ_KMSG));
}

#[test]
fn the_rules_of_a_cgroups_last_user_are_replaced() {
    let scratch = Scratch::new();
    apply(&scratch.place.create().unwrap(), &[DENY_ALL, char(true, 5, true, true)]);
    let cgroup = scratch.place.create().unwrap();
    assert!(!may(&cgroup, READ_NULL));
    apply(&cgroup, &[DENY_ALL, char(true, 3, true, true)]);
    assert!(may(&cgroup, READ_NULL) && !may(&cgroup, READ_ZERO));
    let opened = scratch.place.open().unwrap().unwrap();
    apply(&opened, &[DeviceRule { allow: true, ..DENY_ALL }]);
    assert!(may(&cgroup, READ_NULL) && may(&cgroup, READ_ZERO));
}

#[test]
fn a_part_is_taken_back_or_refused() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let all_of_major = DeviceRule { minor: None, ..char(true, 0, true, true) };
    let rules = [DENY_ALL, all_of_major, char(false, 5, true, true)];
    match cgroup.apply(&Resources { devices: rules.to_vec(), ..Default::default() }) {
        Ok(()) => {
            assert_eq!(scratch.host.mode(), Mode::V2);
            assert!(!may(&cgroup, READ_ZERO) && may(&cgroup, READ_NULL));
        }
        Err(error) => {
            assert_ne!(scratch.host.mode(), Mode::V2);
            assert!(matches!(error, Error::DeviceOverlap { .. }), "{error}");
        }
    }
}

#[test]
fn no_rules_change_nothing_and_rules_without_control_are_an_error() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    apply(&cgroup, &[]);
    assert!(may(&cgroup, READ_KMSG));
    if scratch.host.hierarchies().is_empty() {
        return skip("this host has no cgroup v1");
    }
    // A host without devices, and without v2.
    let mut place = serde_json::to_value(&scratch.place).unwrap();
    place.as_object_mut().unwrap().remove("unified");
    place["v1"].as_array_mut().unwrap().retain(|directory| directory["controllers"] != "devices");
    let cgroup = serde_json::from_value::<cgroup::Place>(place).unwrap().open().unwrap().unwrap();
    let error = cgroup.apply(&Resources { devices: vec![DENY_ALL], ..Default::default() }).unwrap_err();
    assert!(matches!(error, Error::NoDeviceControl));
}

#[test]
fn many_rules_make_a_program_that_the_kernel_takes() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let mut rules = vec![DENY_ALL];
    rules.extend((100..1500).map(|minor| char(true, minor, true, true)));
    rules.push(char(true, 3, true, true));
    apply(&cgroup, &rules);
    assert!(may(&cgroup, READ_NULL) && !may(&cgroup, READ_ZERO));
}

#[test]
fn as_many_rules_as_somebody_may_write() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let many = |allow, write: bool| {
        (1000..3500).map(move |minor| DeviceRule { mknod: true, ..char(allow, minor, true, write) })
    };
    let mut rules = vec![DENY_ALL];
    rules.extend(many(true, true));
    rules.extend(many(false, false).take(500));
    rules.extend(many(true, true));
    rules.push(DeviceRule { mknod: true, ..char(true, 3, true, true) });
    apply(&cgroup, &rules);
    assert!(may(&cgroup, READ_WRITE_NULL) && !may(&cgroup, READ_ZERO));
}
