//! `update`: each flag, read back from the kernel's file, and `--resources`.

use conformance::container::Container;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

use crate::resources::needs;

crate::cases! {
    "" => processor_time,
    "" => one_of_quota_and_period_keeps_the_other,
    "" => memory,
    "" => swap_alone,
    "" => processes,
    "" => no_further_process,
    "" => processors,
    "" => real_time,
    "" => weight_of_block_devices,
    "" => limits_from_a_file,
    "" => limits_from_standard_input,
    "" => what_is_not_given_stays,
    "" => before_the_start_and_while_paused,
    "" => devices_are_left_alone,
    "" => a_limit_below_what_is_in_use,
    "" => values_that_make_no_sense,
    "" => obsolete_flags_only_warn,
    "" => only_what_is_there_can_be_updated,
    "" => resctrl_that_was_not_asked_for,
}

#[track_caller]
fn update(c: &Container<'_>, flags: &[&str]) {
    c.call("update").options(flags).output().ok();
}

#[track_caller]
fn file(c: &Container<'_>, controller: &str, v2: &str, v1: &str) -> String {
    let files = look::controller(c.pid, controller).unwrap_or_else(|| panic!("no {controller}"));
    files.read(if files.unified { v2 } else { v1 }).trim().to_owned()
}

fn is_unified(c: &Container<'_>, controller: &str) -> bool {
    look::controller(c.pid, controller).is_some_and(|files| files.unified)
}

fn processor_time(t: &Test<'_>) -> Done {
    needs(t, "cpu")?;
    let c = t.sleeper();
    update(&c, &["--cpu-share", "512", "--cpu-quota", "50000", "--cpu-period", "200000"]);
    match is_unified(&c, "cpu") {
        true => {
            assert_eq!(file(&c, "cpu", "cpu.weight", ""), "59");
            assert_eq!(file(&c, "cpu", "cpu.max", ""), "50000 200000");
        }
        false => {
            assert_eq!(file(&c, "cpu", "", "cpu.shares"), "512");
            assert_eq!(file(&c, "cpu", "", "cpu.cfs_quota_us"), "50000");
            assert_eq!(file(&c, "cpu", "", "cpu.cfs_period_us"), "200000");
        }
    }
    update(&c, &["--cpu-quota", "-1"]);
    let quota = file(&c, "cpu", "cpu.max", "cpu.cfs_quota_us");
    // The period is systemd's then.
    let period = if t.runtime.systemd { "" } else { "200000" };
    assert!(quota == "-1" || (quota.starts_with("max ") && quota.ends_with(period)), "{quota}");
    if look::controller(c.pid, "cpu").and_then(|files| files.get("cpu.idle")).is_some() {
        update(&c, &["--cpu-idle", "1"]);
        assert_eq!(file(&c, "cpu", "cpu.idle", "cpu.idle"), "1");
    }
    if !t.is(Kind::Crun) && look::controller(c.pid, "cpu").and_then(|files| files.get("cpu.max.burst")).is_some() {
        update(&c, &["--cpu-quota", "50000", "--cpu-burst", "10000"]);
        assert_eq!(file(&c, "cpu", "cpu.max.burst", ""), "10000");
    }
    Ok(())
}

fn one_of_quota_and_period_keeps_the_other(t: &Test<'_>) -> Done {
    t.not_by_systemd("makes whole percents of the quota")?;
    needs(t, "cpu")?;
    let c = t.sleeper();
    update(&c, &["--cpu-quota", "30000", "--cpu-period", "60000"]);
    update(&c, &["--cpu-period", "90000"]);
    let quota = |c: &Container<'_>| file(c, "cpu", "cpu.max", "cpu.cfs_quota_us");
    assert_eq!(quota(&c).split(' ').next(), Some("30000"));
    update(&c, &["--cpu-quota", "40000"]);
    assert_eq!(quota(&c).split(' ').next(), Some("40000"));
    if !is_unified(&c, "cpu") {
        assert_eq!(file(&c, "cpu", "", "cpu.cfs_period_us"), "90000");
    } else {
        assert_eq!(quota(&c), "40000 90000");
    }
    Ok(())
}

fn memory(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    let c = t.sleeper();
    update(&c, &["--memory", "64m", "--memory-reservation", "1.5m"]);
    assert_eq!(file(&c, "memory", "memory.max", "memory.limit_in_bytes"), "67108864");
    assert_eq!(file(&c, "memory", "memory.low", "memory.soft_limit_in_bytes"), "1572864");
    update(&c, &["--memory", "33554432"]);
    assert_eq!(file(&c, "memory", "memory.max", "memory.limit_in_bytes"), "33554432");
    update(&c, &["--memory", "-1"]);
    let limit = file(&c, "memory", "memory.max", "memory.limit_in_bytes");
    assert!(limit == "max" || limit.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60), "{limit}");
    Ok(())
}

