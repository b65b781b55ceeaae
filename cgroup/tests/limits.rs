//! Limits in the kernel's own files, in the hierarchies that this host has.

mod common;

use std::fs;
use std::path::PathBuf;

use cgroup::{BlockIo, Cgroup, Cpu, HugepageLimit, Limit, Memory, Mode, Resources, Throttle, ThrottleKind};
use common::{Scratch, make, run_in, skip};

/// The directory of a controller by its v1 name, and whether that is cgroup v2; `None` where the host does not have it
/// or does not hand it down.
fn controller(scratch: &Scratch, name: &str) -> Option<(PathBuf, bool)> {
    let v1 = scratch.place.paths().find(|(names, _)| names.split(',').any(|one| one == name));
    if let Some((_, path)) = v1 {
        return Some((path, false));
    }
    let path = scratch.place.unified_path()?;
    let name = if name == "blkio" { "io" } else { name };
    let offered = fs::read_to_string(path.join("cgroup.controllers")).unwrap();
    offered.split_whitespace().any(|one| one == name).then_some((path, true))
}

/// The files with these names, v1's and v2's, in turn.
fn read(place: &(PathBuf, bool), v1: &str, v2: &str) -> String {
    let path = place.0.join(if place.1 { v2 } else { v1 });
    fs::read_to_string(&path).unwrap_or_else(|error| panic!("{}: {error}", path.display())).trim().to_owned()
}

fn with(cgroup: &Cgroup, resources: Resources) {
    cgroup.apply(&resources).unwrap();
}

#[test]
fn memory_is_raised_and_lowered() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let Some(place) = controller(&scratch, "memory") else { return skip("no memory controller") };
    let mib = |number: u64| Limit::Of(number << 20);
    for (limit, swap) in [(40, 60), (80, 100), (20, 20), (30, 90)] {
        let memory = Memory { limit: Some(mib(limit)), swap: Some(mib(swap)), ..Memory::default() };
        with(&cgroup, Resources { memory, ..Resources::default() });
        assert_eq!(read(&place, "memory.limit_in_bytes", "memory.max"), (limit << 20).to_string());
        let expected = if place.1 { swap - limit } else { swap } << 20;
        assert_eq!(read(&place, "memory.memsw.limit_in_bytes", "memory.swap.max"), expected.to_string());
    }
    let memory = Memory { limit: Some(Limit::Unlimited), ..Memory::default() };
    with(&cgroup, Resources { memory, ..Resources::default() });
    let none = if place.1 { "max" } else { "9223372036854771712" };
    assert_eq!(read(&place, "memory.memsw.limit_in_bytes", "memory.swap.max"), none);
}

#[test]
fn who_uses_too_much_memory_is_counted() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    if controller(&scratch, "memory").is_none() {
        return skip("no memory controller");
    }
    assert_eq!(cgroup.oom_kills().unwrap(), 0);
    let memory = Memory { limit: Some(Limit::Of(20 << 20)), swap: Some(Limit::Of(20 << 20)), ..Memory::default() };
    with(&cgroup, Resources { memory, ..Resources::default() });
    assert_eq!(run_in(&cgroup, "dd if=/dev/zero of=/dev/null bs=60M count=1; test $? = 137"), Some(0));
    assert_eq!(cgroup.oom_kills().unwrap(), 1);
}

