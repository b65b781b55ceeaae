//! Where and when the program gets its turn: `process.scheduler`,
//! `process.ioPriority`, `process.execCPUAffinity`, `linux.memoryPolicy`.

use caps::{CapSet, Capability};
use conformance::container::Container;
use conformance::look;
use conformance::runtime::Kind;
use conformance::sys;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "L-71" => memory_policy_of_each_mode,
    "L-73" => memory_policy_flags,
    "" => memory_policy_of_exec,
    "L-72" => memory_policy_that_cannot_be,
    "C-42" => scheduler_batch_with_nice,
    "C-42" => scheduler_idle_and_other,
    "C-42" => scheduler_realtime,
    "C-42" => scheduler_deadline,
    "C-44" => scheduler_flags,
    "" => scheduler_of_exec,
    "C-70" => scheduler_that_cannot_be,
    "C-45" => io_priority_of_each_class,
    "" => io_priority_of_exec,
    "C-70" => io_priority_that_cannot_be,
    "C-46" => affinity_of_exec,
    "C-46" => affinity_does_not_touch_init,
    "C-47" => affinity_without_a_final_one_is_left,
    "C-70" => affinity_that_cannot_be,
}

/// The memory policy of a process, as numa_maps shows it for its stack.
fn memory_policy(c: &Container<'_>) -> String {
    let text = look::proc_text(c.pid, "numa_maps");
    let line = text.lines().find(|line| line.contains(" stack")).unwrap_or_else(|| panic!("no stack: {text}"));
    line.split_whitespace().nth(1).unwrap_or_default().to_owned()
}

fn memory_policy_of_each_mode(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "1.3 does not know memoryPolicy")?;
    for (mode, nodes, shown) in [
        ("MPOL_DEFAULT", None, "default"),
        ("MPOL_LOCAL", None, "local"),
        ("MPOL_BIND", Some("0"), "bind:0"),
        ("MPOL_INTERLEAVE", Some("0"), "interleave:0"),
        ("MPOL_PREFERRED", Some("0"), "prefer:0"),
        ("MPOL_PREFERRED_MANY", Some("0-0"), "prefer (many):0"),
        ("MPOL_WEIGHTED_INTERLEAVE", Some("0"), "weighted interleave:0"),
    ] {
        let mut bundle = t.sleeping_bundle();
        let mut policy = json!({"mode": mode});
        if let Some(nodes) = nodes {
            policy["nodes"] = json!(nodes);
        }
        bundle.linux("memoryPolicy", policy);
        let c = t.start(&bundle);
        let text = look::proc_text(c.pid, "numa_maps");
        assert!(text.lines().any(|line| line.contains(&format!(" {shown} stack"))), "{mode}: {text}");
    }
    Ok(())
}

fn memory_policy_flags(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "1.3 does not know memoryPolicy")?;
    for (flag, shown) in
        [("MPOL_F_STATIC_NODES", "interleave=static:0"), ("MPOL_F_RELATIVE_NODES", "interleave=relative:0")]
    {
        let mut bundle = t.sleeping_bundle();
        bundle.linux("memoryPolicy", json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": [flag]}));
        assert_eq!(memory_policy(&t.start(&bundle)), shown);
    }
    Ok(())
}

fn memory_policy_of_exec(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "1.3 does not know memoryPolicy")?;
    t.peer_differs(Kind::Crun, "leaves exec without it")?;
    let mut bundle = t.sleeping_bundle();
    bundle.linux("memoryPolicy", json!({"mode": "MPOL_BIND", "nodes": "0"}));
    let c = t.start(&bundle);
    assert_ne!(c.sh("grep -c ' bind:0 ' /proc/self/numa_maps"), "0\n");
    Ok(())
}

fn memory_policy_that_cannot_be(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "1.3 does not know memoryPolicy")?;
    for policy in [
        json!({"mode": "MPOL_NOSUCH"}),
        json!({"mode": "MPOL_BIND", "nodes": "900"}),
        json!({"mode": "MPOL_BIND", "nodes": "x"}),
        json!({"mode": "MPOL_INTERLEAVE", "nodes": "0", "flags": ["MPOL_F_NOSUCH"]}),
        json!({"mode": "MPOL_BIND"}),
    ] {
        let mut bundle = t.bundle();
        bundle.linux("memoryPolicy", policy);
        let output = t.refuses(&bundle);
        t.proa_says(&output, "linux.memoryPolicy");
    }
    Ok(())
}

