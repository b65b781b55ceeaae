//! The systemd driver, `--systemd-cgroup`: a transient scope for each container. Its limits are those of limits.rs and
//! resources.rs, which run under this driver with CGROUP_MANAGER=systemd.

use std::path::Path;
use std::process::Command;

use conformance::bundle::Bundle;
use conformance::container::Container;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

use crate::resources::needs as needs_controller;

crate::cases! {
    "L-25" => the_scope_of_a_container,
    "L-25" => the_default_scope,
    "" => slices_inside_slices,
    "" => paths_of_another_form_are_refused,
    "" => properties_from_annotations,
    "" => properties_that_a_bundle_may_not_set,
    "" => a_property_that_systemd_refuses,
    "" => exec_pause_and_ps,
    "" => a_scope_that_exists,
    "" => delete_ends_what_is_left,
    "" => no_failed_unit_is_left,
    "" => no_cgroup_namespace,
    "" => a_failure_after_the_scope_was_made,
}

pub(crate) fn needs(t: &Test<'_>) -> Done {
    t.needs(Path::new("/run/systemd/system").exists(), "systemd")
}

/// The words of systemctl(1), which must work.
#[track_caller]
pub(crate) fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().expect("no systemctl");
    assert!(output.status.success(), "systemctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

pub(crate) fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, unit])
}

/// Whether systemd knows the unit, as failed if not otherwise.
pub(crate) fn is_known(unit: &str) -> bool {
    !systemctl(&["list-units", "--all", "--plain", "--no-legend", unit]).is_empty()
}

pub(crate) fn unit_of(id: &str) -> String {
    format!("proa-{id}.scope")
}

#[track_caller]
pub(crate) fn create<'t>(t: &'t Test<'t>, bundle: &Bundle) -> Container<'t> {
    let id = t.id();
    let output = t.create_call(bundle, &id).global("--systemd-cgroup").output().ok();
    t.container(id, output)
}

#[track_caller]
pub(crate) fn start<'t>(t: &'t Test<'t>, bundle: &Bundle) -> Container<'t> {
    let c = create(t, bundle);
    c.start();
    c
}

/// The cgroup that systemd is to know of.
pub(crate) fn path_of(pid: i32) -> String {
    let paths = look::cgroup_paths(pid);
    paths.get("name=systemd").or_else(|| paths.get("")).cloned().unwrap_or_default()
}

fn the_scope_of_a_container(t: &Test<'_>) -> Done {
    needs(t)?;
    let mut bundle = t.sleeping_bundle();
    let name = t.id();
    bundle.linux("cgroupsPath", json!(format!("system-{}.slice:test:{name}", t.tag())));
    let c = start(t, &bundle);
    let unit = format!("test-{name}.scope");
    let slice = format!("system-{}.slice", t.tag());
    assert_eq!(path_of(c.pid), format!("/system.slice/{slice}/{unit}"));
    for (property, value) in [
        ("Slice", &*slice),
        ("Delegate", "yes"),
        ("ActiveState", "active"),
        ("CollectMode", "inactive-or-failed"),
        ("TasksCurrent", "1"),
    ] {
        assert_eq!(show(&unit, property), value, "{property}");
    }
    // All hierarchies that a container has under the other driver.
    let paths = look::cgroup_paths(c.pid);
    for controller in ["cpu", "cpuset", "memory", "devices", "freezer", "pids", "blkio"] {
        if let Some((_, path)) = paths.iter().find(|(names, _)| names.split(',').any(|name| name == controller)) {
            assert_eq!(path, &path_of(c.pid), "{controller}: {paths:?}");
        }
    }
    c.kill("KILL");
    c.wait();
    c.delete();
    assert!(!is_known(&unit));
    systemctl(&["stop", &slice]);
    t.assert_nothing_left();
    Ok(())
}

fn the_default_scope(t: &Test<'_>) -> Done {
    needs(t)?;
    let c = start(t, &t.sleeping_bundle());
    assert_eq!(path_of(c.pid), format!("/system.slice/{}", unit_of(&c.id)));
    c.call("delete").options(&["--force"]).output().ok();
    assert!(!is_known(&unit_of(&c.id)));
    Ok(())
}

