//! What becomes of a program that goes beyond a limit: each kind of limit is seen to be in force.
//!
//! Not here: that each field is in the kernel's file (resources.rs), errors, the moment of limits, processor time, processes and reads (limits.rs).

use std::fs;
use std::time::{Duration, Instant};

use conformance::look;
use conformance::loop_device::LoopDevice;
use conformance::runtime::Kind;
use conformance::test::{Done, Skip, Test};
use nix::sched::sched_getaffinity;
use nix::unistd::Pid;
use serde_json::{Value, json};

use crate::resources::{MIB, needs};

crate::cases! {
    "" => init_beyond_the_memory_limit,
    "" => processors_that_are_allowed,
    "" => a_device_that_is_not_allowed,
    "" => a_write_of_so_many_bytes,
    "" => a_write_in_so_many_operations,
    "" => huge_pages_beyond_the_limit,
    "" => the_smallest_limits_at_once,
}

/// Not by `exec`: the container's first process is who takes too much.
fn init_beyond_the_memory_limit(t: &Test<'_>) -> Done {
    needs(t, "memory")?;
    let mut bundle = t.bundle();
    bundle.args(&["/bin/dd", "if=/dev/zero", "of=/dev/null", "bs=200M", "count=1"]);
    bundle.config["linux"]["resources"]["memory"] = json!({"limit": 50 * MIB, "swap": 50 * MIB});
    t.run(&bundle).exits(128 + 9);
    let c = t.create(&bundle);
    let files = look::controller(c.pid, "memory").expect("no memory");
    c.start();
    assert_eq!(c.wait(), 128 + 9, "exit code of an init that took too much");
    c.assert_status("stopped");
    // systemd ends a scope with its last process.
    if !t.runtime.systemd {
        let file = if files.unified { "memory.events" } else { "memory.oom_control" };
        assert_eq!(files.count(file, "oom_kill "), 1);
    }
    Ok(())
}