#[track_caller]
fn scheduled(t: &Test<'_>, scheduler: Value) -> sys::SchedAttr {
    let mut bundle = t.sleeping_bundle();
    bundle.process("scheduler", scheduler);
    sys::sched_getattr(t.start(&bundle).pid).expect("no scheduling")
}

fn scheduler_batch_with_nice(t: &Test<'_>) -> Done {
    let found = scheduled(t, json!({"policy": "SCHED_BATCH", "nice": 7}));
    assert_eq!((found.policy, found.nice), (3, 7));
    Ok(())
}

fn scheduler_idle_and_other(t: &Test<'_>) -> Done {
    assert_eq!(scheduled(t, json!({"policy": "SCHED_IDLE"})).policy, 5);
    let found = scheduled(t, json!({"policy": "SCHED_OTHER", "nice": 3}));
    assert_eq!((found.policy, found.nice), (0, 3));
    Ok(())
}

fn scheduler_realtime(t: &Test<'_>) -> Done {
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_NICE).unwrap_or(false);
    t.needs(may, "CAP_SYS_NICE")?;
    let shares = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    t.needs(!shares, "realtime for a new cgroup of version 1 (cpu.rt_runtime_us)")?;
    for (policy, number) in [("SCHED_FIFO", 1), ("SCHED_RR", 2)] {
        let found = scheduled(t, json!({"policy": policy, "priority": 11}));
        assert_eq!((found.policy, found.priority), (number, 11), "{policy}");
    }
    Ok(())
}

fn scheduler_deadline(t: &Test<'_>) -> Done {
    let may = caps::has_cap(None, CapSet::Effective, Capability::CAP_SYS_NICE).unwrap_or(false);
    t.needs(may, "CAP_SYS_NICE")?;
    let shares = std::path::Path::new("/sys/fs/cgroup/cpu/cpu.rt_runtime_us").exists();
    t.needs(!shares, "realtime for a new cgroup of version 1 (cpu.rt_runtime_us)")?;
    let (runtime, deadline, period) = (1_000_000, 20_000_000, 30_000_000);
    let found =
        scheduled(t, json!({"policy": "SCHED_DEADLINE", "runtime": runtime, "deadline": deadline, "period": period}));
    assert_eq!((found.policy, found.runtime, found.deadline, found.period), (6, runtime, deadline, period));
    Ok(())
}

fn scheduler_flags(t: &Test<'_>) -> Done {
    let found = scheduled(t, json!({"policy": "SCHED_BATCH", "nice": 2, "flags": ["SCHED_FLAG_RESET_ON_FORK"]}));
    assert_eq!((found.policy, found.flags & 1), (3, 1));
    Ok(())
}

fn scheduler_of_exec(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("scheduler", json!({"policy": "SCHED_BATCH", "nice": 7}));
    let c = t.start(&bundle);
    // Fields 19 and 41 of /proc/PID/stat: nice, policy.
    let text = c.exec(&["cat", "/proc/self/stat"]).output().ok().stdout();
    let fields: Vec<_> = text.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    if t.is_proa() {
        assert_eq!((fields[16], fields[38]), ("7", "3"), "{text}");
    }
    Ok(())
}

fn scheduler_that_cannot_be(t: &Test<'_>) -> Done {
    for scheduler in [json!({"policy": "SCHED_NOSUCH"}), json!({"policy": "SCHED_FIFO", "priority": 1000})] {
        let mut bundle = t.bundle();
        bundle.process("scheduler", scheduler);
        let output = t.refuses(&bundle);
        t.proa_says(&output, "process.scheduler");
    }
    t.peer_differs(Kind::Crun, "leaves it to the kernel, which does not mind")?;
    for (number, scheduler) in [
        json!({"policy": "SCHED_OTHER", "priority": 5}),
        json!({"policy": "SCHED_OTHER", "nice": 50}),
        json!({"policy": "SCHED_FIFO", "priority": 5, "nice": 5}),
        json!({"policy": "SCHED_OTHER", "runtime": 5}),
    ]
    .into_iter()
    .enumerate()
    {
        if number >= 2 && t.is(Kind::Runc) {
            continue; // does not mind
        }
        let mut bundle = t.bundle();
        bundle.process("scheduler", scheduler.clone());
        let output = t.refuses(&bundle);
        t.proa_says(&output, "process.scheduler");
    }
    Ok(())
}

