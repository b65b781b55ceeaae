//! The sandbox service: a pod without a pause process (`sandboxer = "shim"`).

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use conformance::look;
use conformance::test::{Done, Skip};
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::sandbox_api as sandbox;
use containerd_shim_protos::ttrpc::proto::Code;
use nix::mount::{MntFlags, umount2};
use serde_json::Value;

use super::bare::{self, Answer, Dialect, Shim, bundle};
use super::fixture::Test;

crate::cases![
    a_sandbox_lives_and_ends,
    a_container_runs_in_a_sandbox,
    an_unknown_sandbox_is_not_found,
    namespaces_are_given_by_path,
    a_shared_pid_namespace_has_a_process,
];

const SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";

fn ask<Q: Message, A: Message>(shim: &Shim, method: &str, request: &Q) -> Answer<A> {
    shim.call_on(SERVICE, method, request, Duration::from_secs(10))
}

/// A shim with a sandbox that has started; nothing where the shim does not serve any.
fn started(t: &Test, id: &str) -> Result<Shim, Skip> {
    started_with(t, id, Dialect::Legacy, sandbox::CreateSandboxRequest::new()).map(|(shim, _)| shim)
}

/// The same, with more in the request, and what `StartSandbox` answers.
fn started_with(
    t: &Test,
    id: &str,
    dialect: Dialect,
    more: sandbox::CreateSandboxRequest,
) -> Result<(Shim, sandbox::StartSandboxResponse), Skip> {
    let bundle = bundle(t, id);
    let shim = Shim::start_with(&bundle, id, dialect, bare::options(""));
    let request = sandbox::CreateSandboxRequest {
        sandbox_id: id.to_owned(),
        bundle_path: bundle.path.display().to_string(),
        ..more
    };
    let created: Answer<sandbox::CreateSandboxResponse> = ask(&shim, "CreateSandbox", &request);
    if let Err(refused) = created {
        // An answer that says that there is no such service, in the words of whoever wrote the server.
        let none = refused.code == Code::UNIMPLEMENTED || refused.message.contains("service");
        assert!(none, "CreateSandbox: {refused:?}");
        shim.shutdown(id);
        return Err(Skip("this shim serves no sandboxes".into()));
    }
    let request = sandbox::StartSandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
    let answer: sandbox::StartSandboxResponse = ask(&shim, "StartSandbox", &request).expect("StartSandbox");
    assert!(answer.created_at.seconds > 0, "{answer}");
    Ok((shim, answer))
}

fn status(shim: &Shim, id: &str) -> sandbox::SandboxStatusResponse {
    let request = sandbox::SandboxStatusRequest { sandbox_id: id.to_owned(), ..Default::default() };
    ask(shim, "SandboxStatus", &request).expect("SandboxStatus")
}

fn ended(shim: Shim, id: &str) {
    let request = sandbox::StopSandboxRequest { sandbox_id: id.to_owned(), timeout_secs: 5, ..Default::default() };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| -> Answer<sandbox::WaitSandboxResponse> {
            ask(&shim, "WaitSandbox", &sandbox::WaitSandboxRequest { sandbox_id: id.to_owned(), ..Default::default() })
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "WaitSandbox returns though it runs");
        let _stopped: sandbox::StopSandboxResponse = ask(&shim, "StopSandbox", &request).expect("StopSandbox");
        waiting.join().expect("no panic").expect("WaitSandbox");
    });
    let state = status(&shim, id).state;
    assert!(state.to_uppercase().contains("NOTREADY") || state.to_uppercase().contains("NOT_READY"), "{state}");
    // Again: it may be asked twice.
    let _stopped: sandbox::StopSandboxResponse = ask(&shim, "StopSandbox", &request).expect("StopSandbox");
    let request = sandbox::ShutdownSandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
    let pid = super::oracle::shims_of(id)[0];
    // The connection may end before the answer.
    ask(&shim, "ShutdownSandbox", &request).map(|_: sandbox::ShutdownSandboxResponse| ()).ok();
    conformance::look::eventually("the end of the shim", || !conformance::look::is_alive(pid));
}

fn a_sandbox_lives_and_ends() -> Done {
    let t = Test::begin();
    let id = t.id();
    let shim = started(&t, &id)?;
    let ping = sandbox::PingRequest { sandbox_id: id.clone(), ..Default::default() };
    let _pong: sandbox::PingResponse = ask(&shim, "PingSandbox", &ping).expect("PingSandbox");
    let platform = sandbox::PlatformRequest { sandbox_id: id.clone(), ..Default::default() };
    let answer: sandbox::PlatformResponse = ask(&shim, "Platform", &platform).expect("Platform");
    assert_eq!(answer.platform.os, "linux");
    let status = status(&shim, &id);
    assert_eq!(status.sandbox_id, id);
    assert!(status.state.to_uppercase().ends_with("READY"), "{status}");
    ended(shim, &id);
    t.end()
}