fn slices_inside_slices(t: &Test<'_>) -> Done {
    needs(t)?;
    for (slice, path) in
        [("system-a-b.slice", "/system.slice/system-a.slice/system-a-b.slice"), ("-.slice", ""), ("", "/system.slice")]
    {
        let mut bundle = t.sleeping_bundle();
        let name = t.id();
        bundle.linux("cgroupsPath", json!(format!("{slice}::{name}")));
        let c = create(t, &bundle);
        assert_eq!(path_of(c.pid), format!("{path}/{name}.scope"));
        c.call("delete").options(&["--force"]).output().ok();
    }
    systemctl(&["stop", "system-a-b.slice", "system-a.slice"]);
    Ok(())
}

fn paths_of_another_form_are_refused(t: &Test<'_>) -> Done {
    for path in ["/a/b", "a:b", "a.slice:b:c:d"] {
        let mut bundle = t.bundle();
        bundle.linux("cgroupsPath", json!(path));
        let output = t.create_call(&bundle, &t.id()).global("--systemd-cgroup").output().fails();
        t.phrase(&output, &["expected cgroupsPath to be of format", "slice:prefix:name"]);
        t.assert_clean_failure(&output);
    }
    for path in ["../x.slice:p:c", "a--b.slice:p:c", "a.slice:p:", "a:p:c"] {
        let mut bundle = t.bundle();
        bundle.linux("cgroupsPath", json!(path));
        let output = t.create_call(&bundle, &t.id()).global("--systemd-cgroup").output().fails();
        t.proa_says(&output, &format!("linux.cgroupsPath {path:?}: "));
        t.assert_clean_failure(&output);
    }
    Ok(())
}

fn properties_from_annotations(t: &Test<'_>) -> Done {
    needs(t)?;
    let mut bundle = t.sleeping_bundle();
    bundle.set(
        "annotations",
        json!({
            "org.systemd.property.TimeoutStopUSec": "uint64 7000000",
            "org.systemd.property.KillSignal": "12",
            "org.systemd.property.After": "['proa-nothing.service']",
            "org.systemd.property.DefaultDependencies": "false",
            "org.systemd.property.Description": "'the test of proa'"
        }),
    );
    let c = create(t, &bundle);
    let unit = unit_of(&c.id);
    for (property, value) in [
        ("TimeoutStopUSec", "7s"),
        ("KillSignal", "12"),
        ("DefaultDependencies", "no"),
        ("Description", "the test of proa"),
    ] {
        assert_eq!(show(&unit, property), value, "{property}");
    }
    assert!(show(&unit, "After").split(' ').any(|unit| unit == "proa-nothing.service"));
    // In seconds, as unit files have it.
    let mut bundle = t.sleeping_bundle();
    bundle.set("annotations", json!({"org.systemd.property.TimeoutStopSec": "2"}));
    let c = create(t, &bundle);
    assert_eq!(show(&unit_of(&c.id), "TimeoutStopUSec"), "2s");
    Ok(())
}

fn properties_that_a_bundle_may_not_set(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "sets any")?;
    t.peer_differs(Kind::Crun, "sets any")?;
    for name in [
        "OnFailure",
        "SuccessAction",
        "ExecStop",
        "Slice",
        "PIDs",
        "Requires",
        "MemoryMax",
        "DeviceAllow",
        "BPFProgram",
        "Delegate",
    ] {
        let mut bundle = t.bundle();
        let annotation = format!("org.systemd.property.{name}");
        bundle.set("annotations", json!({&annotation: "'reboot.target'"}));
        let output = t.create_call(&bundle, &t.id()).global("--systemd-cgroup").output().fails();
        t.proa_says(&output, &format!("annotations[\"{annotation}\"]: a bundle may not set this property"));
        t.assert_clean_failure(&output);
        // Without systemd nobody reads them.
        if std::env::var_os("CGROUP_MANAGER").is_none() {
            t.run(&bundle).ok();
        }
    }
    for (name, value) in [("KillSignal", "SIGTERM"), ("After", "['a'"), ("Kill-Signal", "1"), ("K", "1")] {
        let mut bundle = t.bundle();
        bundle.set("annotations", json!({format!("org.systemd.property.{name}"): value}));
        let output = t.create_call(&bundle, &t.id()).global("--systemd-cgroup").output().fails();
        t.proa_says(&output, &format!("annotations[\"org.systemd.property.{name}\"]: "));
        t.assert_clean_failure(&output);
    }
    needs(t)?;
    let mut bundle = t.sleeping_bundle();
    bundle.set("annotations", json!({"org.systemd.property.RuntimeMaxUSec": "uint64 90000000"}));
    let id = t.id();
    let call = t.create_call(&bundle, &id).global("--systemd-cgroup").global("--systemd-property=RuntimeMaxUSec");
    let c = t.container(id, call.output().ok());
    assert_eq!(show(&unit_of(&c.id), "RuntimeMaxUSec"), "1min 30s");
    Ok(())
}

