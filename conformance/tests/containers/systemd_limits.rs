//! Limits of a scope: systemd knows them, and keeps them in force.

use std::time::Duration;

use conformance::bundle::Bundle;
use conformance::look;
use conformance::test::{Done, Test};
use serde_json::json;

use crate::resources::needs as needs_controller;
use crate::systemd::{create, needs, show, start, systemctl, unit_of};

crate::cases! {
    "" => limits_are_properties_too,
    "" => limits_stay_when_systemd_is_reloaded,
    "" => device_rules_stay_when_systemd_is_reloaded,
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
