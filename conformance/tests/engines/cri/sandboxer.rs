//! Pods without a pause container, which the page's handler with `sandboxer = 'shim'` makes: the shim keeps their
//! namespaces, their files and their /dev/shm.

use std::cell::Cell;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::time::Duration;

use conformance::look::{self, eventually, eventually_within};
use conformance::test::{Done, Skip};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::{Value, json};

use super::engine::{Containerd, DIR, PODS_HANDLER, crictl, is_control, json as asked, said, shim};
use super::{images, things};

crate::cases![
    a_pod_needs_no_pause_container,
    its_containers_share_what_a_pod_shares,
    its_containers_may_share_a_pid_namespace,
    no_container_is_in_a_namespace_of_the_host_unasked,
    it_is_in_the_namespaces_of_the_host_where_it_is_told_to,
    its_containers_are_run_measured_and_logged,
    a_user_namespace_is_refused,
    it_outlives_containerd,
    its_containers_end_with_a_shim_that_is_killed,
    its_shared_pid_namespace_ends_with_a_shim_that_is_killed,
];

const IMAGE: &str = "registry.k8s.io/e2e-test-images/busybox:1.29-2";
/// Of NamespaceMode.
const POD: u32 = 0;
const CONTAINER: u32 = 1;
const NODE: u32 = 2;

/// A pod that runs.
struct Pod {
    id: String,
    name: String,
    /// Its PodSandboxConfig.
    file: String,
    /// Its NamespaceOption, which the kubelet writes for its containers too.
    namespaces: Value,
    before: BTreeSet<String>,
    over: Cell<bool>,
}

impl Pod {
    /// Runs a pod whose containers see each other's processes or do not, by the mode of its pid namespace.
    fn run(name: &str, pid: u32) -> Result<Self, Skip> {
        Self::run_with(name, json!({ "network": POD, "pid": pid, "ipc": POD }))
    }

    fn run_with(name: &str, namespaces: Value) -> Result<Self, Skip> {
        let (file, ran, before) = try_run(name, &namespaces)?;
        assert!(ran.status.success(), "runp: {}", String::from_utf8_lossy(&ran.stderr));
        let id = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        Ok(Self { id, name: name.to_owned(), file, namespaces, before, over: Cell::new(false) })
    }

    fn inspect(&self) -> Value {
        asked(&["inspectp", &self.id])
    }

    fn state(&self) -> String {
        self.inspect()["status"]["state"].as_str().unwrap_or_default().to_owned()
    }

    /// The process that keeps its namespaces: the only one of the shim's program below the shim.
    fn keeper(&self) -> i32 {
        let is_one = |pid: &i32| look::cmdline(*pid).last().is_some_and(|word| word == "pause");
        let keepers: Vec<i32> = look::descendants(self.shim()).into_iter().filter(is_one).collect();
        assert_eq!(keepers.len(), 1, "not one process keeps the namespaces: {keepers:?}");
        keepers[0]
    }

    fn shim(&self) -> i32 {
        let all = procfs::process::all_processes().expect("no /proc").flatten();
        let is_its = |words: &[String]| words.windows(2).any(|pair| pair[0] == "-id" && pair[1] == self.id);
        let shims = all.filter(|process| process.cmdline().is_ok_and(|words| is_its(&words)));
        let shims: Vec<i32> = shims.map(|process| process.pid()).collect();
        assert_eq!(shims.len(), 1, "not one shim: {shims:?}");
        shims[0]
    }

    /// A container of it, which runs `script`.
    fn container(&self, name: &str, script: &str) -> String {
        let container = json!({
            "metadata": { "name": name }, "image": { "image": IMAGE }, "command": ["sh", "-c", script],
            "log_path": format!("{name}.log"),
            "linux": { "security_context": { "namespace_options": self.namespaces } },
        });
        let file = format!("{DIR}/container.json");
        fs::write(&file, container.to_string()).expect("cannot write a file");
        let id = said(&["create", &self.id, &file, &self.file]);
        said(&["start", &id]);
        id
    }

