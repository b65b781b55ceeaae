//! What the shim reads of a bundle's config.json: nothing but what it must know before the runtime has read it.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;

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
        GROUPS.iter().find_map(|name| self.annotations.get(*name)).map(String::as_str).filter(|it| !it.is_empty())
    }

    /// Whether the kernel ends all processes of the container with its init.
    pub(crate) fn has_own_pid_namespace(&self) -> bool {
        self.linux.namespaces.iter().any(|it| it.kind == "pid" && it.path.is_empty())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
