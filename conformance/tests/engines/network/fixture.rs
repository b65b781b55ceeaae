//! A container on a network, and what networks there are on the machine.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::Duration;

use conformance::bundle::{Bundle, Template};
use conformance::leaks::{Scope, Snapshot};
use conformance::look;
use serde_json::Value;

use crate::command::{Call, Said};

pub(crate) const PROA: &str = "/usr/local/bin/proa";
/// The network of docs/networks.md.
pub(crate) const NETWORK: &str = "web";
/// Where proa keeps what it knows of containers on networks.
pub(crate) const CACHE: &str = "/var/lib/proa/networks";
const BASE: &str = "/tmp/guests";
/// What the containers need on top of what others of the suite do.
const APPLETS: &[&str] = &["httpd", "nc", "ping", "wget"];

static TEMPLATE: OnceLock<Template> = OnceLock::new();
static BEFORE: OnceLock<(Snapshot, BTreeSet<String>)> = OnceLock::new();
static NUMBERS: AtomicU32 = AtomicU32::new(0);

pub(crate) fn begin() {
    fs::create_dir_all(BASE).expect("cannot make a directory");
    TEMPLATE.set(Template::prepare(Path::new(BASE))).expect("only one engine is begun");
}

/// From now on nothing may be there that is not there now.
pub(crate) fn remember() {
    BEFORE.set((scope().snapshot(), networks())).expect("only one engine is begun");
    crate::AFTER.set(left).expect("only one engine is begun");
}

fn scope() -> Scope {
    Scope { base: PathBuf::from(BASE), tag: "guest-".to_owned() }
}

/// What is there beyond what was there, or is gone, and does not become as before within two seconds.
fn left() -> Vec<String> {
    let (before, networks_before) = BEFORE.get().expect("remembered");
    let mut left = Vec::new();
    look::eventually_within(Duration::from_secs(2), || {
        let now = networks();
        left = now.difference(networks_before).cloned().collect();
        left.extend(networks_before.difference(&now).map(|thing| format!("gone: {thing}")));
        left.is_empty()
    });
    left.extend(scope().leaks(before, Path::new("/run/proa")));
    // The next test begins as if this one had left nothing.
    for id in names(CACHE) {
        Call::new(PROA, &["delete", "--force", &id]).run();
    }
    let pruned = Call::new(PROA, &["network", "prune"]).run();
    left.extend(pruned.err.lines().map(|line| format!("said by prune: {line}")));
    left
}

/// All that plugins make on the host: links, addresses, routes, rules, leases; and what proa keeps.
pub(crate) fn networks() -> BTreeSet<String> {
    let mut things = BTreeSet::new();
    let json = |words: &[&str]| -> Vec<Value> {
        serde_json::from_str(&Call::new("ip", words).run().ok().out).expect("ip prints JSON")
    };
    for link in json(&["-j", "addr"]) {
        things.insert(format!("link {}", link["ifname"]));
        for address in link["addr_info"].as_array().into_iter().flatten() {
            things.extend(lasting(&address["local"]).map(|local| format!("address {local} of {}", link["ifname"])));
        }
    }
    for family in ["-4", "-6"] {
        for route in json(&["-j", family, "route", "show", "table", "all"]) {
            things.extend(lasting(&route["dst"]).map(|dst| format!("route {} {dst} {}", route["type"], route["dev"])));
        }
    }
    for program in ["iptables-save", "ip6tables-save"] {
        let text = Call::new(program, &[]).run().ok().out;
        // Without comments and without what the chains have counted.
        let lines = text.lines().filter(|line| !line.starts_with('#'));
        things.extend(lines.map(|line| format!("{program} {}", line.split(" [").next().unwrap_or_default())));
    }
    let text = Call::new("nft", &["--stateless", "list", "ruleset"]).run().ok().out;
    things.extend(text.lines().map(|line| format!("nft {}", line.trim())));
    let mut dirs = vec![PathBuf::from("/var/lib/cni"), PathBuf::from(CACHE)];
    while let Some(dir) = dirs.pop() {
        for entry in fs::read_dir(&dir).into_iter().flatten().flatten() {
            things.insert(format!("file {}", entry.path().display()));
            dirs.extend(entry.file_type().is_ok_and(|kind| kind.is_dir()).then(|| entry.path()));
        }
    }
    let mounts = fs::read_to_string("/proc/self/mountinfo").expect("a mount table");
    things.extend(mounts.lines().filter(|line| line.contains(" - nsfs ")).map(|line| format!("mount {line}")));
    things
}

/// An address, unless the kernel itself gives it to a link, at a time of its own.
fn lasting(address: &Value) -> Option<&str> {
    address.as_str().filter(|text| !text.starts_with("fe80:") && !text.starts_with("ff00:"))
}

/// What is in a directory.
pub(crate) fn names(dir: &str) -> Vec<String> {
    let entries = fs::read_dir(dir).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}

/// `proa network hooks` with these words.
pub(crate) fn hooks(words: &[&str]) -> Said {
    Call::new(PROA, &[&["network", "hooks"], words].concat()).run()
}