    fn running(&self) -> usize {
        said(&["ps", "--quiet", "--pod", &self.id]).lines().count()
    }

    /// Stops and removes it: nothing of it may be left.
    fn end(self) -> Done {
        said(&["stopp", &self.id]);
        assert_eq!(self.state(), "SANDBOX_NOTREADY");
        assert_eq!(self.running(), 0, "containers run in a pod that was stopped");
        said(&["stopp", &self.id]);
        said(&["rmp", &self.id]);
        self.over.set(true);
        assert_eq!(said(&["pods", "--quiet", "--id", &self.id]), "");
        // The cgroup of a pod is the kubelet's to remove, once nothing is in it.
        for dir in look::cgroup_dirs().into_iter().filter(|dir| dir.ends_with(format!("pod-{}", self.name))) {
            fs::remove_dir(&dir).unwrap_or_else(|error| panic!("{}: {error}", dir.display()));
        }
        let mut left = Vec::new();
        // A shim ends a moment after its last container.
        eventually_within(Duration::from_secs(15), || {
            left = things().difference(&self.before).cloned().collect();
            left.is_empty()
        });
        for dir in ["/run/containerd", "/var/lib/containerd"] {
            let dir = Path::new(dir).join("io.containerd.grpc.v1.cri/sandboxes").join(&self.id);
            left.extend(dir.exists().then(|| dir.display().to_string()));
        }
        assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
        Ok(())
    }
}

impl Drop for Pod {
    fn drop(&mut self) {
        if !self.over.get() {
            crictl(&["rmp", "--force", &self.id]);
        }
    }
}

/// Asks for a pod; with what was there before it.
fn try_run(name: &str, namespaces: &Value) -> Result<(String, std::process::Output, BTreeSet<String>), Skip> {
    if is_control() {
        return Err(Skip("this shim needs a pause container".into()));
    }
    said(&["pull", IMAGE]);
    let mut sysctls = json!({ "net.ipv4.ip_unprivileged_port_start": "80" });
    if namespaces["ipc"] != json!(NODE) {
        sysctls["kernel.shm_rmid_forced"] = json!("1");
    }
    let pod = json!({
        "metadata": { "name": name, "namespace": "default", "uid": name }, "hostname": "web",
        "log_directory": format!("{DIR}/logs"),
        "dns_config": { "servers": ["10.0.0.10"], "searches": ["a.b", "c"], "options": ["ndots:5"] },
        "linux": { "cgroup_parent": format!("/pod-{name}"), "sysctls": sysctls, "security_context": { "namespace_options": namespaces } },
    });
    let file = format!("{DIR}/{name}.json");
    fs::write(&file, pod.to_string()).expect("cannot write a file");
    let before = things();
    let ran = crictl(&["runp", "--runtime", PODS_HANDLER, &file]);
    Ok((file, ran, before))
}

/// What a script prints in a container.
#[track_caller]
fn sh(container: &str, script: &str) -> String {
    said(&["exec", "--sync", container, "sh", "-c", script])
}

fn namespaces(container: &str, kinds: &[&str]) -> Vec<String> {
    kinds.iter().map(|kind| sh(container, &format!("readlink /proc/self/ns/{kind}"))).collect()
}

fn a_pod_needs_no_pause_container() -> Done {
    crictl(&["rmi", images::SANDBOX]);
    let pod = Pod::run("bare", CONTAINER)?;
    let inspected = pod.inspect();
    assert_eq!(inspected["status"]["state"], "SANDBOX_READY");
    assert_eq!(inspected["status"]["runtimeHandler"], PODS_HANDLER);
    let ip = inspected["status"]["network"]["ip"].as_str().unwrap_or_default();
    assert!(ip.starts_with("10.88."), "{ip:?}");
    let (repository, tag) = images::SANDBOX.rsplit_once(':').expect("a tag");
    let images = said(&["images", repository]);
    assert!(!images.contains(tag), "the image of a pause container was pulled: {images}");
    // What keeps the namespaces is the shim's own program; a container is not there.
    let keeper = pod.keeper();
    assert_eq!(fs::read_link(format!("/proc/{keeper}/exe")).expect("a program"), shim());
    assert_eq!(look::stat(keeper).expect("a process").ppid, pod.shim());
    let containers = std::process::Command::new("ctr").args(["-n", "k8s.io", "containers", "list", "-q"]).output();
    let containers = containers.expect("cannot run ctr").stdout;
    assert!(!String::from_utf8_lossy(&containers).contains(&pod.id), "the pod has a container of its own");
    pod.end()
}