fn a_container_runs_in_a_sandbox() -> Done {
    let t = Test::begin();
    let id = t.id();
    let shim = started(&t, &id)?;
    let inner = t.id();
    let inner_bundle = bare::bundle(&t, &inner);
    inner_bundle.write();
    let task = shim.task(&inner);
    task.create(&inner_bundle.path).expect("Create");
    task.start("").expect("Start");
    // The end of the last container is not the end of the sandbox.
    task.finish();
    shim.ask_shutdown(&inner, false).ok();
    std::thread::sleep(Duration::from_millis(300));
    assert!(status(&shim, &id).state.to_uppercase().ends_with("READY"));
    ended(shim, &id);
    t.end()
}

fn an_unknown_sandbox_is_not_found() -> Done {
    let t = Test::begin();
    let id = t.id();
    let shim = started(&t, &id)?;
    let request = sandbox::SandboxStatusRequest { sandbox_id: "none".to_owned(), ..Default::default() };
    let answer: Answer<sandbox::SandboxStatusResponse> = ask(&shim, "SandboxStatus", &request);
    assert_eq!(answer.expect_err("there is none").code, Code::NOT_FOUND);
    ended(shim, &id);
    t.end()
}

/// A network namespace that a file keeps, as CNI makes them.
struct Network(PathBuf);

impl Network {
    fn make(t: &Test) -> Self {
        let file = t.dir.join("netns");
        fs::write(&file, "").expect("cannot make a file");
        let mut command = Command::new("unshare");
        command.arg(format!("--net={}", file.display())).args(["ip", "link", "set", "lo", "up"]);
        assert!(command.status().expect("cannot run unshare").success(), "no network namespace");
        Self(file)
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        umount2(&self.0, MntFlags::MNT_DETACH).ok();
    }
}

/// A field of a message that is bytes, shorter than 128.
fn field(number: u8, bytes: &[u8]) -> Vec<u8> {
    [&[number << 3 | 2, bytes.len() as u8], bytes].concat()
}

/// A pod with the hostname `web`, a sysctl, and a mode of its pid namespace, in the network namespace.
fn pod(network: &Network, pid: u8) -> sandbox::CreateSandboxRequest {
    let sysctl = [field(1, b"kernel.shm_rmid_forced"), field(2, b"1")].concat();
    // NamespaceOption below LinuxSandboxSecurityContext.
    let context = field(1, &[2 << 3, pid]);
    let linux = [field(2, &context), field(3, &sysctl)].concat();
    let config = [field(2, b"web"), field(8, &linux)].concat();
    sandbox::CreateSandboxRequest {
        netns_path: network.0.display().to_string(),
        options: MessageField::some(bare::any("runtime.v1.PodSandboxConfig", config)),
        ..Default::default()
    }
}

/// What containers of the sandbox are to have, as it was told: paths of namespaces by their types, and all of it.
fn spec(answer: &sandbox::StartSandboxResponse) -> (BTreeMap<String, PathBuf>, Value) {
    assert_eq!(answer.spec.type_url, "types.containerd.io/opencontainers/runtime-spec/1/Spec");
    let spec: Value = serde_json::from_slice(&answer.spec.value).expect("JSON");
    let namespaces = spec["linux"]["namespaces"].as_array().expect("namespaces").iter();
    let text = |value: &Value| value.as_str().expect("a text").to_owned();
    let paths = namespaces.map(|namespace| (text(&namespace["type"]), text(&namespace["path"]).into())).collect();
    (paths, spec)
}

