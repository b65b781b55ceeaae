//! `linux.resources` at work: limits bite, but not before the container is made; those that cannot be set are errors
//! that name them.
//!
//! Not here: that each field is in the kernel's file (resources.rs).

use std::fs;
use std::path::Path;
use std::time::{Duration, Instant};

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

use crate::hooks::with_hooks;
use crate::limits_bite::moved;
use crate::resources::{disk, needs, with};

crate::cases! {
    "L-39" => over_the_memory_limit_is_killed,
    "L-51" => a_fork_too_many_fails,
    "L-51" => exec_counts_too,
    "L-43" => processor_time_is_held,
    "L-47" => a_read_is_throttled,
    "" => few_processes_do_not_hinder_creation,
    "" => little_memory_does_not_hinder_creation,
    "" => little_processor_time_does_not_hinder_creation,
    "" => little_input_does_not_hinder_creation,
    "" => less_memory_than_init_needs,
    "L-42" => usage_is_checked_when_asked,
    "" => values_out_of_range_are_refused,
    "L-56" => controllers_that_are_not_there,
    "L-56" => a_cgroup_that_hands_out_nothing,
    "" => without_cgroups_there_are_no_limits,
    "" => plan_shows_limits,
}

fn set(bundle: &mut conformance::bundle::Bundle, name: &str, value: Value) {
    bundle.config["linux"]["resources"][name] = value;
}

fn over_the_memory_limit_is_killed(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    // dd has a buffer of so much.
    let mut bundle = t.sh_bundle("dd if=/dev/zero of=/dev/null bs=200M count=1 2>/dev/null; echo $?; exec sleep 1000");
    set(&mut bundle, "memory", json!({"limit": 50 << 20, "swap": 50 << 20}));
    let c = t.start(&bundle);
    c.prints("137");
    let files = look::controller(c.pid, "memory").expect("no memory");
    let file = if files.unified { "memory.events" } else { "memory.oom_control" };
    assert_eq!(files.count(file, "oom_kill "), 1);
    Ok(())
}

fn a_fork_too_many_fails(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    let mut bundle = t.sh_bundle("for i in 1 2 3 4 5 6 7 8; do sleep 1000 & done; echo never; wait");
    set(&mut bundle, "pids", json!({"limit": 4}));
    let c = t.create(&bundle);
    c.start();
    look::eventually("the shell to give up", || {
        c.output.stderr().contains("fork") || look::stat(c.pid).is_none_or(|stat| stat.state == 'Z')
    });
    assert!(c.output.stderr().contains("Resource temporarily unavailable"), "EAGAIN: {}", c.output.stderr());
    assert!(!c.stdout().contains("never"), "{}", c.stdout());
    Ok(())
}

fn exec_counts_too(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    let (c, files) = with(t, "pids", json!({"limit": 3}), "pids");
    c.start();
    // The container's own, the shell and two of its three children are one too many.
    let output = c.exec(&["/bin/sh", "-c", "/bin/true & /bin/sleep 5 & /bin/sleep 5 & wait"]).output();
    assert!(!output.status.success() || output.stderr().contains("fork"), "{}", output.stderr());
    assert!(files.count("pids.events", "max ") > 0);
    Ok(())
}

fn processor_time_is_held(t: &Test<'_>) -> Done {
    if !needs(t, "cpu")?.unified {
        needs(t, "cpuacct")?;
    }
    let mut bundle = t.sh_bundle("while :; do :; done");
    bundle.config["linux"]["resources"]["cpu"] = json!({"quota": 20_000, "period": 100_000});
    let c = t.start(&bundle);
    let files = look::controller(c.pid, "cpu").expect("no cpu");
    // Microseconds.
    let used = || match files.unified {
        true => files.count("cpu.stat", "usage_usec ") as f64,
        false => {
            let files = look::controller(c.pid, "cpuacct").expect("no cpuacct");
            files.read("cpuacct.usage").parse::<f64>().expect("no number") / 1000.0
        }
    };
    // More is a quota that does not hold. Less is a machine with other things to do: it gets three tries.
    let mut shares = Vec::new();
    for _ in 0..3 {
        let (start, before) = (Instant::now(), used());
        std::thread::sleep(Duration::from_millis(2500));
        shares.push((used() - before) / start.elapsed().as_micros() as f64);
        assert!(shares.iter().all(|share| *share <= 0.22), "a fifth was allowed, used were {shares:?}");
        if shares.last().is_some_and(|share| *share >= 0.18) {
            return Ok(());
        }
    }
    panic!("a fifth was allowed, used were {shares:?}");
}

