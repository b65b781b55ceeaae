//! Attacks by values: of config.json, of flags. What they ask for is refused, or is done to the container alone.

use std::fs;

use conformance::bundle::Bundle;
use conformance::look;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

use crate::{Canary, safe};

crate::attacks! {
    "CVE-2023-25809" => cgroup_of_exec_is_outside,
    "" => cgroup_path_leads_out,
    "" => keys_of_resources_are_paths,
    "CVE-2023-25809" => cgroups_of_the_host_are_writable,
    "CVE-2022-0811" => sysctl_of_the_host,
    "CVE-2021-43784" => values_of_enormous_size,
    "" => annotations_of_systemd,
    "" => what_cannot_be_applied_is_refused,
    "GHSA-7ww5-4wqc-m92c" => default_masks,
    "" => no_mount_namespace,
}

fn cgroup_of_exec_is_outside(t: &Test<'_>, _: &Canary) -> Done {
    let (first, second) = (t.sleeper(), t.sleeper());
    let before = look::cgroup_paths(first.pid);
    let name =
        before.values().find_map(|path| path.rsplit_once('/')).map(|(_, name)| name.to_owned()).unwrap_or_default();
    let other = look::cgroup_paths(second.pid);
    let sibling =
        other.values().find_map(|path| path.rsplit_once('/')).map(|(_, name)| name.to_owned()).unwrap_or_default();
    for sub in ["..", "../..", &format!("../{sibling}"), &format!("../{name}/../{sibling}"), "/", "../../../../.."] {
        for prefix in ["", "pids:", "cpu:", "memory:", "freezer:"] {
            let script = ["/bin/cat", "/proc/self/cgroup"];
            let output = first.exec_with(&["--cgroup", &format!("{prefix}{sub}")], &script).output();
            if !output.status.success() {
                continue;
            }
            // The container sees its own cgroup as the root of all, if it has a namespace, else the host's paths.
            let outside = output
                .stdout()
                .lines()
                .any(|line| line.split(':').nth(2).is_some_and(|path| path.contains("/..") || path.contains(&sibling)));
            safe(!outside, || format!("--cgroup {prefix}{sub}: {}", output.stdout().replace('\n', " ")));
        }
    }
    Ok(())
}

fn cgroup_path_leads_out(t: &Test<'_>, _: &Canary) -> Done {
    let name = format!("{}-escaped", t.tag());
    // Beside the hierarchies of version 1 is an ordinary directory.
    let beside = std::path::Path::new("/sys/fs/cgroup").join(&name);
    for path in ["../../../../escaped", "/../escaped", "/a/../../escaped", ".."] {
        let mut bundle = t.sleeping_bundle();
        bundle.linux("cgroupsPath", json!(path.replace("escaped", &name)));
        let id = t.id();
        let output = t.create_call(&bundle, &id).output();
        let mut escaped = look::cgroups() == look::Cgroups::Hybrid && beside.exists();
        if output.status.success() {
            let c = t.container(id, output);
            let own = look::cgroup_paths(std::process::id() as i32);
            let above =
                |(key, place): (&String, &String)| own.get(key).is_some_and(|own| !place.starts_with(own.as_str()));
            escaped |= look::cgroup_paths(c.pid).iter().any(above);
            c.call("delete").options(&["--force"]).output().ok();
        }
        if look::cgroups() == look::Cgroups::Hybrid {
            fs::remove_dir_all(&beside).ok();
        }
        safe(!escaped, || format!("{path:?} is made outside"));
    }
    Ok(())
}

fn keys_of_resources_are_paths(t: &Test<'_>, _: &Canary) -> Done {
    // Somebody else's process, which is nobody's loss.
    let mut victim = std::process::Command::new("sleep").arg("600").spawn().expect("no sleep");
    let pid = victim.id();
    let before = look::cgroup_paths(pid as i32);
    let cases: [(&str, Value); 6] = [
        ("unified", json!({"../cgroup.procs": pid.to_string()})),
        ("unified", json!({"cgroup.procs": pid.to_string()})),
        ("unified", json!({"../../cgroup.max.depth": "max"})),
        ("hugepageLimits", json!([{"pageSize": "../../../x", "limit": 1}])),
        ("hugepageLimits", json!([{"pageSize": "2MB.limit_in_bytes/../../../x", "limit": 1}])),
        ("rdma", json!({"../x": {"hcaHandles": 1}})),
    ];
    let mut reached = None;
    for (name, value) in cases {
        let mut bundle = t.bundle();
        bundle.config["linux"]["resources"][name] = value.clone();
        if t.run(&bundle).status.success() {
            reached.get_or_insert(format!("linux.resources.{name} {value} is accepted"));
        }
        if victim.try_wait().is_ok_and(|ended| ended.is_some()) || look::cgroup_paths(pid as i32) != before {
            reached = Some(format!("linux.resources.{name} {value} has moved or ended a process of the host"));
            break;
        }
    }
    victim.kill().ok();
    victim.wait().ok();
    safe(reached.is_none(), || reached.unwrap_or_default());
    Ok(())
}

