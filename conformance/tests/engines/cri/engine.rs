//! containerd with its CRI plugin, configured as docs/engines-kubernetes.md says, and crictl.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command};
use std::sync::Mutex;
use std::time::Duration;

use conformance::bundle::write_script;
use conformance::look::{self, eventually_within};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde_json::Value;

use super::images;

/// The page that a reader configures containerd by.
pub(crate) const PAGE: &str = include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/engines-kubernetes.md"));
/// The name of the runtime handler there.
pub(crate) const HANDLER: &str = "proa";
/// The one there whose pods have no pause container.
pub(crate) const PODS_HANDLER: &str = "proa-pods";
/// The other name of the shim that the page tells of.
const OWN_SHIM: &str = "io.containerd.proa.v2";
pub(crate) const ENDPOINT: &str = "unix:///run/containerd/containerd.sock";
/// Where its log and the reports are; a tmpfs that ends with the root.
pub(crate) const DIR: &str = "/tmp/cri";

/// The first block of a language in the page.
pub(crate) fn block(language: &str) -> &'static str {
    blocks(language).next().expect("the page has no such block")
}

fn blocks(language: &str) -> impl Iterator<Item = &'static str> {
    let parts = PAGE.split(&format!("```{language}\n")).skip(1).collect::<Vec<_>>().into_iter();
    parts.map(|rest| rest.split_once("```").expect("a block without an end").0)
}

/// The containerd that runs; it ends when this is dropped.
#[derive(Debug)]
pub(crate) struct Containerd(());

static DAEMON: Mutex<Option<Child>> = Mutex::new(None);

impl Containerd {
    /// Starts containerd, with images from the registry at `registry`, and waits until it can run pods.
    pub(crate) fn start(registry: &str) -> Self {
        fs::create_dir_all(DIR).expect("cannot make a directory");
        prepare_network();
        fs::create_dir_all("/etc/containerd/certs.d/_default").expect("cannot make a directory");
        let hosts = format!("server = 'http://{registry}'\n[host.'http://{registry}']\n");
        write("/etc/containerd/certs.d/_default/hosts.toml", &hosts);
        write("/etc/containerd/config.toml", &config());
        link_commands();
        let containerd = Self(());
        Self::run();
        containerd
    }

    fn run() {
        let path = path();
        let log = fs::File::options().create(true).append(true).open(format!("{DIR}/containerd.log"));
        let log = log.expect("cannot make a log");
        let mut command = Command::new("containerd");
        command.env("PATH", path).stdout(log.try_clone().expect("a file")).stderr(log);
        let child = command.spawn().expect("cannot start containerd");
        *DAEMON.lock().expect("a lock") = Some(child);
        let ready = eventually_within(Duration::from_secs(30), || is_ready(&info()));
        assert!(ready, "containerd is not ready for pods: {}", log_tail());
    }

    /// Kills it, and starts it anew.
    pub(crate) fn crash() {
        let mut child = DAEMON.lock().expect("a lock").take().expect("containerd runs");
        child.kill().expect("cannot kill containerd");
        child.wait().expect("cannot wait for containerd");
        Self::run();
    }
}

