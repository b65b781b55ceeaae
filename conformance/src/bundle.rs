//! A bundle on disk: a busybox root file system and a config.json that is kept
//! as a JSON value until it is written, so that a test can put anything in it,
//! also what no type would hold.
//!
//! Not here: what the runtime makes of it.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};

use serde_json::{Value, json};

/// Applets that tests use, as links to busybox in the container's /bin.
const APPLETS: &[&str] = &[
    "[", "basename", "cat", "chmod", "chown", "chroot", "cp", "cut", "date", "dd", "df", "dirname", "echo", "env",
    "expr", "false", "find", "grep", "head", "hostname", "id", "ifconfig", "ionice", "ip", "kill", "ln", "ls", "mkdir",
    "mkfifo", "mknod", "mount", "mv", "nproc", "printf", "ps", "pwd", "readlink", "rm", "rmdir", "sed", "seq",
    "setsid", "sh", "sleep", "sort", "stat", "stty", "tail", "tee", "test", "top", "touch", "tr", "true", "tty",
    "umount", "uname", "wc", "which", "xargs", "yes",
];

/// Where Debian's busybox-static puts its binary.
const BUSYBOX: &[&str] = &["/bin/busybox", "/usr/bin/busybox"];

/// The one copy of busybox that the root file systems of a run hard-link.
#[derive(Debug)]
pub struct Template {
    busybox: PathBuf,
}

impl Template {
    /// Copies the host's static busybox into `dir`.
    pub fn prepare(dir: &Path) -> Self {
        let from = BUSYBOX
            .iter()
            .map(Path::new)
            .find(|path| path.exists())
            .expect("no /bin/busybox: install Debian's package busybox-static");
        let busybox = dir.join("busybox");
        fs::copy(from, &busybox).expect("cannot copy busybox");
        Self { busybox }
    }

    /// Makes a root file system with busybox, its applets and a few files below /etc.
    pub fn fill(&self, rootfs: &Path) {
        for dir in ["bin", "dev", "etc", "home", "proc", "root", "sys", "tmp", "usr", "var"] {
            fs::create_dir_all(rootfs.join(dir)).expect("cannot make the root file system");
        }
        fs::hard_link(&self.busybox, rootfs.join("bin/busybox")).expect("cannot link busybox");
        for applet in APPLETS {
            symlink("busybox", rootfs.join("bin").join(applet)).expect("cannot link an applet");
        }
        let passwd = "root:x:0:0:root:/root:/bin/sh\nguest:x:1000:1000:a guest:/home/guest:/bin/sh\n";
        fs::write(rootfs.join("etc/passwd"), passwd).expect("cannot write etc/passwd");
        fs::write(rootfs.join("etc/group"), "root:x:0:\nguest:x:1000:\n").expect("cannot write etc/group");
    }
}

/// A bundle directory, and the config.json that [`Bundle::write`] puts there.
#[derive(Debug)]
pub struct Bundle {
    /// The bundle's directory, absolute.
    pub path: PathBuf,
    /// The content of config.json.
    pub config: Value,
}

impl Bundle {
    /// Makes `path` with a filled `rootfs` and the default config.
    pub fn new(path: PathBuf, template: &Template) -> Self {
        let bundle = Self { path, config: default_config() };
        template.fill(&bundle.rootfs());
        bundle
    }

    /// The root file system as the host sees it.
    pub fn rootfs(&self) -> PathBuf {
        self.path.join("rootfs")
    }

    /// A path of the container as the host sees it, without following links of it.
    pub fn inside(&self, path: &str) -> PathBuf {
        self.rootfs().join(path.trim_start_matches('/'))
    }

    /// Writes config.json; every call that names the bundle does so first.
    pub fn write(&self) {
        let text = serde_json::to_string_pretty(&self.config).expect("a value is JSON");
        fs::write(self.path.join("config.json"), text).expect("cannot write config.json");
    }

    /// Sets the program and its arguments.
    pub fn args(&mut self, args: &[&str]) -> &mut Self {
        self.config["process"]["args"] = json!(args);
        self
    }

    /// Runs `script` by `/bin/sh -c`.
    pub fn sh(&mut self, script: &str) -> &mut Self {
        self.args(&["/bin/sh", "-c", script])
    }

    /// Sets `process.NAME`.
    pub fn process(&mut self, name: &str, value: Value) -> &mut Self {
        self.config["process"][name] = value;
        self
    }

    /// Sets `linux.NAME`.
    pub fn linux(&mut self, name: &str, value: Value) -> &mut Self {
        self.config["linux"][name] = value;
        self
    }

    /// Sets a property of the top level.
    pub fn set(&mut self, name: &str, value: Value) -> &mut Self {
        self.config[name] = value;
        self
    }

