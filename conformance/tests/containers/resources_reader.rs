//! `linux.resources` read back by another program's eyes: the crate cgroups-rs finds the container's cgroup by itself
//! and says what is limited.

use cgroups_rs::cpu::CpuController;
use cgroups_rs::cpuset::CpuSetController;
use cgroups_rs::hierarchies;
use cgroups_rs::hugetlb::HugeTlbController;
use cgroups_rs::memory::MemController;
use cgroups_rs::pid::PidController;
use cgroups_rs::{Cgroup, MaxValue};
use conformance::look;
use conformance::test::{Done, Test};
use serde_json::json;

use crate::resources::MIB;

crate::cases! {
    "" => limits_as_cgroups_rs_reads_them,
}

fn limits_as_cgroups_rs_reads_them(t: &Test<'_>) -> Done {
    let all = [
        ("memory", "memory", json!({"limit": 64 * MIB, "reservation": 32 * MIB, "swap": 96 * MIB})),
        ("cpu", "cpu", json!({"shares": 512, "quota": 20_000, "period": 50_000})),
        ("pids", "pids", json!({"limit": 17})),
        ("hugetlb", "hugepageLimits", json!([{"pageSize": "2MB", "limit": 4 * MIB}])),
    ];
    let unified = look::cgroups() == look::Cgroups::Unified;
    // It knows one version at a time.
    let has = |name| look::own_controller(name).is_some_and(|files| files.unified == unified);
    t.needs(all.iter().any(|(controller, ..)| has(controller)), "a controller")?;
    let mut bundle = t.sleeping_bundle();
    for (controller, name, value) in all {
        if has(controller) {
            bundle.config["linux"]["resources"][name] = value;
        }
    }
    if has("cpuset") {
        bundle.config["linux"]["resources"]["cpu"]["cpus"] = json!("0");
        bundle.config["linux"]["resources"]["cpu"]["mems"] = json!("0");
    }
    let c = t.create(&bundle);
    let paths = look::cgroup_paths(c.pid);
    let load = |controller: &str| {
        let named = |names: &str| names.split(',').any(|name| name == controller);
        let path = paths.iter().find(|(names, _)| if unified { names.is_empty() } else { named(names) });
        let (_, path) = path.expect("no cgroup");
        let read = Cgroup::load(hierarchies::auto(), path.trim_start_matches('/'));
        assert!(read.procs().iter().any(|pid| pid.pid == c.pid as u64), "init is not in {path} of {controller}");
        read
    };
    if has("memory") {
        let read = load("memory");
        let memory: &MemController = read.controller_of().expect("no memory");
        let stat = memory.memory_stat();
        assert_eq!((stat.limit_in_bytes, stat.soft_limit_in_bytes), (64 << 20, 32 << 20));
        // In version 2 swap is counted alone.
        assert_eq!(memory.memswap().limit_in_bytes, if unified { 32 << 20 } else { 96 << 20 });
    }
    if has("cpu") {
        let read = load("cpu");
        let cpu: &CpuController = read.controller_of().expect("no cpu");
        assert_eq!(cpu.shares().ok(), Some(if unified { 59 } else { 512 }));
        assert_eq!((cpu.cfs_quota().ok(), cpu.cfs_period().ok()), (Some(20_000), Some(50_000)));
    }
    if has("cpuset") {
        let read = load("cpuset");
        let cpuset: &CpuSetController = read.controller_of().expect("no cpuset");
        assert_eq!((cpuset.cpuset().cpus, cpuset.cpuset().mems), (vec![(0, 0)], vec![(0, 0)]));
    }
    if has("pids") {
        let read = load("pids");
        let pids: &PidController = read.controller_of().expect("no pids");
        assert_eq!(pids.get_pid_max().ok(), Some(MaxValue::Value(17)));
    }
    if has("hugetlb") {
        let read = load("hugetlb");
        let pages: &HugeTlbController = read.controller_of().expect("no hugetlb");
        assert_eq!(pages.limit_in_bytes("2MB").ok(), Some(4 * MIB));
    }
    Ok(())
}
