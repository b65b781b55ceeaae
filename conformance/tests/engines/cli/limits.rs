//! Limits of resources, as the container's cgroup has them.

use std::time::Duration;

use conformance::look::{self, Controller};
use conformance::test::{Done, Skip};

use super::{Container, is_podman, run, sleeper};

crate::cases! {
    memory,
    cpus,
    cpu_shares_and_set,
    block_devices,
    swappiness,
    processes,
    no_fork_bomb,
    out_of_memory,
    update,
    update_what_is_paused,
    a_parent_cgroup,
    devices,
    a_cgroup_namespace,
}

fn of(container: &Container, name: &str) -> Result<Controller, Skip> {
    look::controller(container.pid(), name).ok_or_else(|| Skip(format!("no controller {name} on this machine")))
}

/// The value of one file of cgroup v1 or of another of v2.
#[track_caller]
fn is(controller: &Controller, v1: (&str, &str), v2: (&str, &str)) {
    let (file, value) = if controller.unified { v2 } else { v1 };
    assert_eq!(controller.read(file), value, "{file}");
}

fn memory() -> Done {
    let container = sleeper("--memory 64m --memory-swap 64m --memory-reservation 32m");
    let memory = of(&container, "memory")?;
    is(&memory, ("memory.limit_in_bytes", "67108864"), ("memory.max", "67108864"));
    is(&memory, ("memory.soft_limit_in_bytes", "33554432"), ("memory.low", "33554432"));
    if let Some(both) = memory.get("memory.memsw.limit_in_bytes") {
        assert_eq!(both, "67108864");
    }
    Ok(())
}

fn cpus() -> Done {
    let container = sleeper("--cpus 0.5");
    let cpu = of(&container, "cpu")?;
    if cpu.unified {
        assert_eq!(cpu.read("cpu.max"), "50000 100000");
    } else {
        assert_eq!((cpu.read("cpu.cfs_quota_us"), cpu.read("cpu.cfs_period_us")), ("50000".into(), "100000".into()));
    }
    Ok(())
}

fn cpu_shares_and_set() -> Done {
    let container = sleeper("--cpu-shares 512 --cpuset-cpus 0");
    is(&of(&container, "cpu")?, ("cpu.shares", "512"), ("cpu.weight", "59"));
    assert_eq!(of(&container, "cpuset")?.read("cpuset.cpus"), "0");
    assert_eq!(container.sh("grep Cpus_allowed_list /proc/self/status"), "Cpus_allowed_list:\t0");
    Ok(())
}

fn block_devices() -> Done {
    let blocks = std::fs::read_dir("/sys/block").expect("a list of block devices");
    let mut names: Vec<_> = blocks.filter_map(|entry| entry.ok()?.file_name().into_string().ok()).collect();
    names.retain(|name| std::path::Path::new("/dev").join(name).exists());
    names.sort();
    let name = names.last().ok_or_else(|| Skip("no block device on this machine".into()))?;
    let number = std::fs::read_to_string(format!("/sys/block/{name}/dev")).expect("a device number");
    let number = number.trim();
    let container = sleeper(&format!("--device-read-bps /dev/{name}:1mb --device-write-iops /dev/{name}:50"));
    let io = of(&container, "blkio")?;
    if io.unified {
        let text = io.read("io.max");
        assert!(text.contains(number) && text.contains("rbps=1048576") && text.contains("wiops=50"), "{text}");
    } else {
        assert_eq!(io.read("blkio.throttle.read_bps_device"), format!("{number} 1048576"));
        assert_eq!(io.read("blkio.throttle.write_iops_device"), format!("{number} 50"));
    }
    Ok(())
}

fn swappiness() -> Done {
    if own_memory()?.unified {
        return Err(Skip("cgroup v2 has no swappiness".into()));
    }
    let container = sleeper("--memory-swappiness 10 --oom-kill-disable --memory 64m");
    let memory = of(&container, "memory")?;
    assert_eq!(memory.read("memory.swappiness"), "10");
    assert!(memory.read("memory.oom_control").contains("oom_kill_disable 1"));
    Ok(())
}

fn processes() -> Done {
    let container = sleeper("--pids-limit 42");
    is(&of(&container, "pids")?, ("pids.max", "42"), ("pids.max", "42"));
    Ok(())
}