#[test]
fn only_what_is_set_is_changed() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let Some(place) = controller(&scratch, "cpu") else { return skip("no cpu controller") };
    let cpu = |cpu| Resources { cpu, ..Resources::default() };
    with(&cgroup, cpu(Cpu { shares: Some(512), quota: Some(Limit::Of(30_000)), ..Cpu::default() }));
    with(&cgroup, cpu(Cpu { period: Some(50_000), ..Cpu::default() }));
    with(&cgroup, Resources::default());
    assert_eq!(read(&place, "cpu.shares", "cpu.weight"), if place.1 { "59" } else { "512" });
    let bandwidth = match place.1 {
        true => read(&place, "", "cpu.max"),
        false => format!("{} {}", read(&place, "cpu.cfs_quota_us", ""), read(&place, "cpu.cfs_period_us", "")),
    };
    assert_eq!(bandwidth, "30000 50000");
    with(&cgroup, cpu(Cpu { quota: Some(Limit::Unlimited), idle: Some(true), ..Cpu::default() }));
    assert_eq!(read(&place, "cpu.idle", "cpu.idle"), "1");
    with(&cgroup, cpu(Cpu { idle: Some(false), shares: Some(2048), ..Cpu::default() }));
    assert_eq!([read(&place, "cpu.idle", "cpu.idle"), read(&place, "cpu.shares", "cpu.weight")][0], "0");
}

#[test]
fn processors_are_given_before_the_first_process() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let Some(place) = controller(&scratch, "cpuset") else { return skip("no cpuset controller") };
    let cpu = Cpu { cpus: Some("0".into()), mems: Some("0".into()), ..Cpu::default() };
    cgroup.prepare(&Resources { cpu, ..Resources::default() }).unwrap();
    assert_eq!(read(&place, "cpuset.cpus", "cpuset.cpus"), "0");
    assert_eq!(run_in(&cgroup, "grep -q 'Cpus_allowed_list:.0$' /proc/self/status"), Some(0));
    let cpu = Cpu { cpus: Some("4000".into()), ..Cpu::default() };
    let error = cgroup.prepare(&Resources { cpu, ..Resources::default() }).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.cpu.cpus: write \"4000\" to /"), "{error}");
}

#[test]
fn real_time_comes_from_the_cgroups_made_above() {
    let scratch = Scratch::at(|name| Some(format!("/{name}/a/b")));
    let cgroup = scratch.place.create().unwrap();
    let place = match controller(&scratch, "cpu") {
        Some(place) if place.0.join("cpu.rt_runtime_us").exists() => place,
        _ => return skip("no real-time bandwidth for cgroups"),
    };
    if fs::read_to_string("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").is_ok_and(|text| text.trim() == "0") {
        return skip("no real-time bandwidth left");
    }
    let realtime_runtime = Some(Limit::Of(1000));
    let cpu = Cpu { realtime_runtime, realtime_period: Some(100_000), ..Cpu::default() };
    cgroup.prepare(&Resources { cpu, ..Resources::default() }).unwrap();
    assert_eq!(read(&place, "cpu.rt_runtime_us", ""), "1000");
}

#[test]
fn processes_are_counted() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let Some(place) = controller(&scratch, "pids") else { return skip("no pids controller") };
    for (limit, text) in [(Limit::Of(0), "0"), (Limit::Unlimited, "max"), (Limit::Of(1), "1")] {
        with(&cgroup, Resources { pids: Some(limit), ..Resources::default() });
        assert_eq!(read(&place, "pids.max", "pids.max"), text);
    }
    assert_ne!(run_in(&cgroup, "/bin/true; exit 0"), Some(0));
}

#[test]
fn disks_are_throttled_and_let_go() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let Some(place) = controller(&scratch, "blkio") else { return skip("no controller of block devices") };
    let disks = fs::read_dir("/sys/block").unwrap().filter_map(Result::ok);
    let Some(device) = disks.filter_map(|disk| fs::read_to_string(disk.path().join("dev")).ok()).next() else {
        return skip("no disk");
    };
    let (major, minor) = device.trim().split_once(':').unwrap();
    let (major, minor) = (major.parse().unwrap(), minor.parse().unwrap());
    for rate in [4096, 0] {
        let throttle = vec![Throttle { kind: ThrottleKind::WriteBps, index: 0, major, minor, rate }];
        with(&cgroup, Resources { io: BlockIo { throttle, ..BlockIo::default() }, ..Resources::default() });
        let text = read(&place, "blkio.throttle.write_bps_device", "io.max");
        assert_eq!(text.contains("4096"), rate != 0, "{text}");
    }
}

