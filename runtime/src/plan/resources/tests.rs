use super::*;

fn plan(resources: &str) -> (Result<Resources>, Vec<String>) {
    let text = format!(r#"{{"ociVersion":"1.3.0","linux":{{"resources":{resources}}}}}"#);
    let spec = crate::config::parse_spec(&text).unwrap();
    let mut warnings = Vec::new();
    (limits(spec.linux.as_ref(), &Host::default(), &mut warnings), warnings)
}

fn good(resources: &str) -> Resources {
    plan(resources).0.unwrap()
}

#[track_caller]
fn refused(resources: &str, expected: &str) {
    let error = plan(resources).0.unwrap_err().to_string();
    assert_eq!(error, format!("linux.resources.{expected}"));
}

#[test]
fn nothing_is_asked_for_by_nothing() {
    for nothing in ["{}", r#"{"memory":{},"cpu":{},"pids":{},"blockIO":{},"network":{}}"#, r#"{"devices":[]}"#] {
        assert!(good(nothing).is_unlimited(), "{nothing}");
    }
    let zero = r#"{"memory":{"limit":0,"swap":0,"reservation":0},"cpu":{"shares":0,"quota":0,"period":0,"cpus":""},
        "blockIO":{"weight":0}}"#;
    assert!(good(zero).is_unlimited());
}