fn no_fork_bomb() -> Done {
    let script = "for i in 1 2 3 4 5 6 7 8 9 10 11 12; do sleep 5 & done";
    let said = run("--pids-limit 6", &["sh", "-c", script]).fails();
    assert!(said.err.contains("fork"), "{}", said.err);
    Ok(())
}

fn out_of_memory() -> Done {
    own_memory()?;
    let script = "x=0123456789; while :; do x=$x$x; done";
    // Who watches the cgroup may come too late where a machine is slow, with any runtime: conmon does.
    let told = (0..3).any(|_| {
        let container = super::start("--memory 24m --memory-swap 24m", &["sh", "-c", script]);
        assert_eq!(container.wait(), "137");
        let told = || container.inspect("/State/OOMKilled").as_bool() == Some(true);
        look::eventually_within(Duration::from_secs(5), told)
    });
    assert!(told, "the engine does not know of the kill");
    Ok(())
}

fn own_memory() -> Result<Controller, Skip> {
    look::own_controller("memory").ok_or_else(|| Skip("no controller memory on this machine".into()))
}

fn update() -> Done {
    let container = sleeper("--memory 64m --memory-swap 64m");
    container.ok("update --memory 80m --memory-swap 80m --cpus 0.7 --pids-limit 77");
    is(&of(&container, "memory")?, ("memory.limit_in_bytes", "83886080"), ("memory.max", "83886080"));
    is(&of(&container, "cpu")?, ("cpu.cfs_quota_us", "70000"), ("cpu.max", "70000 100000"));
    is(&of(&container, "pids")?, ("pids.max", "77"), ("pids.max", "77"));
    container.ok("update --memory 48m --memory-swap 96m");
    is(&of(&container, "memory")?, ("memory.limit_in_bytes", "50331648"), ("memory.max", "50331648"));
    Ok(())
}

fn update_what_is_paused() -> Done {
    let container = sleeper("");
    container.ok("pause");
    container.ok("update --pids-limit 55");
    is(&of(&container, "pids")?, ("pids.max", "55"), ("pids.max", "55"));
    container.ok("unpause");
    assert_eq!(container.sh("echo fine"), "fine");
    Ok(())
}

fn a_parent_cgroup() -> Done {
    let container = sleeper("--cgroup-parent /given/parent");
    let pid = container.pid();
    let pids = of(&container, "pids")?;
    let path = pids.dir.to_string_lossy().into_owned();
    assert!(path.contains("/given/parent/") && path.contains(&container.id), "{path}");
    assert!(pids.read("cgroup.procs").lines().any(|line| line == pid.to_string()));
    container.ok("rm -f");
    // The parents are the user's: engines leave them.
    for dir in look::cgroup_dirs().iter().rev().filter(|dir| dir.to_string_lossy().contains("/given")) {
        look::eventually("an empty parent", || std::fs::remove_dir(dir).is_ok() || !dir.exists());
    }
    Ok(())
}

fn devices() -> Done {
    let script = "[ -c /dev/extra ] && echo there; head -c1 /dev/extra | wc -c; \
        mknod /tmp/k c 1 11 2>/dev/null; head -c1 /tmp/k";
    let said = run("--device /dev/zero:/dev/extra:r --cap-add MKNOD", &["sh", "-c", script]);
    assert_eq!(said.out, "there\n1\n");
    assert!(said.err.contains("/tmp/k"), "/dev/kmsg can be opened: {}", said.err);
    Ok(())
}

fn a_cgroup_namespace() -> Done {
    let me = std::process::id() as i32;
    let own = sleeper("--cgroupns private");
    assert_ne!(look::namespace(own.pid(), "cgroup"), look::namespace(me, "cgroup"));
    assert!(own.sh("cat /proc/self/cgroup").lines().all(|line| line.ends_with(":/")), "its cgroup is its root");
    let hosts = sleeper("--cgroupns host");
    assert_eq!(look::namespace(hosts.pid(), "cgroup"), look::namespace(me, "cgroup"));
    assert!(hosts.sh("cat /proc/self/cgroup").contains(&hosts.id) || is_podman());
    Ok(())
}