#[test]
fn a_controller_that_is_not_there_is_named_and_the_root_of_a_hybrid_host_left_alone() {
    let scratch = Scratch::new();
    let cgroup = scratch.place.create().unwrap();
    let root = scratch.host.unified().map(|root| root.join("cgroup.subtree_control"));
    let before = root.as_ref().map(|root| fs::read_to_string(root).unwrap());
    let resources =
        |name: &str| Resources { unified: vec![(format!("{name}.max"), "1".into())], ..Resources::default() };
    let error = cgroup.apply(&resources("nosuch")).unwrap_err().to_string();
    assert!(error.starts_with("linux.resources.unified[\"nosuch.max\"]: "), "{error}");
    if controller(&scratch, "hugetlb").is_none() {
        let limit = HugepageLimit { page_size: "2MB".into(), limit: 0 };
        let error = cgroup.apply(&Resources { hugepage_limits: vec![limit], ..Resources::default() }).unwrap_err();
        assert_eq!(error.errno(), Some(libc::ENOENT));
        assert!(error.to_string().starts_with("linux.resources.hugepageLimits[0]: "), "{error}");
    }
    assert_eq!(root.map(|root| fs::read_to_string(root).unwrap()), before);
}

#[test]
fn a_hybrid_host_hands_down_what_its_root_does() {
    let scratch = Scratch::at(|name| Some(format!("/{name}/a/b")));
    let root = match scratch.host.unified() {
        Some(root) if scratch.host.mode() == Mode::Hybrid => root,
        _ => return skip("not hybrid"),
    };
    let handed_down = fs::read_to_string(root.join("cgroup.subtree_control")).unwrap();
    if !handed_down.contains("hugetlb") {
        return skip("the root of cgroup v2 hands down no hugetlb");
    }
    let cgroup = scratch.place.create().unwrap();
    let path = scratch.place.unified_path().unwrap();
    assert!(!path.join("hugetlb.2MB.max").exists());
    let limit = HugepageLimit { page_size: "2MB".into(), limit: 4 << 20 };
    with(&cgroup, Resources { hugepage_limits: vec![limit], ..Resources::default() });
    assert_eq!(fs::read_to_string(path.join("hugetlb.2MB.max")).unwrap().trim(), (4 << 20).to_string());
    assert_eq!(fs::read_to_string(root.join("cgroup.subtree_control")).unwrap(), handed_down);
}

#[test]
fn a_cgroup_with_processes_hands_out_nothing_and_stays_usable() {
    let scratch = Scratch::at(|name| Some(format!("/{name}/below")));
    if !scratch.host.hierarchies().is_empty() {
        return skip("controllers are in cgroup v1");
    }
    let path = scratch.place.unified_path().unwrap();
    let above = path.parent().unwrap();
    make(above);
    let process = common::Process::waiting("exec sleep 1000").go();
    common::move_to(above, process.pid());
    let cgroup = scratch.place.create().unwrap();
    assert_eq!(fs::read_to_string(above.join("cgroup.type")).unwrap().trim(), "domain");
    assert_eq!(run_in(&cgroup, "exit 7"), Some(7));
    drop(process);
}

#[test]
fn a_cgroup_below_a_threaded_one_is_an_error_that_says_so() {
    let scratch = Scratch::at(|name| Some(format!("/{name}/threaded/below")));
    let Some(path) = scratch.place.unified_path().filter(|_| scratch.host.hierarchies().is_empty()) else {
        return skip("controllers are in cgroup v1");
    };
    let above = path.parent().unwrap();
    make(above);
    fs::write(above.join("cgroup.type"), "threaded").unwrap();
    let cgroup = scratch.place.create().unwrap();
    let process = common::Process::waiting("exit 0");
    let error = cgroup.join(process.pid(), false).unwrap_err().to_string();
    assert!(error.contains("below a threaded cgroup"), "{error}");
}