fn swap_alone(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    let c = t.sleeper();
    let name = if is_unified(&c, "memory") { "memory.swap.max" } else { "memory.memsw.limit_in_bytes" };
    let counted = look::controller(c.pid, "memory").and_then(|files| files.get(name)).is_some();
    t.needs(counted, "swap counted by cgroups")?;
    update(&c, &["--memory", "64m"]);
    update(&c, &["--memory-swap", "96m"]);
    // cgroup v2 has a limit on swap alone.
    let expected = if is_unified(&c, "memory") { 32 << 20 } else { 96 << 20 };
    assert_eq!(file(&c, "memory", name, name), expected.to_string());
    update(&c, &["--memory-swap", "-1"]);
    let limit = file(&c, "memory", name, name);
    assert!(limit == "max" || limit.parse::<u64>().is_ok_and(|bytes| bytes > 1 << 60), "{limit}");
    assert_eq!(file(&c, "memory", "memory.max", "memory.limit_in_bytes"), "67108864");
    Ok(())
}

fn processes(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    let c = t.sleeper();
    update(&c, &["--pids-limit", "7"]);
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "7");
    update(&c, &["--pids-limit", "-1"]);
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "max");
    Ok(())
}

fn no_further_process(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes 0 for no limit")?;
    needs(t, "pids")?;
    let c = t.sleeper();
    update(&c, &["--pids-limit", "0"]);
    let limit = file(&c, "pids", "pids.max", "pids.max");
    // systemd and runc have no zero.
    assert!(limit == "0" || ((t.runtime.systemd || !t.is_proa()) && limit == "1"), "{limit}");
    c.exec(&["/bin/sh", "-c", "/bin/true; echo went on"]).output().fails();
    assert!(look::is_alive(c.pid));
    update(&c, &["--pids-limit", "-1"]);
    assert_eq!(c.sh("echo fine"), "fine\n");
    Ok(())
}

fn real_time(t: &Test<'_>) -> Done {
    needs(t, "cpu")?;
    t.peer_differs(Kind::Crun, "ignores it where the kernel has none")?;
    let c = t.sleeper();
    let own = look::controller(c.pid, "cpu").expect("no cpu");
    let flags = ["--cpu-rt-runtime", "1000", "--cpu-rt-period", "100000"];
    if own.get("cpu.rt_runtime_us").is_none() {
        t.peer_differs(Kind::Runc, "ignores it on version 2")?;
        let output = c.call("update").options(&flags).output().fails();
        t.proa_says(&output, "linux.resources.cpu.realtime");
        return Ok(());
    }
    t.needs(
        look::own_controller("cpu").and_then(|files| files.get("cpu.rt_runtime_us")).is_some_and(|text| text != "0"),
        "real-time bandwidth for cgroups",
    )?;
    update(&c, &flags);
    assert_eq!([own.read("cpu.rt_runtime_us"), own.read("cpu.rt_period_us")], ["1000", "100000"]);
    Ok(())
}

fn processors(t: &Test<'_>) -> Done {
    needs(t, "cpuset")?;
    let c = t.sleeper();
    update(&c, &["--cpuset-cpus", "0", "--cpuset-mems", "0"]);
    assert_eq!(file(&c, "cpuset", "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(file(&c, "cpuset", "cpuset.mems", "cpuset.mems"), "0");
    assert_eq!(look::status(c.pid).cpus_allowed_list.as_deref(), Some(&[(0, 0)][..]));
    let output = c.call("update").options(&["--cpuset-cpus", "1000"]).output().fails();
    t.proa_says(&output, "linux.resources.cpu.cpus");
    Ok(())
}

fn weight_of_block_devices(t: &Test<'_>) -> Done {
    needs(t, "blkio")?;
    let c = t.sleeper();
    let there = ["io.weight", "io.bfq.weight", "blkio.weight", "blkio.bfq.weight"]
        .iter()
        .any(|name| look::controller(c.pid, "blkio").and_then(|files| files.get(name)).is_some());
    if !there {
        let output = c.call("update").options(&["--blkio-weight", "500"]).output().fails();
        t.proa_says(&output, "linux.resources.blockIO.weight");
        return Ok(());
    }
    update(&c, &["--blkio-weight", "500"]);
    let files = look::controller(c.pid, "blkio").expect("no blkio");
    // 1 to 10000 are the weights of io.weight, 1 to 1000 all the others: 1 + (500 - 10) * 9999 / 990.
    let expected =
        [("io.bfq.weight", "500"), ("io.weight", "4950"), ("blkio.bfq.weight", "500"), ("blkio.weight", "500")];
    let (name, expected) = expected.into_iter().find(|(name, _)| files.get(name).is_some()).expect("looked at before");
    let text = files.read(name);
    let default = text.lines().next().map(|line| line.trim_start_matches("default "));
    assert_eq!(default, Some(expected), "{name}");
    Ok(())
}

fn limits_from_a_file(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    let c = t.sleeper();
    let path = t.make_file("limits", &json!({"pids": {"limit": 11}}).to_string());
    update(&c, &["--resources", path.to_str().expect("no text")]);
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "11");
    Ok(())
}

fn limits_from_standard_input(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    let c = t.sleeper();
    let path = t.make_file("limits", &json!({"pids": {"limit": 12}, "devices": null, "unified": {}}).to_string());
    let file_in = std::fs::File::open(path).expect("cannot open");
    c.call("update").options(&["--resources", "-"]).stdin(file_in).output().ok();
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "12");
    Ok(())
}

