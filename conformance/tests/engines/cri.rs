//! Kubernetes' CRI: its conformance tests, critest, against containerd whose default runtime is the one under test.
//!
//! `SHIM_RUNTIME=io.containerd.runc.v2` takes containerd's own shim, with RUNTIME below it; `CRITEST=REGEX` runs only tests whose
//! names match. `CRI_TOOLS` is the folder of `conformance/cri/build`; `CRI_LOGS`, one where the logs are to stay.

mod engine;
mod expected;
mod images;
mod registry;
mod sandboxer;

use std::any::Any;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;
use std::sync::OnceLock;
use std::time::Duration;

use conformance::look::{self, eventually_within};
use conformance::test::Done;
use nix::mount::{MntFlags, umount2};
use serde_json::json;

use crate::{Case, cases};
use engine::{Containerd, DIR, HANDLER, crictl};
use expected::{Expected, Outcome};

/// Every file of tests.
pub(crate) const TOPICS: &[&[Case]] = &[sandboxer::CASES, CASES];

cases![
    the_default_handler_is_told_to_have_what_the_runtime_has,
    a_runtime_class_is_a_handler_by_name,
    conformance_of_cri,
    nothing_is_left,
];

/// What there was before any pod.
static BEFORE: OnceLock<BTreeSet<String>> = OnceLock::new();

/// Starts what the tests need.
pub(crate) fn begin() -> Box<dyn Any> {
    let registry = registry::serve(&images::all());
    let containerd = Containerd::start(&registry.to_string());
    BEFORE.set(things()).expect("begun once");
    Box::new(containerd)
}

fn the_default_handler_is_told_to_have_what_the_runtime_has() -> Done {
    let info = engine::info();
    let handlers = info["runtimeHandlers"].as_array().expect("handlers");
    // The default handler is the one without a name.
    for name in ["", HANDLER] {
        let handler = handlers.iter().find(|handler| handler["name"].as_str().unwrap_or_default() == name);
        let features = &handler.unwrap_or_else(|| panic!("no handler {name:?}: {info}"))["features"];
        assert_eq!(features["recursive_read_only_mounts"], json!(true), "{name:?}: {features}");
        assert_eq!(features["user_namespaces"], json!(true), "{name:?}: {features}");
    }
    Ok(())
}

/// The handler of the page's RuntimeClass runs pods, and so does one whose shim is found by its type; one that is not
/// configured does not.
fn a_runtime_class_is_a_handler_by_name() -> Done {
    let class = engine::block("yaml").lines().find_map(|line| line.strip_prefix("handler: ")).expect("a handler");
    assert_eq!(class, HANDLER);
    for handler in [class, "by-type"] {
        let ran = crictl(&["runp", "--runtime", handler, &pod_file(handler)]);
        assert!(ran.status.success(), "{handler}: {}", String::from_utf8_lossy(&ran.stderr));
        let id = String::from_utf8_lossy(&ran.stdout).trim().to_owned();
        let inspected: serde_json::Value = serde_json::from_slice(&crictl(&["inspectp", &id]).stdout).expect("JSON");
        assert_eq!(inspected["status"]["state"], "SANDBOX_READY", "{handler}");
        assert_eq!(inspected["status"]["runtimeHandler"], handler);
        let pid = inspected["info"]["pid"].as_i64().expect("a pid") as i32;
        let shim = look::stat(pid).expect("a process").ppid;
        assert_eq!(fs::read_link(format!("/proc/{shim}/exe")).expect("a program"), engine::shim(), "{handler}");
        let removed = crictl(&["rmp", "--force", &id]);
        assert!(removed.status.success(), "{handler}: {}", String::from_utf8_lossy(&removed.stderr));
    }
    let other = crictl(&["runp", "--runtime", "no-such-handler", &pod_file("other")]);
    assert!(!other.status.success(), "a handler that is not configured ran a pod");
    Ok(())
}

fn pod_file(name: &str) -> String {
    // What the kubelet would say: with systemd a slice.
    let parent = if look::has_systemd() { "/test.slice" } else { "" };
    let linux = json!({ "cgroup_parent": parent });
    let pod = json!({ "metadata": { "name": name, "namespace": "default", "uid": name }, "linux": linux });
    let file = format!("{DIR}/pod.json");
    fs::write(&file, pod.to_string()).expect("cannot write a file");
    file
}

