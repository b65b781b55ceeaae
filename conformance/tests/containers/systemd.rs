//! The systemd driver, `--systemd-cgroup`: a transient scope for each container. Its limits are those of limits.rs and
//! resources.rs, which run under this driver with CGROUP_MANAGER=systemd.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::process::Command;
use std::time::Duration;

use conformance::bundle::Bundle;
use conformance::container::Container;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::sys::signal::Signal;
use serde_json::json;

use crate::resources::needs as needs_controller;

crate::cases! {
    "L-25" => the_scope_of_a_container,
    "L-25" => the_default_scope,
    "" => slices_inside_slices,
    "" => paths_of_another_form_are_refused,
    "" => limits_are_properties_too,
    "" => limits_stay_when_systemd_is_reloaded,
    "" => device_rules_stay_when_systemd_is_reloaded,
    "" => properties_from_annotations,
    "" => properties_that_a_bundle_may_not_set,
    "" => a_property_that_systemd_refuses,
    "" => exec_pause_and_ps,
    "" => a_scope_that_exists,
    "" => delete_ends_what_is_left,
    "" => no_failed_unit_is_left,
    "" => no_cgroup_namespace,
    "" => a_failure_after_the_scope_was_made,
    "" => killed_at_any_moment,
    "" => many_at_once,
    "" => no_bus_but_systemd,
    "" => a_bus_that_closes,
    "" => a_bus_that_never_answers,
}

fn needs(t: &Test<'_>) -> Done {
    t.needs(Path::new("/run/systemd/system").exists(), "systemd")
}