fn what_is_not_given_stays(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    needs(t, "memory")?;
    let mut bundle = t.sleeping_bundle();
    bundle.config["linux"]["resources"]["pids"] = json!({"limit": 20});
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 64 << 20});
    let c = t.start(&bundle);
    update(&c, &["--pids-limit", "21"]);
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "21");
    assert_eq!(file(&c, "memory", "memory.max", "memory.limit_in_bytes"), "67108864");
    update(&c, &[]);
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "21");
    Ok(())
}

fn before_the_start_and_while_paused(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    let c = t.create(&t.sleeping_bundle());
    update(&c, &["--pids-limit", "31"]);
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "31");
    c.assert_status("created");
    c.start();
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "31");
    if look::own_controller("freezer").is_none() && look::cgroups() == look::Cgroups::Hybrid {
        return Ok(());
    }
    c.call("pause").output().ok();
    update(&c, &["--pids-limit", "32"]);
    assert_eq!(file(&c, "pids", "pids.max", "pids.max"), "32");
    c.assert_status("paused");
    c.call("resume").output().ok();
    assert_eq!(c.sh("echo fine"), "fine\n");
    Ok(())
}

fn devices_are_left_alone(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let path = t.make_file("limits", &json!({"devices": [{"allow": false, "access": "rwm"}]}).to_string());
    update(&c, &["--resources", path.to_str().expect("no text")]);
    assert_eq!(c.sh("echo fine >/dev/null && head -c 1 /dev/zero | wc -c"), "1\n");
    Ok(())
}

fn a_limit_below_what_is_in_use(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    // What is in a tmpfs can go nowhere.
    let c = t.start(&t.sh_bundle("dd if=/dev/zero of=/dev/shm/file bs=1M count=20 2>/dev/null; exec sleep 1000"));
    look::eventually("20 MB in use", || {
        let usage = file(&c, "memory", "memory.current", "memory.usage_in_bytes");
        usage.parse::<u64>().is_ok_and(|bytes| bytes > 15 << 20)
    });
    let limits = json!({"memory": {"limit": 4 << 20, "checkBeforeUpdate": true}});
    let path = t.make_file("limits", &limits.to_string());
    let output = c.call("update").options(&["--resources", path.to_str().expect("no text")]).output().fails();
    t.proa_says(&output, "linux.resources.memory.limit");
    assert!(look::is_alive(c.pid));
    Ok(())
}

fn values_that_make_no_sense(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    for (flag, value) in [
        ("--memory", "lots"),
        ("--memory", "-2"),
        ("--cpu-quota", "x"),
        ("--cpu-share", "-1"),
        ("--pids-limit", "1.5"),
        ("--cpuset-cpus", "a-b"),
        ("--blkio-weight", "70000"),
        ("--blkio-weight", "5"),
        ("--cpu-idle", "2"),
    ] {
        let output = c.call("update").options(&[flag, value]).output().fails();
        if t.is_proa() {
            assert_eq!(output.stderr().trim_end().lines().count(), 1, "{flag} {value}: {}", output.stderr());
            assert!(
                output.stderr().contains(value) || output.stderr().contains("linux.resources"),
                "{}",
                output.stderr()
            );
        }
    }
    for text in ["{", "[]", r#"{"pids": {"limit": "many"}}"#] {
        let path = t.make_file("limits", text);
        let output = c.call("update").options(&["--resources", path.to_str().expect("no text")]).output().fails();
        t.proa_says(&output, "limits");
    }
    Ok(())
}

fn obsolete_flags_only_warn(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "sets them on v1")?;
    let c = t.sleeper();
    let output = c.call("update").options(&["--kernel-memory", "1m", "--kernel-memory-tcp", "1m"]).output().ok();
    t.proa_says(&output, "--kernel-memory has no effect");
    Ok(())
}

fn only_what_is_there_can_be_updated(t: &Test<'_>) -> Done {
    let output = t.call(&["update", "nowhere"]).options(&["--pids-limit", "5"]).output().fails();
    t.phrase(&output, &["does not exist"]);
    let c = t.start(&t.bundle());
    c.wait();
    let output = c.call("update").options(&["--pids-limit", "5"]).output().fails();
    t.phrase(&output, &["not running"]);
    Ok(())
}

fn resctrl_that_was_not_asked_for(t: &Test<'_>) -> Done {
    t.proa_only("in proa's words")?;
    let c = t.sleeper();
    let output = c.call("update").options(&["--l3-cache-schema", "L3:0=f"]).output().fails();
    t.proa_says(&output, "was made without linux.intelRdt");
    let _: Value = c.state();
    Ok(())
}