impl Drop for Containerd {
    fn drop(&mut self) {
        let Some(mut child) = DAEMON.lock().expect("a lock").take() else { return };
        let pid = Pid::from_raw(i32::try_from(child.id()).expect("a pid"));
        kill(pid, Signal::SIGTERM).ok();
        if !eventually_within(Duration::from_secs(20), || matches!(child.try_wait(), Ok(Some(_)))) {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// What the reader is told to write, with what this setting needs beside it.
fn config() -> String {
    let bin = format!("{DIR}/bin");
    let page = if is_control() { block("toml").to_owned() } else { blocks("toml").collect() };
    let systemd = look::has_systemd();
    let mut told = replace(&page, "SystemdCgroup = true", &format!("SystemdCgroup = {systemd}"));
    told = replace(&told, "BinaryName = '/usr/local/bin/", &format!("BinaryName = '{bin}/"));
    let path = "  runtime_path = '/usr/local/bin/containerd-shim-proa-v2'\n";
    let ours = if is_control() { String::new() } else { replace(path, "/usr/local/bin", &bin) };
    told = replace(&told, path, &ours);
    format!(
        "{told}
# The other way to say it.
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.by-type]
  runtime_type = '{}'
[plugins.'io.containerd.cri.v1.runtime'.containerd.runtimes.by-type.options]
  BinaryName = '{bin}/proa'
  SystemdCgroup = {systemd}
[plugins.'io.containerd.cri.v1.runtime']
  # A machine may not let even root lower what the out-of-memory killer goes by.
  restrict_oom_score_adj = true
[plugins.'io.containerd.cri.v1.images'.pinned_images]
  sandbox = '{}'
[plugins.'io.containerd.cri.v1.images'.registry]
  config_path = '/etc/containerd/certs.d'
[plugins.'io.containerd.nri.v1.nri']
  # critest holds a plugin's answer back for seconds.
  plugin_request_timeout = '60s'
",
        shim_type(),
        images::SANDBOX
    )
}

/// The type that names the shim under test.
fn shim_type() -> String {
    std::env::var("SHIM_RUNTIME").unwrap_or_else(|_| OWN_SHIM.to_owned())
}

/// The program that every pod's first process is to be a child of.
pub(crate) fn shim() -> PathBuf {
    let shim = if is_control() { PathBuf::from("/usr/bin/containerd-shim-runc-v2") } else { crate::shim() };
    shim.canonicalize().unwrap_or_else(|error| panic!("{}: {error}", shim.display()))
}

/// Whether another shim than the project's runs the runtime.
pub(crate) fn is_control() -> bool {
    shim_type() != OWN_SHIM
}

fn replace(text: &str, from: &str, to: &str) -> String {
    assert!(text.contains(from), "the page does not say {from}");
    text.replace(from, to)
}

/// A directory for the PATH of containerd, where the shim and the runtime have the names that the page gives them.
fn commands() -> PathBuf {
    Path::new(DIR).join("bin")
}

/// A PATH with that directory in front.
pub(crate) fn path() -> String {
    format!("{}:{}", commands().display(), std::env::var("PATH").unwrap_or_default())
}

fn link_commands() {
    let dir = commands();
    fs::create_dir_all(&dir).expect("cannot make a directory");
    let mut programs = vec![("proa", crate::runtime())];
    if !is_control() {
        programs.push(("containerd-shim-proa-v2", crate::shim()));
    }
    for (name, program) in programs {
        assert!(program.exists(), "{} is not there", program.display());
        symlink(program, dir.join(name)).expect("cannot link a program");
    }
    // critest loads its profiles of AppArmor by it, root or not.
    write_script(&dir.join("sudo"), "exec \"$@\"");
}

fn prepare_network() {
    fs::create_dir_all("/opt/cni").expect("cannot make a directory");
    symlink("/usr/lib/cni", "/opt/cni/bin").expect("cannot link the plugins");
    fs::create_dir_all("/etc/cni/net.d").expect("cannot make a directory");
    // promiscMode and hairpin as in the tests of containerd and of cri-tools: a pod may reach itself by a host port.
    write(
        "/etc/cni/net.d/10-pods.conflist",
        r#"{"cniVersion": "1.0.0", "name": "pods", "plugins": [
          {"type": "bridge", "bridge": "cni0", "isGateway": true, "ipMasq": true, "promiscMode": true,
           "ipam": {"type": "host-local", "ranges": [[{"subnet": "10.88.0.0/16"}]], "routes": [{"dst": "0.0.0.0/0"}]}},
          {"type": "portmap", "capabilities": {"portMappings": true}}]}"#,
    );
    // The loopback is no way out unless the kernel is told so; a host port on 127.0.0.1 needs it.
    fs::write("/proc/sys/net/ipv4/conf/all/route_localnet", "1").ok();
}

fn write(path: &str, text: &str) {
    fs::write(path, text).unwrap_or_else(|error| panic!("cannot write {path}: {error}"));
}

/// The tools of `conformance/cri/build`.
pub(crate) fn tools() -> PathBuf {
    PathBuf::from(std::env::var_os("CRI_TOOLS").expect("CRI_TOOLS names no folder: run conformance/cri/build"))
}

/// A call of crictl that takes no longer than a minute, times `slowness`.
pub(crate) fn crictl(args: &[&str]) -> std::process::Output {
    let mut command = Command::new("timeout");
    let seconds = 60 * look::slowness();
    command.args(["-k", "5", &seconds.to_string()]).arg(tools().join("crictl"));
    command.args(["--timeout", &format!("{seconds}s"), "--runtime-endpoint", ENDPOINT]).args(args);
    command.output().expect("cannot run timeout")
}

/// What crictl prints; it has to succeed.
#[track_caller]
pub(crate) fn said(args: &[&str]) -> String {
    let output = crictl(args);
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "crictl {}: {}: {error}", args.join(" "), output.status);
    String::from_utf8_lossy(&output.stdout).trim().to_owned()
}

/// What crictl prints as JSON.
#[track_caller]
pub(crate) fn json(args: &[&str]) -> Value {
    let text = said(args);
    serde_json::from_str(&text).unwrap_or_else(|error| panic!("crictl {}: {error}: {text}", args.join(" ")))
}

/// `crictl info`; nothing while containerd does not answer.
pub(crate) fn info() -> Value {
    serde_json::from_slice(&crictl(&["info"]).stdout).unwrap_or_default()
}

fn is_ready(info: &Value) -> bool {
    let conditions = info["status"]["conditions"].as_array().map(Vec::as_slice).unwrap_or_default();
    !conditions.is_empty() && conditions.iter().all(|condition| condition["status"] == true)
}

/// The end of containerd's log.
pub(crate) fn log_tail() -> String {
    let log = fs::read_to_string(format!("{DIR}/containerd.log")).unwrap_or_default();
    let lines: Vec<&str> = log.lines().collect();
    lines[lines.len().saturating_sub(20)..].join("\n")
}
