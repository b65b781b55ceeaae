//! `linux.resources` (config-linux.md, Control groups). Sizes in bytes, times in microseconds.

use super::{List, Map, Str};
use serde::Deserialize;

super::base::objects!(Resources DeviceRule Cpu HugepageLimit Network Priority; Memory Pids BlockIo WeightDevice ThrottleDevice Rdma);

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Resources<'a> {
    #[serde(borrow)]
    pub devices: List<DeviceRule<'a>>,
    pub memory: Option<Memory>,
    #[serde(borrow)]
    pub cpu: Option<Cpu<'a>>,
    pub pids: Option<Pids>,
    #[serde(rename = "blockIO")]
    pub block_io: Option<BlockIo>,
    #[serde(borrow)]
    pub hugepage_limits: List<HugepageLimit<'a>>,
    #[serde(borrow)]
    pub network: Option<Network<'a>>,
    #[serde(borrow)]
    pub rdma: Map<'a, Rdma>,
    #[serde(borrow)]
    pub unified: Map<'a, Str<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct DeviceRule<'a> {
    pub allow: Option<bool>,
    #[serde(borrow, rename = "type")]
    pub kind: Option<Str<'a>>,
    pub major: Option<i64>,
    pub minor: Option<i64>,
    #[serde(borrow)]
    pub access: Option<Str<'a>>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Memory {
    pub limit: Option<i64>,
    pub reservation: Option<i64>,
    pub swap: Option<i64>,
    pub kernel: Option<i64>,
    #[serde(rename = "kernelTCP")]
    pub kernel_tcp: Option<i64>,
    pub swappiness: Option<u64>,
    #[serde(rename = "disableOOMKiller")]
    pub disable_oom_killer: Option<bool>,
    pub use_hierarchy: Option<bool>,
    pub check_before_update: Option<bool>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Cpu<'a> {
    pub shares: Option<u64>,
    pub quota: Option<i64>,
    pub burst: Option<u64>,
    pub period: Option<u64>,
    pub realtime_runtime: Option<i64>,
    pub realtime_period: Option<u64>,
    #[serde(borrow)]
    pub cpus: Option<Str<'a>>,
    #[serde(borrow)]
    pub mems: Option<Str<'a>>,
    pub idle: Option<i64>,
}

#[derive(Debug, Default, Deserialize, PartialEq)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Pids {
    pub limit: Option<i64>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct BlockIo {
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
    pub weight_device: List<WeightDevice>,
    pub throttle_read_bps_device: List<ThrottleDevice>,
    pub throttle_write_bps_device: List<ThrottleDevice>,
    #[serde(rename = "throttleReadIOPSDevice")]
    pub throttle_read_iops_device: List<ThrottleDevice>,
    #[serde(rename = "throttleWriteIOPSDevice")]
    pub throttle_write_iops_device: List<ThrottleDevice>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct WeightDevice {
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub weight: Option<u16>,
    pub leaf_weight: Option<u16>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct ThrottleDevice {
    pub major: Option<i64>,
    pub minor: Option<i64>,
    pub rate: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct HugepageLimit<'a> {
    #[serde(borrow)]
    pub page_size: Option<Str<'a>>,
    pub limit: Option<u64>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Network<'a> {
    #[serde(rename = "classID")]
    pub class_id: Option<u32>,
    #[serde(borrow)]
    pub priorities: List<Priority<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Priority<'a> {
    #[serde(borrow)]
    pub name: Option<Str<'a>>,
    pub priority: Option<u32>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Rdma {
    pub hca_handles: Option<u32>,
    pub hca_objects: Option<u32>,
}
