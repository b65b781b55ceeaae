//! What the shim reads of a bundle's config.json: nothing but what it must know before the runtime has read it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;

/// Containers with the same value share a shim: containerd's own annotation, then Kubernetes'.
const GROUPS: [&str; 2] = ["io.containerd.runc.v2.group", "io.kubernetes.cri.sandbox-id"];

/// Parts of a config.json.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Config {
    annotations: BTreeMap<String, String>,
    linux: Linux,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Linux {
    namespaces: Vec<Namespace>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Namespace {
    #[serde(rename = "type")]
    kind: String,
    path: String,
}

impl Config {
    /// Reads DIR/config.json.
    ///
    /// # Errors
    /// It cannot be read, or is no JSON of a container.
    pub(crate) fn read(bundle: &Path) -> std::io::Result<Config> {
        Ok(serde_json::from_slice(&std::fs::read(bundle.join("config.json"))?)?)
    }

    /// What containers of one shim have in common.
    pub(crate) fn group(&self) -> Option<&str> {
        let named = |name: &&str| self.annotations.get(*name).filter(|group| !group.is_empty());
        GROUPS.iter().find_map(named).map(String::as_str)
    }

    /// Whether the kernel ends all processes of the container with its init.
    pub(crate) fn has_own_pid_namespace(&self) -> bool {
        self.linux.namespaces.iter().any(|it| it.kind == "pid" && it.path.is_empty())
    }
}

/// Adds mounts to DIR/config.json: those of a pod, which containerd leaves to who makes the pod. Where the container has
/// one at the same place it keeps it, but for a /dev/shm of its own.
///
/// # Errors
/// The file cannot be read or written.
pub(crate) fn add_mounts(bundle: &Path, added: &[Value]) -> std::io::Result<()> {
    if added.is_empty() {
        return Ok(());
    }
    let path = bundle.join("config.json");
    let mut config: Value = serde_json::from_slice(&std::fs::read(&path)?)?;
    let Some(config) = config.as_object_mut() else { return Ok(()) };
    if let Value::Array(mounts) = config.entry("mounts").or_insert_with(|| Value::Array(Vec::new())) {
        for mount in added {
            let here = mounts.iter_mut().find(|it| it["destination"] == mount["destination"]);
            match here {
                Some(own) if own["destination"] == "/dev/shm" && own["type"] == "tmpfs" => *own = mount.clone(),
                Some(_) => {}
                None => mounts.push(mount.clone()),
            }
        }
    }
    let new = bundle.join("config.json.new");
    std::fs::write(&new, serde_json::to_vec(config)?)?;
    std::fs::rename(new, path)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn mounts_of_a_pod() {
        let bundle = std::env::temp_dir().join(format!("shim-bundle-{}", std::process::id()));
        std::fs::create_dir_all(&bundle).unwrap();
        let at = |destination: &str, kind: &str| serde_json::json!({ "destination": destination, "type": kind });
        let config = serde_json::json!({ "mounts": [at("/dev/shm", "tmpfs"), at("/etc/hosts", "own")], "kept": 1 });
        std::fs::write(bundle.join("config.json"), config.to_string()).unwrap();
        add_mounts(&bundle, &[at("/dev/shm", "bind"), at("/etc/hosts", "bind"), at("/etc/hostname", "bind")]).unwrap();
        let config: Value = serde_json::from_slice(&std::fs::read(bundle.join("config.json")).unwrap()).unwrap();
        let kinds: Vec<_> =
            config["mounts"].as_array().unwrap().iter().map(|it| it["type"].as_str().unwrap()).collect();
        assert_eq!((kinds.as_slice(), &config["kept"]), (["bind", "own", "bind"].as_slice(), &Value::from(1)));
        std::fs::remove_dir_all(&bundle).unwrap();
    }

    #[test]
    fn groups_and_namespaces() {
        let of = |text: &str| serde_json::from_str::<Config>(text).unwrap();
        let pod = of(r#"{"annotations": {"io.kubernetes.cri.sandbox-id": "pod", "x": "y"},
                         "linux": {"namespaces": [{"type": "pid", "path": "/proc/1/ns/pid"}]}}"#);
        assert_eq!((pod.group(), pod.has_own_pid_namespace()), (Some("pod"), false));
        let alone = of(r#"{"linux": {"namespaces": [{"type": "pid"}]}}"#);
        assert_eq!((alone.group(), alone.has_own_pid_namespace()), (None, true));
        assert!(!of("{}").has_own_pid_namespace());
    }
}