/// A bundle whose container is to be on a network. It is deleted at the end by the runtime that made it.
pub(crate) struct Guest {
    pub(crate) id: String,
    pub(crate) runtime: &'static str,
    pub(crate) bundle: Bundle,
}

impl Guest {
    /// On this network, with these ports published.
    pub(crate) fn new(network: &str, publish: &[&str]) -> Self {
        let mut words: Vec<&str> = publish.iter().flat_map(|word| ["--publish", *word]).collect();
        words.push(network);
        Self::with(&words)
    }

    /// As `proa network hooks` says with these words.
    pub(crate) fn with(words: &[&str]) -> Self {
        let id = format!("guest-{}", NUMBERS.fetch_add(1, Ordering::Relaxed));
        let bundle = Bundle::new(Path::new(BASE).join(&id), TEMPLATE.get().expect("begun"));
        for applet in APPLETS {
            std::os::unix::fs::symlink("busybox", bundle.inside("/bin").join(applet)).expect("cannot link an applet");
        }
        let mut guest = Self { id, runtime: PROA, bundle };
        let wanted: Value = serde_json::from_str(&hooks(words).text()).expect("JSON");
        if !wanted["hooks"].is_null() {
            guest.bundle.set("hooks", wanted["hooks"].clone());
        }
        guest.bundle.without_namespace("network");
        for namespace in wanted["linux"]["namespaces"].as_array().expect("a list") {
            guest.bundle.push("/linux/namespaces", namespace.clone());
        }
        guest.bundle.capabilities(&["CAP_NET_RAW", "CAP_NET_BIND_SERVICE", "CAP_KILL"]);
        guest
    }

    /// A command of its runtime.
    pub(crate) fn call(&self, words: &[&str]) -> Call {
        Call::new(self.runtime, words)
    }

    /// `create`, whatever comes of it.
    pub(crate) fn try_create(&mut self, args: &[&str]) -> Said {
        self.bundle.args(args).write();
        self.creation().run()
    }

    /// `create` of the bundle as it was written.
    pub(crate) fn creation(&self) -> Call {
        let bundle = self.bundle.path.to_str().expect("paths of tests are UTF-8");
        self.call(&["create", "--bundle", bundle, &self.id])
    }

    /// Creates and starts it.
    #[track_caller]
    pub(crate) fn started(mut self, args: &[&str]) -> Self {
        self.try_create(args).ok();
        self.call(&["start", &self.id]).run().ok();
        self
    }

    /// Runs a script in it, which must succeed; what it printed.
    #[track_caller]
    pub(crate) fn sh(&self, script: &str) -> String {
        self.call(&["exec", &self.id, "/bin/sh", "-c", script]).run().text()
    }

    /// Its address.
    #[track_caller]
    pub(crate) fn address(&self) -> String {
        let text = self.sh("ip -4 -o addr show eth0");
        let word = text.split_whitespace().skip_while(|word| *word != "inet").nth(1).unwrap_or_default();
        word.split('/').next().unwrap_or_default().to_owned()
    }

    /// The pid of its init.
    #[track_caller]
    pub(crate) fn pid(&self) -> i32 {
        let state: Value = serde_json::from_str(&self.call(&["state", &self.id]).run().text()).expect("JSON");
        state["pid"].as_i64().and_then(|pid| pid.try_into().ok()).expect("a pid")
    }

    /// `delete` of one that has ended, after it was killed.
    #[track_caller]
    pub(crate) fn delete(&self) {
        kill(self.pid());
        self.call(&["delete", &self.id]).run().ok();
    }

    /// The file that says how it got to its network.
    pub(crate) fn record(&self) -> PathBuf {
        Path::new(CACHE).join(&self.id).join("attachment.json")
    }
}

impl Drop for Guest {
    fn drop(&mut self) {
        self.call(&["delete", "--force", &self.id]).run();
        fs::remove_dir_all(&self.bundle.path).ok();
    }
}

/// Kills a process and waits for its end.
#[track_caller]
pub(crate) fn kill(pid: i32) {
    // One that has ended meanwhile is as good.
    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
    look::eventually("the process to end", || {
        conformance::reaper::collect();
        !look::is_alive(pid)
    });
}

/// What a server on this address of the host answers.
pub(crate) fn get(address: &str) -> Option<String> {
    use std::io::{Read, Write};
    let address = address.parse().expect("an address");
    let limit = Duration::from_secs(2);
    let mut stream = std::net::TcpStream::connect_timeout(&address, limit).ok()?;
    stream.set_read_timeout(Some(limit)).ok()?;
    stream.write_all(b"GET / HTTP/1.0\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    text.rsplit("\r\n\r\n").next().map(|body| body.trim().to_owned())
}

/// A server of a page of that text, for [`Guest::started`].
pub(crate) fn server(text: &str) -> [String; 3] {
    let script = format!("mkdir -p /tmp/www; echo {text} >/tmp/www/index.html; exec httpd -f -p 80 -h /tmp/www");
    ["/bin/sh".to_owned(), "-c".to_owned(), script]
}
