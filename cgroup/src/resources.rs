//! What a container may use, as data: what is set is written, what is absent stays as it is.
//!
//! Grouped and named as `linux.resources` of the runtime specification, in units of the kernel; what the groups become
//! is in `limits`. Nothing here asks the host but [`Resources::check`], which looks at what [`Host`] knows already.

use std::fmt;

use serde::Serialize;

use crate::devices::DeviceRule;
use crate::error::Error;
use crate::host::Host;

/// What a container may use. What is empty or absent is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Resources {
    /// The devices, all rules in order: nothing is added to them (see [`default_device_rules`]).
    ///
    /// [`default_device_rules`]: crate::default_device_rules
    #[serde(skip)]
    pub devices: Vec<DeviceRule>,
    /// Processor time, and on which processors.
    #[serde(skip_serializing_if = "is_unset")]
    pub cpu: Cpu,
    /// Memory and swap.
    #[serde(skip_serializing_if = "is_unset")]
    pub memory: Memory,
    /// How many processes and threads there may be, zero included.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub pids: Option<Limit>,
    /// Input and output of block devices.
    #[serde(rename = "blockIO", skip_serializing_if = "is_unset")]
    pub io: BlockIo,
    /// Huge pages, by size.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub hugepage_limits: Vec<HugepageLimit>,
    /// Marks on packets; cgroup v1 alone has them.
    #[serde(skip_serializing_if = "is_unset")]
    pub network: Network,
    /// RDMA devices.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub rdma: Vec<Rdma>,
    /// Files of cgroup v2 and what is written to them, in order, after all else. See [`check_unified_name`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub unified: Vec<(String, String)>,
}

/// An amount, or no limit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Limit {
    /// As much as the cgroups above allow.
    Unlimited,
    /// So much, in the unit of the field.
    Of(u64),
}

/// As cgroup v2 has it: a number, or `max`.
impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Limit::Unlimited => f.write_str("max"),
            Limit::Of(amount) => amount.fmt(f),
        }
    }
}

impl Serialize for Limit {
    fn serialize<S: serde::Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self {
            Limit::Unlimited => serializer.serialize_i64(-1),
            Limit::Of(amount) => serializer.serialize_u64(*amount),
        }
    }
}

/// Processor time, in microseconds, and on which processors.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Cpu {
    /// Share against siblings as cgroup v1 counts it, 2 to 262144, by default 1024. On cgroup v2 a weight is made of
    /// it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub shares: Option<u64>,
    /// Time in each period.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub quota: Option<Limit>,
    /// The period of `quota`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub period: Option<u64>,
    /// How much unused time may be saved up for later periods.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub burst: Option<u64>,
    /// Time of real-time processes in each `realtime_period`; cgroup v1 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_runtime: Option<Limit>,
    /// The period of `realtime_runtime`; cgroup v1 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub realtime_period: Option<u64>,
    /// A list of processors: `0-3,7`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cpus: Option<String>,
    /// A list of memory nodes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mems: Option<String>,
    /// Whether processes only get time that nobody else wants.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub idle: Option<bool>,
}

/// Memory, in bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Memory {
    /// What may be used.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<Limit>,
    /// What is left to the container when memory is short elsewhere.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub reservation: Option<Limit>,
    /// Memory and swap together, so never less than `limit`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swap: Option<Limit>,
    /// What buffers of TCP sockets may use; cgroup v1 alone.
    #[serde(rename = "kernelTCP", skip_serializing_if = "Option::is_none")]
    pub kernel_tcp: Option<Limit>,
    /// How readily memory is swapped out, 0 to 100; cgroup v1 alone.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub swappiness: Option<u8>,
    /// Whether who is out of memory waits instead of being killed; cgroup v1 alone.
    #[serde(rename = "disableOOMKiller", skip_serializing_if = "Option::is_none")]
    pub disable_oom_killer: Option<bool>,
    /// Whether cgroups below are counted; true is all that today's kernels know.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub use_hierarchy: Option<bool>,
    /// Refuses a limit below what is in use, where the kernel would kill for it.
    #[serde(skip_serializing_if = "std::ops::Not::not")]
    pub check_before_update: bool,
}

/// Input and output of block devices.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct BlockIo {
    /// Share against siblings, 10 to 1000.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// Share against cgroups below, 10 to 1000; only where the kernel has the CFQ scheduler, so before Linux 5.0.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
    /// The same for one device each.
    #[serde(rename = "weightDevice", skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceWeight>,
    /// What may be read and written in a second, for one device each. The index is that in the list of its kind.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub throttle: Vec<Throttle>,
}

/// Shares of one block device.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct DeviceWeight {
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// As [`BlockIo::weight`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub weight: Option<u16>,
    /// As [`BlockIo::leaf_weight`].
    #[serde(skip_serializing_if = "Option::is_none")]
    pub leaf_weight: Option<u16>,
}