fn io_priority_of_each_class(t: &Test<'_>) -> Done {
    for (class, number, priority) in [("IOPRIO_CLASS_RT", 1, 3), ("IOPRIO_CLASS_BE", 2, 7), ("IOPRIO_CLASS_IDLE", 3, 0)]
    {
        let mut bundle = t.sleeping_bundle();
        bundle.process("ioPriority", json!({"class": class, "priority": priority}));
        let c = t.start(&bundle);
        assert_eq!(sys::ioprio_get(c.pid).ok(), Some((number, priority)), "{class}");
    }
    Ok(())
}

fn io_priority_of_exec(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 6}));
    let c = t.start(&bundle);
    let text = c.exec(&["ionice", "-p", "0"]).output().ok().stdout();
    if t.is_proa() {
        assert_eq!(text, "best-effort: prio 6\n");
    }
    Ok(())
}

fn io_priority_that_cannot_be(t: &Test<'_>) -> Done {
    for value in [
        json!({"class": "IOPRIO_CLASS_NOSUCH", "priority": 1}),
        json!({"class": "IOPRIO_CLASS_BE", "priority": 8}),
        json!({"class": "IOPRIO_CLASS_BE", "priority": -1}),
    ] {
        let mut bundle = t.bundle();
        bundle.process("ioPriority", value);
        let output = t.refuses(&bundle);
        t.proa_says(&output, "process.ioPriority");
    }
    Ok(())
}

fn processors(text: &str) -> String {
    look::field(text, "Cpus_allowed_list").unwrap_or_default()
}

fn affinity_of_exec(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves it as it was")?;
    t.needs(
        look::status(std::process::id() as i32)
            .cpus_allowed_list
            .is_some_and(|list| list.iter().any(|(_, last)| *last >= 1)),
        "two processors",
    )?;
    let mut bundle = t.sleeping_bundle();
    for (affinity, shown) in [
        (json!({"final": "1"}), "1"),
        (json!({"initial": "0", "final": "0-0"}), "0"),
        (json!({"initial": "0", "final": "0,1"}), "0-1"),
    ] {
        bundle.process("execCPUAffinity", affinity.clone());
        let c = t.start(&bundle);
        let text = c.exec(&["cat", "/proc/self/status"]).output().ok().stdout();
        assert_eq!(processors(&text), shown, "{affinity}");
    }
    Ok(())
}

fn affinity_does_not_touch_init(t: &Test<'_>) -> Done {
    let own = processors(&look::proc_text(std::process::id() as i32, "status"));
    let mut bundle = t.sleeping_bundle();
    bundle.process("execCPUAffinity", json!({"initial": "0", "final": "0"}));
    let c = t.start(&bundle);
    assert_eq!(processors(&look::proc_text(c.pid, "status")), own);
    Ok(())
}

fn affinity_without_a_final_one_is_left(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves it as it was")?;
    let mut bundle = t.sleeping_bundle();
    for affinity in [json!({"initial": "0"}), json!({"initial": "0", "final": ""})] {
        bundle.process("execCPUAffinity", affinity.clone());
        let c = t.start(&bundle);
        let text = c.exec(&["cat", "/proc/self/status"]).output().ok().stdout();
        assert_eq!(processors(&text), "0", "{affinity}");
    }
    Ok(())
}

fn affinity_that_cannot_be(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "looks at it in exec alone")?;
    for list in ["x", "1-", "-1", "3-2"] {
        let mut bundle = t.bundle();
        bundle.process("execCPUAffinity", json!({"final": list}));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "process.execCPUAffinity");
    }
    Ok(())
}