fn a_property_that_systemd_refuses(t: &Test<'_>) -> Done {
    needs(t)?;
    let mut bundle = t.bundle();
    bundle.set("annotations", json!({"org.systemd.property.KillSignal": "1000"}));
    let id = t.id();
    let output = t.create_call(&bundle, &id).global("--systemd-cgroup").output().fails();
    t.proa_says(&output, &format!("systemd: start {}: ", unit_of(&id)));
    t.proa_says(&output, "KillSignal");
    t.assert_clean_failure(&output);
    assert!(!is_known(&unit_of(&id)));
    Ok(())
}

fn exec_pause_and_ps(t: &Test<'_>) -> Done {
    needs(t)?;
    let c = start(t, &t.sleeping_bundle());
    let exec = c.exec(&["/bin/sleep", "1000"]).spawn();
    let count = || c.call("ps").options(&["--format", "json"]).output().ok().stdout();
    look::eventually("two processes", || serde_json::from_str::<Vec<i32>>(&count()).is_ok_and(|pids| pids.len() == 2));
    assert_eq!(show(&unit_of(&c.id), "TasksCurrent"), "2");
    c.call("pause").output().ok();
    c.assert_status("paused");
    c.call("resume").output().ok();
    c.kill("KILL");
    exec.wait(&t.runtime);
    c.wait();
    c.delete();
    assert!(!is_known(&unit_of(&c.id)));
    Ok(())
}

fn a_scope_that_exists(t: &Test<'_>) -> Done {
    needs(t)?;
    let mut bundle = t.sleeping_bundle();
    bundle.linux("cgroupsPath", json!(format!("system.slice:{}:same", t.tag())));
    let first = start(t, &bundle);
    let output = t.create_call(&bundle, &t.id()).global("--systemd-cgroup").output().fails();
    t.proa_says(&output, "already");
    assert_eq!(first.sh("echo fine"), "fine\n");
    first.call("delete").options(&["--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn delete_ends_what_is_left(t: &Test<'_>) -> Done {
    needs(t)?;
    // Without a pid namespace nothing dies with the first process; TERM is not enough for the others.
    let mut bundle =
        t.sh_bundle("trap '' TERM; (trap '' TERM; sleep 1000) & (trap '' TERM; sleep 1000) & exec sleep 1000");
    bundle.without_namespace("pid");
    let c = start(t, &bundle);
    let path = path_of(c.pid);
    c.kill("KILL");
    c.wait();
    c.delete();
    assert!(!is_known(&unit_of(&c.id)));
    assert!(!Path::new("/sys/fs/cgroup").join(&path[1..]).exists());
    Ok(())
}

fn no_failed_unit_is_left(t: &Test<'_>) -> Done {
    needs(t)?;
    needs_controller(t, "memory")?;
    let mut bundle = t.sh_bundle("dd if=/dev/zero of=/dev/null bs=200M count=1; exit 3");
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 50 << 20, "swap": 50 << 20});
    let id = t.id();
    let output = t.run_call(&bundle, &id).global("--systemd-cgroup").output();
    assert!(!output.status.success());
    assert!(!is_known(&unit_of(&id)));
    Ok(())
}

fn no_cgroup_namespace(t: &Test<'_>) -> Done {
    needs(t)?;
    let mut bundle = t.bundle();
    bundle.without_namespace("cgroup").sh("cat /proc/self/cgroup");
    let id = t.id();
    let text = t.run_call(&bundle, &id).global("--systemd-cgroup").output().ok().stdout();
    assert!(text.contains(&format!("/system.slice/{}", unit_of(&id))), "{text}");
    Ok(())
}

fn a_failure_after_the_scope_was_made(t: &Test<'_>) -> Done {
    needs(t)?;
    for damage in 0..3 {
        let mut bundle = t.bundle();
        match damage {
            0 => bundle.args(&["/nowhere"]),
            1 => bundle.mount("/x", "nosuchfs", "none", &[]),
            _ => bundle.set("hooks", json!({"createRuntime": [{"path": "/bin/false"}]})),
        };
        let id = t.id();
        let output = t.create_call(&bundle, &id).global("--systemd-cgroup").output().fails();
        assert!(!output.stderr().contains("systemd:"), "{}", output.stderr());
        t.assert_clean_failure(&output);
        assert!(!is_known(&unit_of(&id)));
    }
    Ok(())
}
