//! `linux` (config-linux.md), but for resources and seccomp.

use super::{List, Map, Resources, Seccomp, Str};
use serde::Deserialize;

super::base::objects!(Linux Namespace Device NetDevice IntelRdt MemoryPolicy Personality; IdMapping TimeOffset);

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Linux<'a> {
    #[serde(borrow)]
    pub namespaces: List<Namespace<'a>>,
    pub uid_mappings: List<IdMapping>,
    pub gid_mappings: List<IdMapping>,
    #[serde(borrow)]
    pub time_offsets: Map<'a, TimeOffset>,
    #[serde(borrow)]
    pub devices: List<Device<'a>>,
    #[serde(borrow)]
    pub net_devices: Map<'a, NetDevice<'a>>,
    #[serde(borrow)]
    pub cgroups_path: Option<Str<'a>>,
    #[serde(borrow)]
    pub resources: Option<Resources<'a>>,
    #[serde(borrow)]
    pub intel_rdt: Option<IntelRdt<'a>>,
    #[serde(borrow)]
    pub memory_policy: Option<MemoryPolicy<'a>>,
    #[serde(borrow)]
    pub sysctl: Map<'a, Str<'a>>,
    #[serde(borrow)]
    pub seccomp: Option<Seccomp<'a>>,
    #[serde(borrow)]
    pub rootfs_propagation: Option<Str<'a>>,
    #[serde(borrow)]
    pub masked_paths: List<Str<'a>>,
    #[serde(borrow)]
    pub readonly_paths: List<Str<'a>>,
    #[serde(borrow)]
    pub mount_label: Option<Str<'a>>,
    #[serde(borrow)]
    pub personality: Option<Personality<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Namespace<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Str<'a>>,
    #[serde(borrow)]
    pub path: Option<Str<'a>>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize, PartialEq, Eq)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct IdMapping {
    #[serde(rename = "containerID")]
    pub container_id: Option<u32>,
    #[serde(rename = "hostID")]
    pub host_id: Option<u32>,
    pub size: Option<u32>,
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct TimeOffset {
    pub secs: Option<i64>,
    pub nanosecs: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Device<'a> {
    #[serde(borrow, rename = "type")]
    pub kind: Option<Str<'a>>,
    #[serde(borrow)]
    pub path: Option<Str<'a>>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub file_mode: Option<u32>,
    pub uid: Option<u32>,
    pub gid: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct NetDevice<'a> {
    #[serde(borrow)]
    pub name: Option<Str<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct IntelRdt<'a> {
    #[serde(borrow, rename = "closID")]
    pub clos_id: Option<Str<'a>>,
    #[serde(borrow)]
    pub schemata: List<Str<'a>>,
    #[serde(borrow, rename = "l3CacheSchema")]
    pub l3_cache_schema: Option<Str<'a>>,
    #[serde(borrow)]
    pub mem_bw_schema: Option<Str<'a>>,
    pub enable_monitoring: Option<bool>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct MemoryPolicy<'a> {
    #[serde(borrow)]
    pub mode: Option<Str<'a>>,
    #[serde(borrow)]
    pub nodes: Option<Str<'a>>,
    #[serde(borrow)]
    pub flags: List<Str<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Personality<'a> {
    #[serde(borrow)]
    pub domain: Option<Str<'a>>,
    #[serde(borrow)]
    pub flags: List<Str<'a>>,
}