fn cgroups_of_the_host_are_writable(t: &Test<'_>, _: &Canary) -> Done {
    for user in [false, true] {
        let mut bundle = t.bundle();
        bundle.capabilities(&["CAP_SYS_ADMIN", "CAP_DAC_OVERRIDE"]);
        if user {
            bundle.user_namespace(100_000);
            conformance::bundle::give(&bundle.rootfs(), 100_000);
        }
        bundle.without_namespace("cgroup").mount(
            "/sys/fs/cgroup",
            "cgroup",
            "cgroup",
            &["nosuid", "noexec", "nodev", "relatime", "ro"],
        );
        bundle.sh("for d in $(find /sys/fs/cgroup -maxdepth 2 -type d | head -n 40); do mkdir $d/made 2>/dev/null && rmdir $d/made && echo $d; done; :");
        let text = t.run(&bundle).stdout();
        safe(text.is_empty(), || format!("cgroups can be made in {}", text.replace('\n', " ")));
    }
    Ok(())
}

fn sysctl_of_the_host(t: &Test<'_>, _: &Canary) -> Done {
    // The values that are in force: what gives way changes nothing.
    let pattern = fs::read_to_string("/proc/sys/kernel/core_pattern").expect("no value");
    for key in [
        "kernel.core_pattern",
        "kernel/core_pattern",
        "net/../kernel/core_pattern",
        "net.ipv4/../../kernel/core_pattern",
        "kernel.hostname/../core_pattern",
        "fs.mqueue/../../kernel/core_pattern",
    ] {
        let mut bundle = t.bundle();
        bundle.linux("sysctl", json!({key: pattern.trim()}));
        safe(!t.run(&bundle).status.success(), || format!("{key} is written"));
    }
    for (key, namespace) in [("net.ipv4.ip_forward", "network"), ("kernel.shmmax", "ipc"), ("kernel.domainname", "uts")]
    {
        let value = fs::read_to_string(format!("/proc/sys/{}", key.replace('.', "/"))).expect("no value");
        let mut bundle = t.bundle();
        bundle.without_namespace(namespace).remove("/hostname").linux("sysctl", json!({key: value.trim()}));
        safe(!t.run(&bundle).status.success(), || format!("{key} of the host is written"));
    }
    Ok(())
}

fn values_of_enormous_size(t: &Test<'_>, _: &Canary) -> Done {
    let own = look::namespace(std::process::id() as i32, "mnt");
    let mut bundles = Vec::new();
    let mut bundle = t.bundle();
    bundle.config["root"]["path"] = json!("x/".repeat(35_000));
    bundles.push(("a path of 70 kB", bundle));
    let mut bundle = t.bundle();
    let maps: Vec<_> =
        (0..100_000u32).map(|id| json!({"containerID": id, "hostID": 100_000 + id, "size": 1})).collect();
    bundle.user_namespace(100_000).linux("uidMappings", json!(maps));
    bundles.push(("100,000 mappings", bundle));
    let mut bundle = t.bundle();
    bundle.process("env", json!((0..64).map(|n| format!("V{n}={}", "x".repeat(32_000))).collect::<Vec<_>>()));
    bundles.push(("2 MB of environment", bundle));
    let mut bundle = t.bundle();
    for _ in 0..3000 {
        bundle.mount("/tmp", "tmpfs", "tmpfs", &["ro", "noexec"]);
    }
    bundles.push(("3,000 mounts", bundle));
    for (what, mut bundle) in bundles {
        bundle.sh("readlink /proc/self/ns/mnt /proc/self/ns/net /proc/self/ns/pid");
        let output = t.run(&bundle);
        if output.status.success() {
            let text = output.stdout();
            safe(!text.contains(&own.to_string()) && text.lines().count() == 3, || {
                format!("{what}: namespaces {text}")
            });
        }
    }
    Ok(())
}

