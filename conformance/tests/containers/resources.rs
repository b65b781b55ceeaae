//! `linux.resources`: each field is in the kernel's file once the container is created.
//!
//! Not here: block devices, huge pages, network, RDMA, unified (resources_io.rs), that limits bite, their moment and their errors (limits.rs), device rules (devices.rs).

use std::fs;

use conformance::container::Container;
use conformance::look::{self, Controller};
use conformance::runtime::Kind;
use conformance::test::{Done, Skip, Test};
use serde_json::{Value, json};

crate::cases! {
    "L-39" => memory,
    "L-39" => memory_without_limits,
    "L-39" => swap_as_much_as_memory,
    "L-40" => memory_of_the_kernel,
    "L-41,L-57" => memory_of_version_1,
    "L-43,L-57" => cpu_shares,
    "L-43" => cpu_quota_and_period,
    "L-43" => cpu_quota_alone_and_period_alone,
    "L-44" => cpu_burst,
    "L-43" => cpu_real_time,
    "L-43" => cpu_idle,
    "L-43" => processors_and_memory_nodes,
    "L-51" => pids,
    "L-52" => no_more_pids,
    "L-30" => nothing_set_is_nothing_changed,
}

/// The controller, or that the machine has none.
pub(crate) fn needs(t: &Test<'_>, name: &str) -> Result<Controller, Skip> {
    let found = look::own_controller(name);
    t.needs(found.is_some(), &format!("the cgroup controller {name}"))?;
    Ok(found.unwrap_or_else(|| unreachable!()))
}

/// A container that was created with these resources, and the files of a controller in its cgroup.
#[track_caller]
pub(crate) fn with<'t>(t: &'t Test<'_>, name: &str, value: Value, controller: &str) -> (Container<'t>, Controller) {
    let mut bundle = t.sleeping_bundle();
    bundle.config["linux"]["resources"][name] = value;
    let c = t.create(&bundle);
    let files = look::controller(c.pid, controller).unwrap_or_else(|| panic!("no {controller}"));
    (c, files)
}

/// A disk, `major:minor` in two halves, and that as the kernel writes it.
pub(crate) fn disk(t: &Test<'_>) -> Result<(u32, u32, String), Skip> {
    let names: Vec<_> = fs::read_dir("/sys/block").into_iter().flatten().filter_map(Result::ok).collect();
    let found = ["vd", "sd", "nvme", "loop"].iter().find_map(|kind| {
        let mut disks: Vec<_> =
            names.iter().filter(|name| name.file_name().to_string_lossy().starts_with(kind)).collect();
        disks.sort_by_key(|disk| disk.file_name());
        fs::read_to_string(disks.first()?.path().join("dev")).ok()
    });
    t.needs(found.is_some(), "a disk")?;
    let text = found.unwrap_or_default().trim().to_owned();
    let (major, minor) = text.split_once(':').expect("a device number has a colon");
    Ok((major.parse().expect("no number"), minor.parse().expect("no number"), text.clone()))
}

pub(crate) const MIB: u64 = 1 << 20;
/// No limit, as version 1 writes it with pages of 4 KiB.
const NO_LIMIT_V1: &str = "9223372036854771712";