fn conformance_of_cri() -> Done {
    let focus = std::env::var("CRITEST").unwrap_or_default();
    let minutes = 9 * look::slowness();
    let mut command = Command::new("timeout");
    command.args(["--signal=INT", "-k", "30", &format!("{}m", minutes + 1)]);
    command.arg(engine::tools().join("ginkgo")).env("PATH", engine::path()).current_dir(DIR);
    // Most tests wait most of their time, but for those in an emulated machine. A fixed order, so that a failure can be
    // had again.
    let nodes = if look::slowness() > 1 { 3 } else { 8 };
    command.args([&format!("--nodes={nodes}"), "--seed=1", "--no-color", "--output-dir", DIR]);
    command.arg(format!("--timeout={minutes}m"));
    command.args(["--json-report=report.json", "--skip=benchmark"]);
    if !focus.is_empty() {
        command.arg(format!("--focus={focus}"));
    }
    command.arg(engine::tools().join("critest.test")).arg("--");
    command.args(["--nri-socket=/run/nri/nri.sock", "--runtime-endpoint", engine::ENDPOINT]);
    let log = format!("{DIR}/critest.log");
    let file = fs::File::create(&log).expect("cannot make a log");
    command.stdout(file.try_clone().expect("a file")).stderr(file);
    let status = command.status().expect("cannot run timeout");
    if let Some(dir) = std::env::var_os("CRI_LOGS") {
        for name in ["critest.log", "report.json", "containerd.log"] {
            fs::copy(format!("{DIR}/{name}"), Path::new(&dir).join(name)).ok();
        }
    }
    let report = fs::read(format!("{DIR}/report.json"));
    let report = report.unwrap_or_else(|error| panic!("critest ended with {status} and no report: {error}"));
    let ran = expected::read(&report);
    let count = |outcome| ran.iter().filter(|test| test.outcome == outcome).count();
    println!(
        "        critest: {} passed, {} failed, {} skipped themselves; the longest took {:.0} s",
        count(Outcome::Passed),
        count(Outcome::Failed),
        count(Outcome::Skipped),
        ran.iter().map(|test| test.seconds).fold(0.0, f64::max),
    );
    let table = fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/cri/expected")).expect("the table");
    let differences = Expected::parse(&table, look::slowness() > 1).differences(&ran, focus.is_empty());
    assert!(differences.is_empty(), "not as in conformance/cri/expected:\n  {}", differences.join("\n  "));
    assert!(!ran.is_empty(), "no test of critest has {focus:?} in its name");
    Ok(())
}

/// Once all pods are removed, nothing of them is there: no shim, socket, mount, cgroup or network namespace.
fn nothing_is_left() -> Done {
    let removed = crictl(&["rmp", "--all", "--force"]);
    assert!(removed.status.success(), "{}", String::from_utf8_lossy(&removed.stderr));
    let before = BEFORE.get().expect("begun");
    end_forgotten_pods();
    let mut left: Vec<String> = Vec::new();
    // A shim ends a moment after its last container.
    eventually_within(Duration::from_secs(15), || {
        left = things().difference(before).cloned().collect();
        left.is_empty()
    });
    assert!(left.is_empty(), "left behind:\n  {}", left.join("\n  "));
    Ok(())
}

/// Ends the pods that containerd has made, no longer knows as pods and does not end: where a plugin of NRI refuses one,
/// which critest has it do once. The shim is not at fault, and still answers.
fn end_forgotten_pods() {
    let ctr = |args: &[&str]| {
        let mut command = Command::new("timeout");
        let seconds = 20 * look::slowness();
        command.args(["-k", "5", &seconds.to_string(), "ctr", "--namespace", "k8s.io"]).args(args);
        command.output().expect("cannot run timeout")
    };
    let tasks = ctr(&["tasks", "list", "--quiet"]).stdout;
    for id in String::from_utf8_lossy(&tasks).lines() {
        let bundle = format!("/run/containerd/io.containerd.runtime.v2.task/k8s.io/{id}");
        let config = fs::read(format!("{bundle}/config.json")).expect("a bundle");
        let config: serde_json::Value = serde_json::from_slice(&config).expect("a config.json");
        let name = config["annotations"]["io.kubernetes.cri.sandbox-name"].as_str().unwrap_or_default();
        if !name.starts_with("nri-test-run-error-") {
            continue;
        }
        assert!(ctr(&["tasks", "kill", "--signal", "KILL", id]).status.success(), "cannot kill {name}");
        let gone = || ctr(&["tasks", "delete", id]).status.success() || !Path::new(&bundle).exists();
        assert!(eventually_within(Duration::from_secs(10), gone), "cannot delete {name}");
        let shm = format!("/run/containerd/io.containerd.grpc.v1.cri/sandboxes/{id}/shm");
        umount2(shm.as_str(), MntFlags::MNT_DETACH).ok();
    }
}

/// What pods are made of, as far as it is to be seen from outside.
fn things() -> BTreeSet<String> {
    let mut things = BTreeSet::new();
    let processes = procfs::process::all_processes().expect("no /proc").flatten();
    for stat in processes.filter_map(|process| process.stat().ok()) {
        // containerd may have been started anew; critest and its like are gone by then.
        if stat.comm != "containerd" && !look::is_of_the_kernel(&stat) && !stat.comm.contains("systemd") {
            things.insert(format!("process {} ({})", stat.pid, stat.comm));
        }
    }
    let mounts = look::mounts(std::process::id().cast_signed());
    things.extend(mounts.iter().map(|mount| format!("mount {} on {}", mount.fs_type, mount.mount_point.display())));
    // The cgroup above those of the pods stays, as does any other parent.
    let is_parent = |dir: &Path| dir.ends_with("k8s.io") || dir.extension().is_some_and(|word| word == "slice");
    let cgroups = look::cgroup_dirs().into_iter().filter(|dir| !is_parent(dir));
    things.extend(cgroups.map(|dir| format!("cgroup {}", dir.display())));
    for dir in ["/run/containerd/s", "/run/netns", "/run/containerd/io.containerd.runtime.v2.task/k8s.io"] {
        let entries = fs::read_dir(dir).into_iter().flatten().flatten();
        things.extend(entries.map(|entry| format!("file {}", entry.path().display())));
    }
    things
}