#[test]
fn every_field_is_taken_over() {
    let memory = good(
        r#"{"memory":{"limit":-1,"reservation":5,"swap":-1,"kernelTCP":7,"swappiness":0,"disableOOMKiller":true,
        "useHierarchy":true,"checkBeforeUpdate":true}}"#,
    );
    let expected = Memory {
        limit: Some(Limit::Unlimited),
        reservation: Some(Limit::Of(5)),
        swap: Some(Limit::Unlimited),
        kernel_tcp: Some(Limit::Of(7)),
        swappiness: Some(0),
        disable_oom_killer: Some(true),
        use_hierarchy: Some(true),
        check_before_update: true,
    };
    assert_eq!(memory.memory, expected);
    let cpu = good(
        r#"{"cpu":{"shares":2,"quota":-1,"period":3,"burst":4,"realtimeRuntime":5,"realtimePeriod":6,
        "cpus":" 0-1,3\n","mems":"0","idle":1}}"#,
    );
    let expected = Cpu {
        shares: Some(2),
        quota: Some(Limit::Unlimited),
        period: Some(3),
        burst: Some(4),
        realtime_runtime: Some(Limit::Of(5)),
        realtime_period: Some(6),
        cpus: Some("0-1,3".into()),
        mems: Some("0".into()),
        idle: Some(true),
    };
    assert_eq!(cpu.cpu, expected);
    assert_eq!(good(r#"{"pids":{"limit":0}}"#).pids, Some(Limit::Of(0)));
    assert_eq!(good(r#"{"pids":{"limit":-1}}"#).pids, Some(Limit::Unlimited));
    let io = good(
        r#"{"blockIO":{"weight":10,"leafWeight":1000,"weightDevice":[{"major":8,"minor":0,"weight":500}],
        "throttleReadBpsDevice":[{"major":8,"minor":0,"rate":1}],"throttleWriteBpsDevice":[{"major":8,"minor":0,"rate":2}],
        "throttleReadIOPSDevice":[{"major":8,"minor":0,"rate":3}],
        "throttleWriteIOPSDevice":[{"major":8,"minor":0,"rate":4},{"major":8,"minor":16,"rate":5}]}}"#,
    )
    .io;
    assert_eq!((io.weight, io.leaf_weight), (Some(10), Some(1000)));
    assert_eq!(io.devices, [DeviceWeight { major: 8, minor: 0, weight: Some(500), leaf_weight: None }]);
    let rates: Vec<_> = io.throttle.iter().map(|one| (one.kind, one.index, one.minor, one.rate)).collect();
    let expected = [
        (ThrottleKind::ReadBps, 0, 0, 1),
        (ThrottleKind::WriteBps, 0, 0, 2),
        (ThrottleKind::ReadIops, 0, 0, 3),
        (ThrottleKind::WriteIops, 0, 0, 4),
        (ThrottleKind::WriteIops, 1, 16, 5),
    ];
    assert_eq!(rates, expected);
    let network = good(r#"{"network":{"classID":1048577,"priorities":[{"name":"lo","priority":0}]}}"#).network;
    assert_eq!(network, Network { class_id: Some(1_048_577), priorities: vec![("lo".into(), 0)] });
    let rdma = good(r#"{"rdma":{"mlx5_1":{"hcaHandles":3},"mlx4_0":{"hcaObjects":0}}}"#).rdma;
    assert_eq!(rdma[0], Rdma { device: "mlx5_1".into(), hca_handles: Some(3), hca_objects: None });
    assert_eq!(rdma[1].hca_objects, Some(0));
    let unified = good(r#"{"unified":{"memory.high":"5","cgroup.max.depth":"1"}}"#).unified;
    assert_eq!(unified, [("memory.high".into(), "5".into()), ("cgroup.max.depth".into(), "1".into())]);
}

#[test]
fn memory_of_the_kernel_is_ignored_and_said_to_be() {
    let (resources, warnings) = plan(r#"{"memory":{"kernel":4096}}"#);
    assert!(resources.unwrap().is_unlimited());
    assert!(warnings[0].starts_with("linux.resources.memory.kernel: ignored"), "{warnings:?}");
    refused(r#"{"memory":{"kernel":-2}}"#, "memory.kernel: -2 is negative, and not -1 for no limit");
}

#[test]
fn numbers_out_of_range_are_refused() {
    refused(r#"{"memory":{"limit":-2}}"#, "memory.limit: -2 is negative, and not -1 for no limit");
    refused(r#"{"memory":{"reservation":-5}}"#, "memory.reservation: -5 is negative, and not -1 for no limit");
    refused(r#"{"memory":{"limit":9,"swap":8}}"#, "memory.swap: 8 is below memory.limit 9, which it includes");
    refused(r#"{"memory":{"swap":8}}"#, "memory.swap: 8 needs a memory.limit, which it includes");
    refused(r#"{"memory":{"swappiness":101}}"#, "memory.swappiness: 101 is not in 0 to 100");
    refused(r#"{"cpu":{"quota":-2}}"#, "cpu.quota: -2 is negative, and not -1 for no limit");
    refused(r#"{"cpu":{"idle":2}}"#, "cpu.idle: 2 is neither 0 nor 1");
    refused(r#"{"cpu":{"quota":5,"burst":6}}"#, "cpu.burst: 6 is above the quota 5");
    refused(r#"{"cpu":{"realtimeRuntime":-7}}"#, "cpu.realtimeRuntime: -7 is negative, and not -1 for no limit");
    refused(r#"{"pids":{"limit":-3}}"#, "pids.limit: -3 is negative, and not -1 for no limit");
    refused(r#"{"blockIO":{"weight":9}}"#, "blockIO.weight: 9 is not in 10 to 1000");
    refused(r#"{"blockIO":{"leafWeight":1001}}"#, "blockIO.leafWeight: 1001 is not in 10 to 1000");
    // Not set is also said by the largest number.
    assert!(good(r#"{"memory":{"swappiness":18446744073709551615}}"#).is_unlimited());
}

#[test]
fn lists_of_processors_are_lists() {
    for list in ["0", "0-3", "0,2,4-5", "0-6:2/4"] {
        assert_eq!(good(&format!(r#"{{"cpu":{{"cpus":"{list}"}}}}"#)).cpu.cpus.unwrap(), list);
    }
    for list in ["a", "0-", "3-1", "0,,1", "-1", "0 1", "+1", "1:2/4", "0-6:5/4", "99999999999"] {
        let expected = format!("{list:?} is no list such as \"0-2,7\"");
        refused(&format!(r#"{{"cpu":{{"cpus":"{list}"}}}}"#), &format!("cpu.cpus: {expected}"));
        refused(&format!(r#"{{"cpu":{{"mems":"{list}"}}}}"#), &format!("cpu.mems: {expected}"));
    }
}

#[test]
fn entries_of_lists_are_named() {
    let one = r#"{"major":8,"minor":0,"rate":1}"#;
    let bad = [
        (r#"{"minor":0,"rate":1}"#, "major: missing"),
        (r#"{"major":8,"rate":1}"#, "minor: missing"),
        (r#"{"major":8,"minor":-1,"rate":1}"#, "minor: -1 is no device number"),
        (r#"{"major":4096,"minor":0,"rate":1}"#, "major: 4096 is no device number"),
        (r#"{"major":8,"minor":0}"#, "rate: missing"),
    ];
    for list in ["throttleReadBpsDevice", "throttleWriteBpsDevice", "throttleReadIOPSDevice", "throttleWriteIOPSDevice"]
    {
        for (entry, expected) in bad {
            let text = format!(r#"{{"blockIO":{{"{list}":[{one},{entry}]}}}}"#);
            refused(&text, &format!("blockIO.{list}[1].{expected}"));
        }
    }
    let weights = |entry: &str| format!(r#"{{"blockIO":{{"weightDevice":[{entry}]}}}}"#);
    refused(&weights(r#"{"minor":0,"weight":10}"#), "blockIO.weightDevice[0].major: missing");
    refused(&weights(r#"{"major":8,"minor":0}"#), "blockIO.weightDevice[0]: has neither weight nor leafWeight");
    let low = weights(r#"{"major":8,"minor":0,"leafWeight":2}"#);
    refused(&low, "blockIO.weightDevice[0].leafWeight: 2 is not in 10 to 1000");
    refused(
        r#"{"network":{"priorities":[{"priority":1}]}}"#,
        "network.priorities[0].name: \"\" is no name of a network device",
    );
    refused(r#"{"network":{"priorities":[{"name":"lo"}]}}"#, "network.priorities[0].priority: missing");
    refused(r#"{"rdma":{"mlx":{}}}"#, "rdma[\"mlx\"]: has neither hcaHandles nor hcaObjects");
    refused(r#"{"unified":{"a/b.c":"1"}}"#, "unified[\"a/b.c\"]: is a path, not the name of a file");
    refused(
        r#"{"unified":{"cgroup.procs":"1"}}"#,
        "unified[\"cgroup.procs\"]: is no limit: it moves, stops or kills processes",
    );
}

#[test]
fn huge_pages_are_of_sizes_that_there_are() {
    for size in ["", "2", "MB", "2mb", "02MB", "2M", "2TB", "-2MB"] {
        let expected = format!("hugepageLimits[0].pageSize: {size:?} is no size such as \"2MB\" or \"1GB\"");
        refused(&format!(r#"{{"hugepageLimits":[{{"pageSize":"{size}","limit":0}}]}}"#), &expected);
    }
    let none = "hugepageLimits[0].pageSize: this machine has no huge pages of 3MB";
    refused(r#"{"hugepageLimits":[{"pageSize":"3MB","limit":0}]}"#, none);
    assert_eq!(size_in_kilobytes("2MB"), Some(2048));
    assert_eq!([size_in_kilobytes("64KB"), size_in_kilobytes("1GB")], [Some(64), Some(1 << 20)]);
}