/// What a script prints in namespaces.
fn inside(namespaces: &BTreeMap<String, PathBuf>, script: &str) -> String {
    let mut command = Command::new("nsenter");
    for (kind, path) in namespaces {
        let kind = if kind == "network" { "net" } else { kind };
        command.arg(format!("--{kind}={}", path.display()));
    }
    let output = command.args(["sh", "-c", script]).output().expect("cannot run nsenter");
    assert!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// The names of namespaces, such as `uts:[4026531838]`.
fn identities(namespaces: &BTreeMap<String, PathBuf>) -> BTreeMap<String, String> {
    let read = |(kind, path): (&String, &PathBuf)| {
        let short = if kind == "network" { "net" } else { kind };
        let link = inside(&BTreeMap::from([(kind.clone(), path.clone())]), &format!("readlink /proc/self/ns/{short}"));
        (kind.clone(), link)
    };
    namespaces.iter().map(read).collect()
}

/// Nobody keeps any of these namespaces, by a process or by a descriptor.
fn are_gone(identities: &BTreeMap<String, String>) {
    let kept = || {
        let all = procfs::process::all_processes().expect("no /proc").flatten();
        let links = all.flat_map(|process| {
            let links = ["ns", "fd"].map(|dir| fs::read_dir(format!("/proc/{}/{dir}", process.pid())));
            links.into_iter().flatten().flatten().flatten().filter_map(|entry| fs::read_link(entry.path()).ok())
        });
        links.into_iter().any(|link| identities.values().any(|name| Path::new(name) == link))
    };
    look::eventually("the end of the namespaces", || !kept());
}

fn namespaces_are_given_by_path() -> Done {
    let t = Test::begin();
    let id = t.id();
    let network = Network::make(&t);
    let (shim, answer) = started_with(&t, &id, Dialect::ByPath, pod(&network, 1))?;
    assert_eq!(answer.pid, 0, "there is a process");
    assert_eq!(status(&shim, &id).pid, 0);
    let pid = shim.pid(&id);
    assert_eq!(look::descendants(pid), Vec::<i32>::new(), "the shim keeps a process");
    let (mut namespaces, spec) = spec(&answer);
    assert_eq!(namespaces.keys().collect::<Vec<_>>(), ["ipc", "network", "uts"]);
    assert_eq!(namespaces["network"], network.0);
    assert_eq!(spec["hostname"], "web");
    assert_eq!(spec["linux"]["sysctl"]["kernel.shm_rmid_forced"], "1");
    assert_eq!(inside(&namespaces, "hostname; cat /proc/sys/kernel/shm_rmid_forced"), "web\n1");
    assert!(inside(&namespaces, "ip -o link").lines().count() == 1, "not the network that was given");
    let mounts = spec["mounts"].as_array().expect("mounts");
    let targets: Vec<&str> = mounts.iter().filter_map(|mount| mount["destination"].as_str()).collect();
    assert_eq!(targets, ["/etc/hostname", "/etc/hosts", "/etc/resolv.conf", "/dev/shm"]);
    let sources: Vec<PathBuf> = mounts.iter().filter_map(|mount| Some(mount["source"].as_str()?.into())).collect();
    assert!(sources.iter().all(|source| source.exists()), "{sources:?}");
    // The network is not the shim's.
    namespaces.remove("network");
    let identities = identities(&namespaces);
    // A container in all of them, as containerd writes its specification.
    let inner = t.id();
    let mut inner_bundle = bare::bundle(&t, &inner);
    inner_bundle.linux("namespaces", with_own(&spec));
    inner_bundle.write();
    let task = shim.task(&inner);
    task.create(&inner_bundle.path).expect("Create");
    task.start("").expect("Start");
    let first = look::descendants(pid);
    assert_eq!(first.len(), 1, "{first:?}");
    for (kind, name) in &identities {
        let link = fs::read_link(format!("/proc/{}/ns/{kind}", first[0])).expect("a namespace");
        assert_eq!(Path::new(name), link, "{kind}");
    }
    task.finish();
    ended(shim, &id);
    are_gone(&identities);
    assert!(namespaces.values().all(|path| !path.exists()), "{namespaces:?}");
    drop(network);
    t.end()
}

/// The namespaces of a specification, with those that a container has for itself.
fn with_own(spec: &Value) -> Value {
    let mut namespaces = spec["linux"]["namespaces"].as_array().expect("namespaces").clone();
    for kind in ["mount", "pid"] {
        if !namespaces.iter().any(|namespace| namespace["type"] == kind) {
            namespaces.push(serde_json::json!({ "type": kind }));
        }
    }
    namespaces.into()
}

fn a_shared_pid_namespace_has_a_process() -> Done {
    let t = Test::begin();
    let id = t.id();
    let network = Network::make(&t);
    let (shim, answer) = started_with(&t, &id, Dialect::ByPath, pod(&network, 0))?;
    let pid = answer.pid.cast_signed();
    assert!(pid > 0, "no process keeps the pid namespace");
    assert_eq!(look::stat(pid).expect("a process").ppid, shim.pid(&id));
    let (mut namespaces, spec) = spec(&answer);
    assert_eq!(namespaces.keys().collect::<Vec<_>>(), ["ipc", "network", "pid", "uts"]);
    assert_eq!(inside(&namespaces, "hostname"), "web");
    namespaces.remove("network");
    let link = fs::read_link(&namespaces["pid"]).expect("a namespace");
    let mut identities = identities(&namespaces);
    // nsenter itself stays outside; so its own name would be another one.
    identities.insert("pid".into(), link.display().to_string());
    let inner = t.id();
    let mut inner_bundle = bare::bundle(&t, &inner);
    inner_bundle.linux("namespaces", with_own(&spec));
    inner_bundle.write();
    let task = shim.task(&inner);
    task.create(&inner_bundle.path).expect("Create");
    task.start("").expect("Start");
    let others: Vec<i32> = look::descendants(shim.pid(&id)).into_iter().filter(|other| *other != pid).collect();
    assert_eq!(others.len(), 1, "{others:?}");
    assert_eq!(look::namespace(others[0], "pid"), look::namespace(pid, "pid"));
    task.finish();
    ended(shim, &id);
    are_gone(&identities);
    assert!(!look::is_alive(pid), "the process is left");
    assert!(namespaces.values().all(|path| !path.exists()), "{namespaces:?}");
    drop(network);
    t.end()
}
