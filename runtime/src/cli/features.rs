//! `proa features`: what this binary supports (features.md), true of the code and, but for filter flags, not of the host.

use super::{SPEC_VERSIONS, pretty, print};
use crate::error::Result;
use crate::plan::{NAMESPACES, memory_policy_words, seccomp_flags, seccomp_words};
use crate::sys;
use serde::Serialize;
use std::collections::BTreeMap;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Features {
    oci_version_min: &'static str,
    oci_version_max: &'static str,
    hooks: [&'static str; 6],
    mount_options: Vec<&'static str>,
    linux: Linux,
    annotations: BTreeMap<&'static str, String>,
    potentially_unsafe_config_annotations: [&'static str; 0],
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Linux {
    namespaces: Vec<&'static str>,
    capabilities: Vec<String>,
    cgroup: Cgroup,
    seccomp: Seccomp,
    apparmor: Enabled,
    selinux: Enabled,
    intel_rdt: IntelRdt,
    memory_policy: MemoryPolicy,
    mount_extensions: MountExtensions,
    net_devices: Enabled,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Cgroup {
    v1: bool,
    v2: bool,
    systemd: bool,
    systemd_user: bool,
    rdma: bool,
}

#[derive(Serialize)]
struct Enabled {
    enabled: bool,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Seccomp {
    enabled: bool,
    actions: Vec<&'static str>,
    operators: Vec<&'static str>,
    archs: Vec<&'static str>,
    known_flags: Vec<&'static str>,
    supported_flags: Vec<&'static str>,
}

impl Seccomp {
    /// The flags that are supported depend on the kernel, unlike all else here.
    fn new() -> Seccomp {
        let [actions, operators, archs] = seccomp_words();
        let supported = seccomp_flags().iter().filter(|(_, flag)| sys::has_filter_flags(*flag));
        Seccomp {
            enabled: true,
            actions,
            operators,
            archs,
            known_flags: seccomp_flags().iter().map(|(name, _)| *name).collect(),
            supported_flags: supported.map(|(name, _)| *name).collect(),
        }
    }
}

#[derive(Serialize)]
struct IntelRdt {
    enabled: bool,
    schemata: bool,
    monitoring: bool,
}

#[derive(Serialize)]
struct MemoryPolicy {
    modes: Vec<&'static str>,
    flags: Vec<&'static str>,
}

#[derive(Serialize)]
struct MountExtensions {
    idmap: Enabled,
}

pub(super) fn command() -> Result<()> {
    let mut capabilities: Vec<_> = caps::all().into_iter().collect();
    capabilities.sort_unstable_by_key(caps::Capability::index);
    let (modes, flags) = memory_policy_words();
    let features = Features {
        oci_version_min: SPEC_VERSIONS.0,
        oci_version_max: SPEC_VERSIONS.1,
        hooks: ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"],
        mount_options: rootfs::options::supported().collect(),
        linux: Linux {
            namespaces: NAMESPACES.iter().map(|(name, ..)| *name).collect(),
            capabilities: capabilities.iter().map(ToString::to_string).collect(),
            cgroup: Cgroup { v1: true, v2: true, systemd: true, systemd_user: true, rdma: true },
            seccomp: Seccomp::new(),
            apparmor: Enabled { enabled: true },
            selinux: Enabled { enabled: true },
            intel_rdt: IntelRdt { enabled: true, schemata: true, monitoring: true },
            memory_policy: MemoryPolicy { modes, flags },
            mount_extensions: MountExtensions { idmap: Enabled { enabled: true } },
            net_devices: Enabled { enabled: true },
        },
        annotations: BTreeMap::from([
            // Where CRIU is installed.
            ("org.opencontainers.runc.checkpoint.enabled", "true".to_owned()),
            // Whose system calls a seccomp profile can name.
            ("io.github.proa.seccomp.kernel", crate::seccomp::KERNEL.to_owned()),
            ("io.github.proa.version", env!("CARGO_PKG_VERSION").to_owned()),
            ("io.github.proa.commit", super::COMMIT.to_owned()),
        ]),
        potentially_unsafe_config_annotations: [],
    };
    print(&(pretty(&features, "    ")? + "\n"))
}