fn a_read_is_throttled(t: &Test<'_>) -> Done {
    let elapsed = moved(t, "throttleReadBpsDevice", 1 << 20, "256k", 12)?;
    assert!(elapsed > Duration::from_millis(1900), "3 MiB at 1 MiB/s took {elapsed:?}");
    Ok(())
}

/// The six kinds of hooks but those that run when the limits are in force.
const EARLY: [&str; 3] = ["prestart", "createRuntime", "createContainer"];

fn few_processes_do_not_hinder_creation(t: &Test<'_>) -> Done {
    needs(t, "pids")?;
    t.peer_differs(Kind::Runc, "limits createContainer hooks")?;
    t.peer_differs(Kind::Crun, "limits createContainer hooks")?;
    let (mut bundle, log) = with_hooks(t, &EARLY, "sleep 0; sleep 0 | cat; echo $KIND >>$LOG/ran");
    set(&mut bundle, "pids", json!({"limit": 1}));
    let c = t.create(&bundle);
    let files = look::controller(c.pid, "pids").expect("no pids");
    assert_eq!(files.read("pids.max"), "1");
    assert_eq!(log.read("ran").lines().collect::<Vec<_>>(), EARLY);
    c.start();
    c.assert_status("running");
    Ok(())
}

fn little_memory_does_not_hinder_creation(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    t.peer_differs(Kind::Runc, "limits createContainer hooks")?;
    t.peer_differs(Kind::Crun, "limits createContainer hooks")?;
    let hook = "dd if=/dev/zero of=/dev/null bs=30M count=1 2>/dev/null && echo $KIND >>$LOG/ran";
    let (mut bundle, log) = with_hooks(t, &EARLY, hook);
    set(&mut bundle, "memory", json!({"limit": 4 << 20, "swap": 4 << 20}));
    let c = t.create(&bundle);
    assert_eq!(log.read("ran").lines().collect::<Vec<_>>(), EARLY);
    c.start();
    c.assert_status("running");
    Ok(())
}

fn little_processor_time_does_not_hinder_creation(t: &Test<'_>) -> Done {
    needs(t, "cpu")?;
    t.proa_only("peers throttle the set-up")?;
    let (c, files) = with(t, "cpu", json!({"quota": 1000, "period": 100_000}), "cpu");
    // The set-up takes dozens of milliseconds on an emulated machine, and a few more only once it is limited, from
    // telling that all is ready to the wait for start. Elsewhere that is no millisecond.
    let throttled = files.count("cpu.stat", "nr_throttled ");
    assert!(throttled < 4, "the set-up was throttled in {throttled} periods of 100 ms");
    c.assert_status("created");
    Ok(())
}

fn little_input_does_not_hinder_creation(t: &Test<'_>) -> Done {
    needs(t, "blkio")?;
    let (major, minor, _) = disk(t)?;
    let tiny = json!([{"major": major, "minor": minor, "rate": 2}]);
    let start = Instant::now();
    let (c, _files) =
        with(t, "blockIO", json!({"throttleReadBpsDevice": tiny, "throttleReadIOPSDevice": tiny}), "blkio");
    assert!(start.elapsed() < Duration::from_secs(5), "{:?}", start.elapsed());
    c.assert_status("created");
    Ok(())
}