/// What is counted in [`Throttle::rate`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub enum ThrottleKind {
    /// Bytes read in a second.
    ReadBps,
    /// Bytes written in a second.
    WriteBps,
    /// Reads in a second.
    #[serde(rename = "ReadIOPS")]
    ReadIops,
    /// Writes in a second.
    #[serde(rename = "WriteIOPS")]
    WriteIops,
}

/// A bound on the traffic of one block device.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
pub struct Throttle {
    /// What is counted.
    pub kind: ThrottleKind,
    /// Its place in the list of its kind, for errors.
    pub index: usize,
    /// The device's major number.
    pub major: u32,
    /// The device's minor number.
    pub minor: u32,
    /// How much in a second; zero takes the bound away.
    pub rate: u64,
}

/// Huge pages of one size.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct HugepageLimit {
    /// The size as it is in the names of the kernel's files: `2MB`.
    pub page_size: String,
    /// Bytes that may be reserved and used.
    pub limit: u64,
}

/// Marks on packets.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Network {
    /// The class of packets for traffic control.
    #[serde(rename = "classID", skip_serializing_if = "Option::is_none")]
    pub class_id: Option<u32>,
    /// Network devices, with the priority of packets that leave by them.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub priorities: Vec<(String, u32)>,
}

/// Bounds on one RDMA device; at least one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub struct Rdma {
    /// Its name.
    pub device: String,
    /// Handles of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_handles: Option<u32>,
    /// Objects of it.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub hca_objects: Option<u32>,
}

impl Memory {
    /// Fields that cgroup v2 does not have, and whether each asks for something.
    pub(crate) fn v1_only(&self) -> [(&'static str, bool); 4] {
        [
            ("memory.kernelTCP", self.kernel_tcp.is_some()),
            ("memory.swappiness", self.swappiness.is_some()),
            ("memory.disableOOMKiller", self.disable_oom_killer == Some(true)),
            ("memory.useHierarchy", self.use_hierarchy == Some(false)),
        ]
    }
}

fn is_unset<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

impl Resources {
    /// Whether nothing is set but, perhaps, device rules.
    pub fn is_unlimited(&self) -> bool {
        let Resources { devices: _, cpu, memory, pids, io, hugepage_limits, network, rdma, unified } = self;
        is_unset(cpu)
            && is_unset(memory)
            && pids.is_none()
            && is_unset(io)
            && hugepage_limits.is_empty()
            && is_unset(network)
            && rdma.is_empty()
            && unified.is_empty()
    }

    /// That each field that is set exists in the version of cgroups that its controller has on this host. Asks the
    /// kernel nothing: whether the controller can be had is seen when the limit is written.
    ///
    /// # Errors
    /// [`Error::Limit`] for the first that does not exist.
    pub fn check(&self, host: &Host) -> Result<(), Error> {
        let (cpu, memory) = (&self.cpu, &self.memory);
        let leaf = self.io.devices.iter().position(|device| device.leaf_weight.is_some());
        let leaf_name = format!("blockIO.weightDevice[{}].leafWeight", leaf.unwrap_or_default());
        let v1_only = [
            ("cpu", "cpu.realtimeRuntime", cpu.realtime_runtime.is_some()),
            ("cpu", "cpu.realtimePeriod", cpu.realtime_period.is_some()),
            ("blkio", "blockIO.leafWeight", self.io.leaf_weight.is_some()),
            ("blkio", &leaf_name, leaf.is_some()),
            ("net_cls", "network.classID", self.network.class_id.is_some()),
            ("net_prio", "network.priorities", !self.network.priorities.is_empty()),
        ];
        let memory = memory.v1_only().into_iter().map(|(name, set)| ("memory", name, set));
        for (controller, name, set) in memory.chain(v1_only) {
            if set && !host.has_v1(controller) {
                return Err(Error::no_v1(controller).limit(name));
            }
        }
        match self.unified.first() {
            Some((name, _)) if host.unified().is_none() => Err(Error::NoUnified.limit(unified_limit(name))),
            _ => Ok(()),
        }
    }
}

/// How errors name an entry of [`Resources::unified`].
pub(crate) fn unified_limit(name: &str) -> String {
    format!("unified[{name:?}]")
}

/// What is wrong with `name` as a file of [`Resources::unified`]: it must be `controller.file`, and a limit rather than
/// one that moves, stops or kills processes.
pub fn check_unified_name(name: &str) -> Result<(), &'static str> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '_' | '-');
    match name.split_once('.') {
        _ if name.contains('/') => Err("is a path, not the name of a file"),
        _ if !name.chars().all(allowed) => Err("is no name of a file of cgroup v2"),
        Some((controller, file)) if controller.is_empty() || file.is_empty() => {
            Err("is not of the form controller.file")
        }
        None => Err("is not of the form controller.file"),
        Some(("cgroup", "procs" | "threads" | "type" | "subtree_control" | "freeze" | "kill")) => {
            Err("is no limit: it moves, stops or kills processes")
        }
        Some(_) => Ok(()),
    }
}