fn annotations_of_systemd(t: &Test<'_>, _: &Canary) -> Done {
    t.needs(std::path::Path::new("/run/systemd/system").exists(), "systemd")?;
    for (name, value) in [
        ("ExecStartPre", "['/bin/true']"),
        ("SuccessAction", "'none'"),
        ("OnFailure", "['x.service']"),
        ("Wants", "['x.service']"),
    ] {
        let mut bundle = t.bundle();
        bundle.set("annotations", json!({format!("org.systemd.property.{name}"): value}));
        let id = t.id();
        let output = t.create_call(&bundle, &id).global("--systemd-cgroup").output();
        safe(!output.status.success(), || format!("{name} is passed on"));
    }
    Ok(())
}

fn what_cannot_be_applied_is_refused(t: &Test<'_>, _: &Canary) -> Done {
    let has = |name: &str| std::path::Path::new(name).exists();
    let mut bundles: Vec<(&str, Bundle)> = Vec::new();
    let mut add = |what, change: &dyn Fn(&mut Bundle)| {
        let mut bundle = t.bundle();
        change(&mut bundle);
        bundles.push((what, bundle));
    };
    if !has("/sys/kernel/security/apparmor") {
        add("process.apparmorProfile", &|bundle| {
            bundle.process("apparmorProfile", json!("no-such-profile"));
        });
    }
    if !has("/sys/fs/selinux") {
        add("process.selinuxLabel", &|bundle| {
            bundle.process("selinuxLabel", json!("u:r:t:s0"));
        });
    }
    add("an unknown action of seccomp", &|bundle| {
        bundle.linux("seccomp", json!({"defaultAction": "SCMP_ACT_NOTHING"}));
    });
    add("an unknown flag of seccomp", &|bundle| {
        bundle.linux(
            "seccomp",
            json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": ["SECCOMP_FILTER_FLAG_NOTHING"],
            "syscalls": [{"names": ["getcwd"], "action": "SCMP_ACT_ERRNO"}]}),
        );
    });
    add("an unknown limit", &|bundle| {
        bundle.process("rlimits", json!([{"type": "RLIMIT_NOTHING", "soft": 1, "hard": 1}]));
    });
    add("a device of no kind", &|bundle| {
        bundle.linux("devices", json!([{"path": "/dev/x", "type": "q", "major": 1, "minor": 3}]));
    });
    add("a namespace of no kind", &|bundle| {
        bundle.push("/linux/namespaces", json!({"type": "nothing"}));
    });
    add("a propagation of no kind", &|bundle| {
        bundle.linux("rootfsPropagation", json!("sideways"));
    });
    for (what, bundle) in bundles {
        safe(!t.run(&bundle).status.success(), || format!("{what} is passed over"));
    }
    Ok(())
}

/// What `spec` masks, as its users take it over.
fn default_masks(t: &Test<'_>, _: &Canary) -> Done {
    let dir = t.make_dir("spec");
    t.call(&["spec"]).cwd(&dir).output().ok();
    let config: Value =
        serde_json::from_slice(&fs::read(dir.join("config.json")).expect("no config")).expect("no JSON");
    let masked: Vec<&str> =
        config["linux"]["maskedPaths"].as_array().into_iter().flatten().filter_map(Value::as_str).collect();
    for path in [
        "/proc/kcore",
        "/proc/keys",
        "/proc/timer_list",
        "/sys/firmware",
        "/proc/scsi",
        "/sys/devices/virtual/powercap",
    ] {
        safe(masked.contains(&path), || format!("{path} is not masked by default"));
    }
    Ok(())
}

/// Without one the mounts would be the host's.
fn no_mount_namespace(t: &Test<'_>, _: &Canary) -> Done {
    let mut bundle = t.bundle();
    bundle.without_namespace("mount").linux("rootfsPropagation", json!("rprivate"));
    t.run(&bundle);
    let host = fs::read_to_string("/proc/self/mountinfo").expect("no mounts");
    let ours = host.lines().filter(|line| line.contains(&*t.dir.to_string_lossy())).count();
    safe(ours == 0, || "the container's mounts are the host's".to_owned());
    let shared = host.lines().next().is_some_and(|line| line.contains("shared:"));
    safe(shared, || "the host's propagation is another".to_owned());
    Ok(())
}