fn processors_that_are_allowed(t: &Test<'_>) -> Done {
    needs(t, "cpuset")?;
    let all = sched_getaffinity(Pid::from_raw(0)).expect("no affinity");
    let there: Vec<usize> = (0..64).filter(|cpu| all.is_set(*cpu).unwrap_or(false)).collect();
    t.needs(there.len() > 1, "two processors")?;
    for cpu in &there[..2] {
        let mut bundle = t.sh_bundle("nproc; exec sleep 1000");
        bundle.config["linux"]["resources"]["cpu"] = json!({"cpus": cpu.to_string()});
        let c = t.start(&bundle);
        c.prints("1\n");
        let mask = sched_getaffinity(Pid::from_raw(c.pid)).expect("no affinity");
        let allowed: Vec<usize> = (0..64).filter(|cpu| mask.is_set(*cpu).unwrap_or(false)).collect();
        assert_eq!(allowed, [*cpu]);
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

/// The kernel's log, which has a driver on every machine: a device that none knows would be another error.
fn a_device_that_is_not_allowed(t: &Test<'_>) -> Done {
    let script = "mknod /nodes/log c 1 11; \
        for way in '<' '>>'; do sh -c \"exec 3$way/nodes/log\" 2>&1 && echo opened; done; :";
    let mut bundle = t.bundle();
    // Bundles may be where no device can be opened.
    bundle.mount("/nodes", "tmpfs", "tmpfs", &["nosuid"]);
    bundle.capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"]);
    let denied = t.sh(&mut bundle, script);
    assert_eq!(denied.matches("Operation not permitted").count(), 2, "{denied}");
    let rule = json!({"allow": true, "type": "c", "major": 1, "minor": 11, "access": "r"});
    let mut bundle = t.bundle();
    bundle.mount("/nodes", "tmpfs", "tmpfs", &["nosuid"]);
    bundle.capabilities(&["CAP_MKNOD", "CAP_SYSLOG", "CAP_DAC_OVERRIDE"]);
    bundle.push("/linux/resources/devices", rule);
    let half = t.sh(&mut bundle, script);
    assert!(half.starts_with("opened\n"), "{half}");
    assert_eq!(half.matches("Operation not permitted").count(), 1, "{half}");
    Ok(())
}

/// How long a container takes that moves `count` blocks past the page cache, from or to a device with this bound.
pub(crate) fn moved(t: &Test<'_>, kind: &str, rate: u64, block: &str, count: u32) -> Result<Duration, Skip> {
    needs(t, "blkio")?;
    let device = LoopDevice::new(&t.dir, 8 * MIB);
    t.needs(device.is_some(), "a loop device")?;
    let LoopDevice { major, minor, .. } = device.as_ref().expect("looked at before");
    let way = match kind.contains("Write") {
        true => "if=/dev/zero of=/dev/disk oflag=direct",
        false => "if=/dev/disk of=/dev/null iflag=direct",
    };
    let mut bundle = t.sh_bundle(&format!("dd {way} bs={block} count={count} 2>&1; echo done"));
    bundle.linux("devices", json!([{"path": "/dev/disk", "type": "b", "major": major, "minor": minor}]));
    let resources = &mut bundle.config["linux"]["resources"];
    resources["blockIO"] = json!({kind: [{"major": major, "minor": minor, "rate": rate}]});
    bundle.push(
        "/linux/resources/devices",
        json!({"allow": true, "type": "b", "major": major, "minor": minor, "access": "rwm"}),
    );
    let c = t.create(&bundle);
    let start = Instant::now();
    c.start();
    c.prints("done");
    let elapsed = start.elapsed();
    assert!(c.stdout().contains(&format!("{count}+0 records out")), "{}", c.stdout());
    c.call("delete").options(&["--force"]).output().ok();
    Ok(elapsed)
}

fn a_write_of_so_many_bytes(t: &Test<'_>) -> Done {
    let elapsed = moved(t, "throttleWriteBpsDevice", MIB, "256k", 12)?;
    assert!(elapsed > Duration::from_millis(1900), "3 MiB at 1 MiB/s took {elapsed:?}");
    Ok(())
}

fn a_write_in_so_many_operations(t: &Test<'_>) -> Done {
    let elapsed = moved(t, "throttleWriteIOPSDevice", 10, "4k", 30)?;
    assert!(elapsed > Duration::from_millis(1900), "30 operations at 10/s took {elapsed:?}");
    Ok(())
}

const HUGE_PAGES: &str = "/sys/kernel/mm/hugepages/hugepages-2048kB/nr_hugepages";

/// Huge pages that are set aside for a test and given back with this value.
struct Reserved(String);

impl Reserved {
    fn new(more: u64) -> Option<Self> {
        let before = fs::read_to_string(HUGE_PAGES).ok()?;
        let wanted = before.trim().parse::<u64>().ok()? + more;
        fs::write(HUGE_PAGES, wanted.to_string()).ok()?;
        let reserved = Self(before);
        // The kernel may find fewer, without an error.
        let there = fs::read_to_string(HUGE_PAGES).ok()?.trim().parse::<u64>().ok()?;
        (there >= wanted).then_some(reserved)
    }
}

impl Drop for Reserved {
    fn drop(&mut self) {
        fs::write(HUGE_PAGES, &self.0).expect("cannot give huge pages back");
    }
}

fn huge_pages_beyond_the_limit(t: &Test<'_>) -> Done {
    needs(t, "hugetlb")?;
    t.peer_differs(Kind::Crun, "limits no reservations")?;
    let reserved = Reserved::new(8);
    t.needs(reserved.is_some(), "memory for huge pages of 2 MB")?;
    let run = |arguments: &[&str]| {
        let mut bundle = t.bundle();
        fs::copy(t.helper("huge"), bundle.inside("/bin/huge")).expect("cannot copy a program");
        bundle.args(&[&["/bin/huge"], arguments].concat());
        bundle.config["linux"]["resources"]["hugepageLimits"] = json!([{"pageSize": "2MB", "limit": 4 * MIB}]);
        t.run(&bundle)
    };
    assert_eq!(run(&["2"]).ok().stdout(), "done\n");
    let output = run(&["3"]).exits(1);
    assert!(output.stdout().contains("os error 12"), "ENOMEM: {}", output.stdout());
    run(&["3", "noreserve"]).exits(128 + 7);
    Ok(())
}

fn the_smallest_limits_at_once(t: &Test<'_>) -> Done {
    t.proa_only("peers set limits before the container is made")?;
    let limits: [(&str, &str, Value); 4] = [
        ("memory", "memory", json!({"limit": 4 * MIB, "swap": 4 * MIB})),
        ("pids", "pids", json!({"limit": 1})),
        ("cpu", "cpu", json!({"quota": 1000, "period": 100_000, "shares": 2})),
        ("hugetlb", "hugepageLimits", json!([{"pageSize": "2MB", "limit": 0}])),
    ];
    let mut bundle = t.sleeping_bundle();
    let mut set = 0;
    for (controller, name, value) in limits {
        if look::own_controller(controller).is_some() {
            bundle.config["linux"]["resources"][name] = value;
            set += 1;
        }
    }
    t.needs(set > 0, "a controller")?;
    let c = t.start(&bundle);
    c.assert_status("running");
    c.kill("KILL");
    assert_eq!(c.wait(), 128 + 9);
    c.delete();
    t.assert_nothing_left();
    Ok(())
}