/// The words of systemctl(1), which must work.
#[track_caller]
fn systemctl(args: &[&str]) -> String {
    let output = Command::new("systemctl").args(args).output().expect("no systemctl");
    assert!(output.status.success(), "systemctl {args:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim_end().to_owned()
}

fn show(unit: &str, property: &str) -> String {
    systemctl(&["show", "--value", "--property", property, unit])
}

/// Whether systemd knows the unit, as failed if not otherwise.
fn is_known(unit: &str) -> bool {
    !systemctl(&["list-units", "--all", "--plain", "--no-legend", unit]).is_empty()
}

fn unit_of(id: &str) -> String {
    format!("proa-{id}.scope")
}

#[track_caller]
fn create<'t>(t: &'t Test<'t>, bundle: &Bundle) -> Container<'t> {
    let id = t.id();
    let output = t.create_call(bundle, &id).global("--systemd-cgroup").output().ok();
    t.container(id, output)
}

#[track_caller]
fn start<'t>(t: &'t Test<'t>, bundle: &Bundle) -> Container<'t> {
    let c = create(t, bundle);
    c.start();
    c
}

/// The cgroup that systemd is to know of.
fn path_of(pid: i32) -> String {
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

fn limited(t: &Test<'_>) -> Bundle {
    let mut bundle = t.sleeping_bundle();
    let resources = json!({
        "cpu": {"shares": 512, "quota": 50_000, "period": 200_000},
        "memory": {"limit": 64 << 20, "reservation": 16 << 20},
        "pids": {"limit": 33}
    });
    for (name, value) in resources.as_object().expect("no object") {
        bundle.config["linux"]["resources"][name] = value.clone();
    }
    bundle
}

fn limits_are_properties_too(t: &Test<'_>) -> Done {
    needs(t)?;
    for name in ["cpu", "memory", "pids"] {
        needs_controller(t, name)?;
    }
    let c = create(t, &limited(t));
    let unit = unit_of(&c.id);
    let unified = look::controller(c.pid, "memory").expect("no memory").unified;
    let expected = match unified {
        true => [("MemoryMax", "67108864"), ("MemoryLow", "16777216"), ("CPUWeight", "59")],
        false => [("MemoryLimit", "67108864"), ("CPUShares", "512"), ("DevicePolicy", "strict")],
    };
    for (property, value) in expected.into_iter().chain([
        ("TasksMax", "33"),
        ("CPUQuotaPerSecUSec", "250ms"),
        ("CPUQuotaPeriodUSec", "200ms"),
    ]) {
        assert_eq!(show(&unit, property), value, "{property}");
    }
    Ok(())
}

/// What the kernel's files say of [`limited`].
fn files(pid: i32) -> Vec<String> {
    let read = |controller: &str, v2: &str, v1: &str| {
        let files = look::controller(pid, controller).unwrap_or_else(|| panic!("no {controller}"));
        files.read(if files.unified { v2 } else { v1 })
    };
    vec![
        read("memory", "memory.max", "memory.limit_in_bytes"),
        read("memory", "memory.low", "memory.soft_limit_in_bytes"),
        read("cpu", "cpu.weight", "cpu.shares"),
        read("cpu", "cpu.max", "cpu.cfs_quota_us"),
        read("pids", "pids.max", "pids.max"),
    ]
}

/// What makes systemd write its own idea of a unit's cgroup.
fn disturb(unit: &str) {
    systemctl(&["daemon-reload"]);
    systemctl(&["set-property", "--runtime", unit, "IOWeight=77"]);
    systemctl(&["set-property", "--runtime", unit, "TasksAccounting=yes", "MemoryAccounting=yes", "CPUAccounting=yes"]);
    systemctl(&["daemon-reexec"]);
    systemctl(&["daemon-reload"]);
    // Written when it has time.
    std::thread::sleep(Duration::from_millis(500));
}

fn limits_stay_when_systemd_is_reloaded(t: &Test<'_>) -> Done {
    needs(t)?;
    for name in ["cpu", "memory", "pids"] {
        needs_controller(t, name)?;
    }
    let c = start(t, &limited(t));
    let before = files(c.pid);
    assert!(before[0].starts_with("67108864"), "{before:?}");
    disturb(&unit_of(&c.id));
    assert_eq!(files(c.pid), before);
    Ok(())
}

fn device_rules_stay_when_systemd_is_reloaded(t: &Test<'_>) -> Done {
    needs(t)?;
    let disk = std::fs::read_to_string("/sys/block/vda/dev").unwrap_or_default();
    let mut numbers = disk.trim().split(':').filter_map(|number| number.parse::<u32>().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return t.needs(false, "the disk vda") };
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_MKNOD"]);
    bundle.config["linux"]["resources"]["devices"] = json!([
        {"allow": false, "access": "rwm"},
        {"allow": true, "type": "b", "major": major, "minor": minor, "access": "r"}
    ]);
    let c = start(t, &bundle);
    // The disk is for reading alone, the source of random numbers for nobody.
    let script = format!(
        "mknod /dev/disk b {major} {minor} 2>/dev/null; mknod /dev/hwrng c 10 183 2>/dev/null; \
         for f in hwrng disk null; do (exec 3</dev/$f) 2>/dev/null && echo $f read; \
         (exec 3>>/dev/$f) 2>/dev/null && echo $f written; done; true"
    );
    let expected = "disk read\nnull read\nnull written\n";
    assert_eq!(c.sh(&script), expected);
    disturb(&unit_of(&c.id));
    assert_eq!(c.sh(&script), expected);
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

fn killed_at_any_moment(t: &Test<'_>) -> Done {
    needs(t)?;
    // From well before the scope is made until well after, on a machine as slow as an emulated one.
    for step in 0..14 {
        let id = t.id();
        let running = t.create_call(&t.sleeping_bundle(), &id).global("--systemd-cgroup").spawn();
        std::thread::sleep(Duration::from_millis(step * 25));
        running.kill(Signal::SIGKILL);
        running.wait(&t.runtime);
        t.call(&["delete", "--force", &id]).output().ok();
        assert!(!is_known(&unit_of(&id)), "after {step} steps");
        t.assert_nothing_left();
    }
    Ok(())
}

fn many_at_once(t: &Test<'_>) -> Done {
    needs(t)?;
    let ids: Vec<String> = (0..12).map(|_| t.id()).collect();
    let running: Vec<_> = ids.iter().map(|id| t.run_call(&t.bundle(), id).global("--systemd-cgroup").spawn()).collect();
    for one in running {
        one.wait(&t.runtime).ok();
    }
    for id in &ids {
        assert!(!is_known(&unit_of(id)));
    }
    t.assert_nothing_left();
    Ok(())
}

fn no_bus_but_systemd(t: &Test<'_>) -> Done {
    needs(t)?;
    let id = t.id();
    let call = t.run_call(&t.bundle(), &id).global("--systemd-cgroup");
    call.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere").output().ok();
    assert!(!is_known(&unit_of(&id)));
    Ok(())
}

fn a_bus_that_closes(t: &Test<'_>) -> Done {
    t.proa_only("in proa's words")?;
    let address = t.file("bus");
    let listener = UnixListener::bind(&address).expect("cannot listen");
    // A scope that was not made need not be taken back: it is asked once.
    let server = std::thread::spawn(move || drop(listener.accept()));
    let output = t
        .create_call(&t.bundle(), &t.id())
        .global("--systemd-cgroup")
        .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", address.display()))
        .output()
        .fails();
    server.join().expect("the bus has panicked");
    t.proa_says(&output, "systemd: connect for proa-");
    t.assert_clean_failure(&output);
    Ok(())
}

fn a_bus_that_never_answers(t: &Test<'_>) -> Done {
    t.proa_only("in proa's words")?;
    // A minute that not every machine needs to wait.
    needs(t)?;
    let address = t.file("bus");
    let listener = UnixListener::bind(&address).expect("cannot listen");
    let before = std::time::Instant::now();
    let output = t
        .create_call(&t.bundle(), &t.id())
        .global("--systemd-cgroup")
        .env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", address.display()))
        .output()
        .fails();
    drop(listener);
    t.proa_says(&output, "no answer within");
    assert!(before.elapsed() < Duration::from_secs(90), "{:?}", before.elapsed());
    t.assert_clean_failure(&output);
    Ok(())
}