    /// Removes the property a JSON pointer names (`/process/cwd`).
    pub fn remove(&mut self, pointer: &str) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer starts with /");
        let parent = self.config.pointer_mut(parent).expect("no such property to remove from");
        parent.as_object_mut().expect("not an object").remove(name);
        self
    }

    /// Appends an entry to an array property, making the array where there is none.
    pub fn push(&mut self, pointer: &str, value: Value) -> &mut Self {
        let (parent, name) = pointer.rsplit_once('/').expect("a pointer starts with /");
        let parent = self.config.pointer_mut(parent).expect("no such property to append to");
        match &mut parent[name] {
            Value::Array(list) => list.push(value),
            slot => *slot = json!([value]),
        }
        self
    }

    /// Appends a mount.
    pub fn mount(&mut self, destination: &str, kind: &str, source: &str, options: &[&str]) -> &mut Self {
        self.push("/mounts", json!({"destination": destination, "type": kind, "source": source, "options": options}))
    }

    /// Appends a bind mount of a host path.
    pub fn bind(&mut self, source: &Path, destination: &str, options: &[&str]) -> &mut Self {
        let source = source.to_str().expect("paths of tests are UTF-8");
        self.mount(destination, "bind", source, options)
    }

    /// The mount with this destination.
    pub fn mount_at(&mut self, destination: &str) -> &mut Value {
        let mounts = self.config["mounts"].as_array_mut().expect("mounts is an array");
        mounts.iter_mut().find(|mount| mount["destination"] == destination).expect("no mount with this destination")
    }

    /// Adds a new namespace of this type, or replaces the entry there is.
    pub fn namespace(&mut self, kind: &str, path: Option<&Path>) -> &mut Self {
        self.without_namespace(kind);
        let mut entry = json!({"type": kind});
        if let Some(path) = path {
            entry["path"] = json!(path);
        }
        self.push("/linux/namespaces", entry)
    }

    /// Shares the runtime's namespace of this type.
    pub fn without_namespace(&mut self, kind: &str) -> &mut Self {
        let list = self.config["linux"]["namespaces"].as_array_mut().expect("namespaces is an array");
        list.retain(|entry| entry["type"] != kind);
        self
    }

    /// A user namespace whose ids 0 to 65535 are the host's from `first` on; the
    /// root file system is given to it.
    pub fn user_namespace(&mut self, first: u32) -> &mut Self {
        let map = json!([{"containerID": 0, "hostID": first, "size": 65536}]);
        self.namespace("user", None);
        self.linux("uidMappings", map.clone()).linux("gidMappings", map);
        give(&self.rootfs(), first);
        self
    }

    /// Sets the capabilities of the four sets that a plain root has, ambient left out.
    pub fn capabilities(&mut self, names: &[&str]) -> &mut Self {
        self.config["process"]["capabilities"] = json!({"bounding": names, "effective": names, "permitted": names});
        self
    }

    /// Writes an executable shell script below the container's root.
    pub fn script(&self, path: &str, text: &str) -> PathBuf {
        let file = self.inside(path);
        write_script(&file, text);
        file
    }
}

/// Writes an executable shell script.
pub fn write_script(file: &Path, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    fs::write(file, format!("#!/bin/sh\n{text}\n")).expect("cannot write a script");
    fs::set_permissions(file, fs::Permissions::from_mode(0o755)).expect("cannot chmod a script");
}

/// Gives every directory and plain file below `path` to user and group `id`;
/// busybox itself, which all root file systems share, stays root's.
pub fn give(path: &Path, id: u32) {
    use std::os::unix::fs::{MetadataExt, lchown};
    for entry in fs::read_dir(path).expect("cannot list the root file system") {
        let entry = entry.expect("cannot list the root file system");
        let meta = entry.metadata().expect("cannot stat the root file system");
        if meta.is_dir() {
            give(&entry.path(), id);
        } else if meta.nlink() == 1 {
            lchown(entry.path(), Some(id), Some(id)).expect("cannot chown the root file system");
        }
    }
    lchown(path, Some(id), Some(id)).expect("cannot chown the root file system");
}

/// What runtimes write for `spec`, but without a terminal, with a writable root
/// and with a program that ends at once.
fn default_config() -> Value {
    let capabilities = ["CAP_AUDIT_WRITE", "CAP_KILL", "CAP_NET_BIND_SERVICE"];
    json!({
        "ociVersion": "1.0.2",
        "process": {
            "terminal": false,
            "user": {"uid": 0, "gid": 0},
            "args": ["/bin/true"],
            "env": ["PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "TERM=xterm"],
            "cwd": "/",
            "capabilities": {"bounding": capabilities, "effective": capabilities, "permitted": capabilities},
            "rlimits": [{"type": "RLIMIT_NOFILE", "hard": 1024, "soft": 1024}],
            "noNewPrivileges": true,
        },
        "root": {"path": "rootfs", "readonly": false},
        "hostname": "conformance",
        "mounts": [
            {"destination": "/proc", "type": "proc", "source": "proc"},
            {"destination": "/dev", "type": "tmpfs", "source": "tmpfs",
             "options": ["nosuid", "strictatime", "mode=755", "size=65536k"]},
            {"destination": "/dev/pts", "type": "devpts", "source": "devpts",
             "options": ["nosuid", "noexec", "newinstance", "ptmxmode=0666", "mode=0620", "gid=5"]},
            {"destination": "/dev/shm", "type": "tmpfs", "source": "shm",
             "options": ["nosuid", "noexec", "nodev", "mode=1777", "size=65536k"]},
            {"destination": "/dev/mqueue", "type": "mqueue", "source": "mqueue",
             "options": ["nosuid", "noexec", "nodev"]},
            {"destination": "/sys", "type": "sysfs", "source": "sysfs",
             "options": ["nosuid", "noexec", "nodev", "ro"]},
        ],
        "linux": {
            "resources": {"devices": [{"allow": false, "access": "rwm"}]},
            "namespaces": [
                {"type": "pid"}, {"type": "network"}, {"type": "ipc"}, {"type": "uts"}, {"type": "mount"},
            ],
            "maskedPaths": [
                "/proc/acpi", "/proc/asound", "/proc/kcore", "/proc/keys", "/proc/latency_stats",
                "/proc/timer_list", "/proc/timer_stats", "/proc/sched_debug", "/sys/firmware", "/proc/scsi",
            ],
            "readonlyPaths": ["/proc/bus", "/proc/fs", "/proc/irq", "/proc/sys", "/proc/sysrq-trigger"],
        },
    })
}