fn memory(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    let value = json!({"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB});
    let (_c, files) = with(t, "memory", value, "memory");
    if files.unified {
        assert_eq!(files.read("memory.max"), (64 * MIB).to_string());
        assert_eq!(files.read("memory.low"), (32 * MIB).to_string());
        assert_eq!(files.read("memory.swap.max"), (32 * MIB).to_string());
    } else {
        assert_eq!(files.read("memory.limit_in_bytes"), (64 * MIB).to_string());
        assert_eq!(files.read("memory.soft_limit_in_bytes"), (32 * MIB).to_string());
        assert_eq!(files.read("memory.memsw.limit_in_bytes"), (96 * MIB).to_string());
    }
    Ok(())
}

fn memory_without_limits(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    for value in [json!({"limit": -1, "swap": -1}), json!({"limit": -1}), json!({"limit": 64 * MIB, "swap": -1})] {
        let limited = value["limit"] != json!(-1);
        let (c, files) = with(t, "memory", value, "memory");
        let (memory, swap) = match files.unified {
            true => (files.read("memory.max"), files.read("memory.swap.max")),
            false => (files.read("memory.limit_in_bytes"), files.read("memory.memsw.limit_in_bytes")),
        };
        let none = if files.unified { "max" } else { NO_LIMIT_V1 };
        assert_eq!(memory, if limited { (64 * MIB).to_string() } else { none.to_owned() });
        assert_eq!(swap, none);
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

fn swap_as_much_as_memory(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    let (_c, files) = with(t, "memory", json!({"limit": 64 * MIB, "swap": 64 * MIB}), "memory");
    match files.unified {
        true => assert_eq!(files.read("memory.swap.max"), "0"),
        false => assert_eq!(files.read("memory.memsw.limit_in_bytes"), (64 * MIB).to_string()),
    }
    Ok(())
}

fn memory_of_the_kernel(t: &Test<'_>) -> Done {
    let v2 = needs(t, "memory")?.unified;
    t.peer_differs(Kind::Crun, "refuses it on version 2")?;
    let (c, files) = with(t, "memory", json!({"limit": 64 * MIB, "kernel": 8 * MIB}), "memory");
    let file = if v2 { "memory.max" } else { "memory.limit_in_bytes" };
    assert_eq!(files.read(file), (64 * MIB).to_string());
    t.proa_says(&c.output, "linux.resources.memory.kernel");
    if t.is_proa() {
        let (c, files) = with(t, "memory", json!({"kernelTCP": 8 * MIB}), "memory");
        if v2 {
            t.proa_says(&c.output, "linux.resources.memory.kernelTCP: ignored");
            return Ok(());
        }
        assert_eq!(files.read("memory.kmem.tcp.limit_in_bytes"), (8 * MIB).to_string());
    }
    Ok(())
}

fn memory_of_version_1(t: &Test<'_>) -> Done {
    let values =
        [("swappiness", json!(17), "memory.swappiness"), ("disableOOMKiller", json!(true), "memory.oom_control")];
    if needs(t, "memory")?.unified {
        t.peer_differs(Kind::Runc, "ignores it on version 2")?;
        for (name, value, _) in values {
            let mut bundle = t.bundle();
            bundle.config["linux"]["resources"]["memory"] = json!({name: value});
            let output = t.refuses(&bundle);
            t.proa_says(&output, &format!("linux.resources.memory.{name}"));
        }
        return Ok(());
    }
    let (_c, files) =
        with(t, "memory", json!({"swappiness": 17, "disableOOMKiller": true, "useHierarchy": true}), "memory");
    assert_eq!(files.read("memory.swappiness"), "17");
    assert_eq!(files.count("memory.oom_control", "oom_kill_disable"), 1);
    assert_eq!(files.read("memory.use_hierarchy"), "1");
    Ok(())
}

fn cpu_shares(t: &Test<'_>) -> Done {
    needs(t, "cpu")?;
    // What version 2 makes of them is a curve through these points.
    for (shares, weight) in [(2, 1), (512, 59), (1024, 100), (262_144, 10_000)] {
        let (c, files) = with(t, "cpu", json!({"shares": shares}), "cpu");
        match files.unified {
            true => assert_eq!(files.read("cpu.weight"), weight.to_string()),
            false => assert_eq!(files.read("cpu.shares"), shares.to_string()),
        }
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

/// Quota and period, as version 2 writes them.
fn bandwidth(files: &Controller) -> String {
    if files.unified {
        return files.read("cpu.max");
    }
    let quota = files.read("cpu.cfs_quota_us");
    format!("{} {}", if quota == "-1" { "max" } else { &quota }, files.read("cpu.cfs_period_us"))
}

fn cpu_quota_and_period(t: &Test<'_>) -> Done {
    needs(t, "cpu")?;
    let (_c, files) = with(t, "cpu", json!({"quota": 20_000, "period": 50_000}), "cpu");
    assert_eq!(bandwidth(&files), "20000 50000");
    Ok(())
}

fn cpu_quota_alone_and_period_alone(t: &Test<'_>) -> Done {
    needs(t, "cpu")?;
    t.not_by_systemd("keeps no period without a quota")?;
    for (value, expected) in [
        (json!({"quota": 30_000}), "30000 100000"),
        (json!({"period": 50_000}), "max 50000"),
        (json!({"quota": -1}), "max 100000"),
    ] {
        let (c, files) = with(t, "cpu", value, "cpu");
        assert_eq!(bandwidth(&files), expected);
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

fn cpu_burst(t: &Test<'_>) -> Done {
    let files = needs(t, "cpu")?;
    let file = if files.unified { "cpu.max.burst" } else { "cpu.cfs_burst_us" };
    let (_c, files) = with(t, "cpu", json!({"quota": 20_000, "period": 50_000, "burst": 10_000}), "cpu");
    assert_eq!(files.read(file), "10000");
    assert_eq!(bandwidth(&files), "20000 50000");
    Ok(())
}

fn cpu_real_time(t: &Test<'_>) -> Done {
    let own = needs(t, "cpu")?;
    if own.unified {
        t.peer_differs(Kind::Runc, "ignores it on version 2")?;
        let mut bundle = t.bundle();
        bundle.config["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 1000, "realtimePeriod": 100_000});
        let output = t.refuses(&bundle);
        t.proa_says(&output, "linux.resources.cpu.realtimeRuntime");
        return Ok(());
    }
    let has = own.get("cpu.rt_runtime_us").is_some_and(|text| text != "0");
    t.needs(has, "real-time bandwidth for cgroups")?;
    t.peer_differs(Kind::Runc, "gives none to the cgroups above")?;
    t.peer_differs(Kind::Crun, "gives none to the cgroups above")?;
    let mut bundle = t.sleeping_bundle();
    bundle.config["linux"]["resources"]["cpu"] = json!({"realtimeRuntime": 1000, "realtimePeriod": 100_000});
    bundle.process("scheduler", json!({"policy": "SCHED_FIFO", "priority": 3}));
    // Two levels that are made for it.
    bundle.linux("cgroupsPath", json!(format!("/{}-rt/{}", t.tag(), t.id())));
    let c = t.create(&bundle);
    let files = look::controller(c.pid, "cpu").expect("no cpu");
    assert_eq!([files.read("cpu.rt_runtime_us"), files.read("cpu.rt_period_us")], ["1000", "100000"]);
    assert_eq!(look::stat(c.pid).and_then(|stat| stat.policy), Some(1), "SCHED_FIFO");
    Ok(())
}

fn cpu_idle(t: &Test<'_>) -> Done {
    let own = needs(t, "cpu")?;
    // The root has the file in neither version.
    let kernel = nix::sys::utsname::uname().expect("no uname").release().to_string_lossy().into_owned();
    let numbers: Vec<u32> = kernel.split(['.', '-']).take(2).filter_map(|part| part.parse().ok()).collect();
    t.needs(numbers >= vec![5, 15], "cpu.idle, Linux 5.15")?;
    t.peer_differs(Kind::Crun, "writes shares that an idle cgroup has not")?;
    t.peer_differs(Kind::Runc, "writes shares that an idle cgroup has not")?;
    let (_c, files) = with(t, "cpu", json!({"idle": 1, "shares": 512}), "cpu");
    assert_eq!(files.unified, own.unified);
    assert_eq!(files.read("cpu.idle"), "1");
    Ok(())
}

fn processors_and_memory_nodes(t: &Test<'_>) -> Done {
    needs(t, "cpuset")?;
    let (c, files) = with(t, "cpu", json!({"cpus": "0", "mems": "0"}), "cpuset");
    assert_eq!([files.read("cpuset.cpus"), files.read("cpuset.mems")], ["0", "0"]);
    c.start();
    let allowed = c.exec(&["grep", "s_allowed_list", "/proc/self/status"]).output().ok().stdout();
    let allowed: Vec<&str> = allowed.lines().filter_map(|line| line.split_whitespace().last()).collect();
    assert_eq!(allowed, ["0", "0"]);
    Ok(())
}

fn pids(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    for (limit, expected) in [(17, "17"), (-1, "max")] {
        let (c, files) = with(t, "pids", json!({"limit": limit}), "pids");
        assert_eq!(files.read("pids.max"), expected);
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

fn no_more_pids(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    t.peer_differs(Kind::Crun, "takes 0 as not set")?;
    t.peer_differs(Kind::Runc, "takes 0 as no limit, before 1.4")?;
    let (c, files) = with(t, "pids", json!({"limit": 0}), "pids");
    // What is there goes on, nothing else begins: one means the same, and is what systemd can say.
    assert!(["0", "1"].contains(&files.read("pids.max").as_str()), "{}", files.read("pids.max"));
    c.start();
    c.assert_status("running");
    Ok(())
}

fn nothing_set_is_nothing_changed(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.remove("/linux/resources");
    let c = t.create(&bundle);
    let expected = [
        ("memory", "memory.limit_in_bytes", NO_LIMIT_V1),
        ("memory", "memory.max", "max"),
        ("cpu", "cpu.shares", "1024"),
        ("cpu", "cpu.weight", "100"),
        ("cpu", "cpu.cfs_quota_us", "-1"),
        ("cpu", "cpu.max", "max 100000"),
        ("pids", "pids.max", "max"),
    ];
    let mut looked_at = 0;
    for (controller, file, value) in expected {
        if let Some(text) = look::controller(c.pid, controller).and_then(|files| files.get(file)) {
            assert_eq!(text, value, "{file}");
            looked_at += 1;
        }
    }
    t.needs(looked_at > 0, "a controller")
}