fn less_memory_than_init_needs(t: &Test<'_>) -> Done {
    t.not_by_systemd("memory that the init has when it is moved is charged to where it was")?;
    let unified = needs(t, "memory")?.unified;
    t.peer_differs(Kind::Runc, "may get by with less, when it is used to being killed")?;
    t.peer_differs(Kind::Crun, "may get by with less")?;
    let mut bundle = t.bundle();
    set(&mut bundle, "memory", json!({"limit": 4096, "swap": 4096}));
    if unified {
        let output = t.refuses(&bundle);
        t.proa_says(&output, "container init was OOM-killed (memory limit too low?)");
        return Ok(());
    }
    // Version 1 refuses the limit if that cannot be had, else it is start that fails, or the program is killed.
    let output = t.run(&bundle);
    let said = output.stderr();
    let expected = [
        "linux.resources.memory.limit: unable to set memory limit to 4096 (current usage: ",
        "container init was OOM-killed (memory limit too low?)",
    ];
    let killed = output.code() == 128 + 9 && said.is_empty();
    assert!(killed || expected.iter().any(|text| said.contains(text)), "exit code {}: {said}", output.code());
    t.assert_nothing_left();
    Ok(())
}

fn usage_is_checked_when_asked(t: &Test<'_>) -> Done {
    t.not_by_systemd("memory that the init has when it is moved is charged to where it was")?;
    let unified = needs(t, "memory")?.unified;
    t.needs(unified, "memory in version 2")?;
    t.peer_differs(Kind::Crun, "checks an update alone")?;
    let mut bundle = t.bundle();
    set(&mut bundle, "memory", json!({"limit": 4096, "checkBeforeUpdate": true}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "linux.resources.memory.limit: rejecting memory limit 4096 <= usage ");
    Ok(())
}

fn values_out_of_range_are_refused(t: &Test<'_>) -> Done {
    t.proa_only("names of properties; others leave much to the kernel")?;
    for (name, value, says) in [
        ("memory", json!({"limit": -2}), "memory.limit"),
        ("memory", json!({"limit": 100_000_000, "swap": 50_000_000}), "memory.swap"),
        ("memory", json!({"swap": 50_000_000}), "memory.swap"),
        ("memory", json!({"swappiness": 101}), "memory.swappiness"),
        ("cpu", json!({"cpus": "zero"}), "cpu.cpus"),
        ("cpu", json!({"mems": "1-"}), "cpu.mems"),
        ("cpu", json!({"idle": 7}), "cpu.idle"),
        ("pids", json!({"limit": -9}), "pids.limit"),
        ("blockIO", json!({"weight": 5}), "blockIO.weight"),
        (
            "blockIO",
            json!({"throttleReadIOPSDevice": [{"minor": 0, "rate": 1}]}),
            "blockIO.throttleReadIOPSDevice[0].major",
        ),
        ("hugepageLimits", json!([{"pageSize": "3MB", "limit": 1}]), "hugepageLimits[0].pageSize"),
        ("network", json!({"priorities": [{"priority": 1}]}), "network.priorities[0].name"),
        ("rdma", json!({"x": {}}), "rdma[\"x\"]"),
        ("unified", json!({"../memory.max": "1"}), "unified[\"../memory.max\"]"),
        ("unified", json!({"cgroup.procs": "1"}), "unified[\"cgroup.procs\"]"),
    ] {
        let mut bundle = t.bundle();
        set(&mut bundle, name, value);
        let output = t.refuses(&bundle).exits(1);
        t.proa_says(&output, &format!("linux.resources.{says}"));
    }
    // These the kernel knows, and everything made by then is undone.
    for (controller, name, value, says) in [
        ("cpuset", "cpu", json!({"cpus": "4000"}), "cpu.cpus: write \"4000\" to "),
        ("cpu", "cpu", json!({"period": 5}), "cpu.period: write \""),
        (
            "blkio",
            "blockIO",
            json!({"throttleWriteBpsDevice": [{"major": 4000, "minor": 7, "rate": 1}]}),
            "blockIO.throttleWriteBpsDevice[0]: write \"4000:7 ",
        ),
    ] {
        if look::own_controller(controller).is_some() {
            let mut bundle = t.bundle();
            set(&mut bundle, name, value);
            let output = t.refuses(&bundle).exits(1);
            t.proa_says(&output, &format!("linux.resources.{says}"));
        }
    }
    Ok(())
}

fn controllers_that_are_not_there(t: &Test<'_>) -> Done {
    t.proa_only("names of properties")?;
    let mut tried = 0;
    for (controller, name, value, says) in [
        ("memory", "memory", json!({"limit": 100_000_000}), "memory.limit"),
        ("cpu", "cpu", json!({"shares": 100}), "cpu.shares"),
        ("cpuset", "cpu", json!({"cpus": "0"}), "cpu.cpus"),
        ("pids", "pids", json!({"limit": 100}), "pids.limit"),
        ("blkio", "blockIO", json!({"weight": 100}), "blockIO.weight"),
        ("hugetlb", "hugepageLimits", json!([{"pageSize": "2MB", "limit": 1 << 21}]), "hugepageLimits[0]"),
        ("rdma", "rdma", json!({"x": {"hcaHandles": 1}}), "rdma[\"x\"]"),
    ] {
        if look::own_controller(controller).is_none() {
            let mut bundle = t.bundle();
            set(&mut bundle, name, value);
            let output = t.refuses(&bundle).exits(1);
            t.proa_says(&output, &format!("linux.resources.{says}: the controller "));
            tried += 1;
        }
    }
    let mut bundle = t.bundle();
    set(&mut bundle, "unified", json!({"nosuch.max": "1"}));
    let output = t.refuses(&bundle).exits(1);
    t.proa_says(&output, "linux.resources.unified[\"nosuch.max\"]: ");
    // A machine that has them all has shown the last one only.
    t.needs(tried > 0, "a controller that is missing")
}

/// A cgroup with processes of its own cannot hand out controllers: a limit below it is an error that says so.
fn a_cgroup_that_hands_out_nothing(t: &Test<'_>) -> Done {
    t.not_by_systemd("the test makes the cgroups above")?;
    let own = needs(t, "memory")?;
    t.needs(own.unified, "memory in version 2")?;
    t.proa_only("its words")?;
    let name = format!("{}-full", t.tag());
    let above = Path::new("/sys/fs/cgroup").join(&name);
    fs::create_dir(&above).expect("cannot make a cgroup");
    let mut sleeper = std::process::Command::new("sleep").arg("1000").spawn().expect("cannot start sleep");
    fs::write(above.join("cgroup.procs"), sleeper.id().to_string()).expect("cannot move a process");
    let mut bundle = t.bundle();
    bundle.linux("cgroupsPath", json!(format!("/{name}/c")));
    set(&mut bundle, "memory", json!({"limit": 100_000_000}));
    let output = t.create_call(&bundle, &t.id()).output();
    sleeper.kill().expect("cannot kill");
    sleeper.wait().expect("cannot wait");
    look::eventually("the cgroup to go", || fs::remove_dir(&above).is_ok());
    let output = output.fails();
    t.proa_says(&output, "linux.resources.memory.limit: the controller \"memory\" is not available in ");
    t.proa_says(&output, "has processes of its own");
    t.assert_clean_failure(&output);
    Ok(())
}

fn without_cgroups_there_are_no_limits(t: &Test<'_>) -> Done {
    t.proa_only("that it says so")?;
    let mut bundle = t.sleeping_bundle();
    set(&mut bundle, "memory", json!({"limit": 100_000_000}));
    let id = t.id();
    let output = t.create_call(&bundle, &id).global("--cgroup-manager=disabled").output().ok();
    let c = t.container(id, output);
    assert!(c.output.stderr().contains("linux.resources"), "{}", c.output.stderr());
    c.call("delete").options(&["--force"]).output().ok();
    Ok(())
}

fn plan_shows_limits(t: &Test<'_>) -> Done {
    t.proa_only("has a plan")?;
    let mut bundle = t.bundle();
    set(&mut bundle, "memory", json!({"limit": 1000, "swap": -1}));
    bundle.write();
    let plan = t.call(&["plan"]).options(&["--bundle".as_ref(), bundle.path.as_os_str()]).output().ok().json();
    assert_eq!(plan["resources"], json!({"memory": {"limit": 1000, "swap": -1}}));
    Ok(())
}