fn its_containers_share_what_a_pod_shares() -> Done {
    let pod = Pod::run("shares", CONTAINER)?;
    let (one, two) = (pod.container("one", "sleep 1001"), pod.container("two", "sleep 1002"));
    for container in [&one, &two] {
        assert_eq!(sh(container, "hostname"), "web");
        assert_eq!(sh(container, "cat /etc/hostname"), "web");
        assert_eq!(sh(container, "cat /proc/sys/kernel/shm_rmid_forced"), "1");
        assert_eq!(sh(container, "cat /proc/sys/net/ipv4/ip_unprivileged_port_start"), "80");
        assert_eq!(sh(container, "cat /etc/resolv.conf"), "search a.b c\nnameserver 10.0.0.10\noptions ndots:5");
        assert_eq!(sh(container, "cat /etc/hosts"), fs::read_to_string("/etc/hosts").expect("hosts").trim());
        assert!(sh(container, "cat /proc/1/cmdline").contains("sleep"), "not the first process");
    }
    sh(&one, "echo seen >/dev/shm/file; echo '10.0.0.1 other' >>/etc/hosts");
    assert_eq!(sh(&two, "cat /dev/shm/file; tail -n 1 /etc/hosts"), "seen\n10.0.0.1 other");
    let shm = sh(&two, "grep ' /dev/shm ' /proc/self/mountinfo");
    for option in ["nosuid", "nodev", "noexec", "tmpfs", "size=65536k"] {
        assert!(shm.contains(option), "{shm}");
    }
    let shared = ["net", "ipc", "uts"];
    assert_eq!(namespaces(&one, &shared), namespaces(&two, &shared));
    let of_host = shared.map(|kind| fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace"));
    for (own, host) in namespaces(&one, &shared).iter().zip(of_host) {
        assert_ne!(Path::new(own), host, "a namespace of the host's");
    }
    for (one, two) in namespaces(&one, &["pid", "mnt"]).iter().zip(namespaces(&two, &["pid", "mnt"])) {
        assert_ne!(*one, two);
    }
    // Both are at the pod's address.
    let ip = pod.inspect()["status"]["network"]["ip"].as_str().expect("an address").to_owned();
    assert!(sh(&one, "cat /proc/net/fib_trie").contains(&ip), "not at {ip}");
    pod.end()
}

fn its_containers_may_share_a_pid_namespace() -> Done {
    let pod = Pod::run("pids", POD)?;
    let (one, two) = (pod.container("one", "sleep 1001"), pod.container("two", "sleep 1002"));
    let shared = ["net", "ipc", "uts", "pid"];
    assert_eq!(namespaces(&one, &shared), namespaces(&two, &shared));
    assert_eq!(sh(&one, "hostname; cat /proc/sys/kernel/shm_rmid_forced"), "web\n1");
    sh(&one, "echo seen >/dev/shm/file");
    assert_eq!(sh(&two, "cat /dev/shm/file"), "seen");
    let seen = sh(&one, "cat /proc/[0-9]*/cmdline | tr '\\0' ' '");
    assert!(seen.contains("1001") && seen.contains("1002"), "{seen}");
    // The first process is the shim's, and reaps.
    let keeper = pod.keeper();
    assert_eq!(look::namespace(keeper, "pid"), look::namespace(first_pid(&two), "pid"));
    assert!(look::field(&look::proc_text(keeper, "status"), "NSpid").expect("NSpid").ends_with("\t1"));
    let seconds = f64::from(look::slowness()) / 2.0;
    let orphan = sh(&one, &format!("sh -c 'sleep {seconds} >/dev/null 2>&1 & echo $!'"));
    assert_eq!(sh(&one, &format!("cut -d ' ' -f 4 /proc/{orphan}/stat")), "1");
    let reaped = || sh(&one, &format!("test -e /proc/{orphan} || echo gone")) == "gone";
    assert!(eventually_within(Duration::from_secs(10), reaped), "an orphan is not reaped");
    // One of them ends, and the pod goes on.
    said(&["stop", "--timeout", "0", &one]);
    assert_eq!(pod.state(), "SANDBOX_READY");
    assert_eq!(sh(&two, "echo here"), "here");
    pod.end()
}

/// The first process of a container, as the machine sees it.
fn first_pid(container: &str) -> i32 {
    let inspected = asked(&["inspect", container]);
    i32::try_from(inspected["info"]["pid"].as_i64().expect("a pid")).expect("a pid")
}

/// Where nothing is written of namespaces, all are the pod's. One that a container wants to share and the pod does not is
/// not the host's for that.
fn no_container_is_in_a_namespace_of_the_host_unasked() -> Done {
    for (name, pod, container) in [
        ("default", Value::Null, Value::Null),
        ("default-pod", Value::Null, json!({ "pid": CONTAINER })),
        ("default-container", json!({ "pid": CONTAINER }), Value::Null),
    ] {
        let mut pod = Pod::run_with(name, pod)?;
        pod.namespaces = container;
        let one = pod.container("one", "sleep 1001");
        for kind in ["net", "ipc", "uts", "pid"] {
            let host = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
            assert_ne!(Path::new(&namespaces(&one, &[kind])[0]), host, "{name}: {kind}");
        }
        pod.end()?;
    }
    Ok(())
}

/// But for the network: that containerd 2.1 crashes when it is asked for it.
fn it_is_in_the_namespaces_of_the_host_where_it_is_told_to() -> Done {
    let pod = Pod::run_with("host", json!({ "network": POD, "pid": NODE, "ipc": NODE }))?;
    let one = pod.container("one", "sleep 1001");
    let kinds = ["ipc", "pid"];
    for (kind, own) in kinds.iter().zip(namespaces(&one, &kinds)) {
        let host = fs::read_link(format!("/proc/self/ns/{kind}")).expect("a namespace");
        assert_eq!(Path::new(&own), host, "{kind}");
    }
    fs::write("/dev/shm/of-the-host", "seen").expect("cannot write to /dev/shm");
    assert_eq!(sh(&one, "cat /dev/shm/of-the-host; rm /dev/shm/of-the-host"), "seen");
    pod.end()
}

fn its_containers_are_run_measured_and_logged() -> Done {
    let pod = Pod::run("runs", CONTAINER)?;
    let one = pod.container("one", "echo told; echo wrong >&2; exec sleep 1001");
    let two = pod.container("two", "exit 7");
    let logged = || {
        let logs = crictl(&["logs", &one]);
        logs.stdout == b"told\n" && logs.stderr.ends_with(b"\nwrong\n")
    };
    assert!(eventually_within(Duration::from_secs(10), logged), "logs: {:?}", crictl(&["logs", &one]));
    eventually("the end of a container", || asked(&["inspect", &two])["status"]["state"] == "CONTAINER_EXITED");
    assert_eq!(asked(&["inspect", &two])["status"]["exitCode"], 7);
    // Through containerd's server of streams, too.
    assert_eq!(said(&["exec", &one, "sh", "-c", "echo streamed"]), "streamed");
    assert!(!crictl(&["exec", "--sync", &one, "sh", "-c", "exit 3"]).status.success());
    let stats = asked(&["stats", "--output", "json", &one]);
    assert_eq!(stats["stats"][0]["attributes"]["id"], one, "{stats}");
    let used = stats["stats"][0]["cpu"]["usageCoreNanoSeconds"]["value"].as_str().unwrap_or_default();
    assert!(used.parse().is_ok_and(|used: u64| used > 0), "{stats}");
    let stats = asked(&["statsp", "--output", "json", &pod.id]);
    assert_eq!(stats["stats"][0]["attributes"]["id"], pod.id, "{stats}");
    pod.end()
}

fn a_user_namespace_is_refused() -> Done {
    let ids = json!([{ "host_id": 100_000, "container_id": 0, "length": 65536 }]);
    let user = json!({ "mode": POD, "uids": ids, "gids": ids });
    let (_, ran, before) = try_run("user", &json!({ "network": POD, "pid": CONTAINER, "userns_options": user }))?;
    let error = String::from_utf8_lossy(&ran.stderr);
    assert!(!ran.status.success(), "a pod with a user namespace runs");
    assert!(error.contains("user namespace"), "{error}");
    let mut left: Vec<String> = Vec::new();
    eventually_within(Duration::from_secs(15), || {
        left = things().difference(&before).cloned().collect();
        left.is_empty()
    });
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    Ok(())
}

fn it_outlives_containerd() -> Done {
    for (name, mode) in [("restart", CONTAINER), ("restart-pids", POD)] {
        let pod = Pod::run(name, mode)?;
        let (one, two) = (pod.container("one", "sleep 1001"), pod.container("two", "sleep 1002"));
        sh(&one, "echo kept >/dev/shm/file");
        let (keeper, shim, first) = (pod.keeper(), pod.shim(), first_pid(&one));
        Containerd::crash();
        assert_eq!(pod.state(), "SANDBOX_READY", "{name}");
        assert_eq!((pod.keeper(), pod.shim(), first_pid(&one)), (keeper, shim, first), "{name}");
        assert_eq!(pod.running(), 2, "{name}");
        assert_eq!(sh(&two, "cat /dev/shm/file; hostname"), "kept\nweb", "{name}");
        // It goes on as before.
        let three = pod.container("three", "sleep 1003");
        assert_eq!(namespaces(&three, &["net", "ipc", "uts"]), namespaces(&two, &["net", "ipc", "uts"]), "{name}");
        assert_eq!(sh(&three, "cat /dev/shm/file; tail -n 1 /etc/resolv.conf"), "kept\noptions ndots:5", "{name}");
        said(&["stop", "--timeout", "0", &one]);
        pod.end()?;
    }
    Ok(())
}

fn its_containers_end_with_a_shim_that_is_killed() -> Done {
    shim_killed("killed", CONTAINER)
}

fn its_shared_pid_namespace_ends_with_a_shim_that_is_killed() -> Done {
    shim_killed("killed-pids", POD)
}

fn shim_killed(name: &str, mode: u32) -> Done {
    let pod = Pod::run(name, mode)?;
    let containers = [pod.container("one", "sleep 1001"), pod.container("two", "sleep 1002")];
    let processes: Vec<i32> = containers.iter().map(|id| first_pid(id)).chain([pod.keeper()]).collect();
    kill(Pid::from_raw(pod.shim()), Signal::SIGKILL).expect("cannot kill the shim");
    let not_ready = || pod.state() == "SANDBOX_NOTREADY";
    assert!(eventually_within(Duration::from_secs(20), not_ready), "the pod is {}", pod.state());
    assert!(eventually_within(Duration::from_secs(20), || pod.running() == 0), "containers are said to run");
    let alive = || processes.iter().filter(|pid| look::is_alive(**pid)).count();
    assert!(eventually_within(Duration::from_secs(20), || alive() == 0), "{} processes are left", alive());
    for id in &containers {
        // As containerd tells of one whose shim it has lost.
        assert_eq!(asked(&["inspect", id])["status"]["exitCode"], 255);
    }
    pod.end()
}
