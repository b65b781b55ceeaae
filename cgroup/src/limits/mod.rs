//! Writes [`Resources`] to the files of the kernel: the moments and their order. One module for each controller, with
//! what cgroup v1 and v2 make of its fields.
//!
//! Nothing is asked that is not needed: a field is one openat, write and close, and a resource of which nothing is set
//! costs nothing.

mod controller;
mod cpu;
mod cpuset;
mod devices;
#[cfg(test)]
mod fake;
mod hugetlb;
mod io;
mod memory;
mod network;
mod pids;
mod rdma;
mod unified;

pub(crate) use controller::{Controller, Version};
pub(crate) use memory::{memory_limit, oom_kills};

use crate::Cgroup;
use crate::error::Error;
use crate::resources::Resources;

/// What has to be there before the first process: see [`Cgroup::prepare`].
pub(crate) fn prepare(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    let cpu = &resources.cpu;
    if !resources.devices.is_empty() {
        devices::apply(cgroup, &resources.devices)?;
    }
    if cpu.cpus.is_some() || cpu.mems.is_some() {
        cpuset::apply(&Controller::of(cgroup, "cpuset", "cpu")?, cpu)?;
    }
    if cpu.realtime_runtime.is_some() || cpu.realtime_period.is_some() {
        let name = if cpu.realtime_period.is_some() { "cpu.realtimePeriod" } else { "cpu.realtimeRuntime" };
        cpu::apply_realtime(&Controller::of(cgroup, "cpu", name)?, cpu)?;
    }
    Ok(())
}

/// What would be in the way of setting a container up: see [`Cgroup::limit`]. From what hinders least to what hinders
/// most, and what may replace the others last.
pub(crate) fn limit(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    if let Some(class) = resources.network.class_id {
        network::apply_class(&Controller::of(cgroup, "net_cls", "network.classID")?, class)?;
    }
    if !resources.network.priorities.is_empty() {
        let controller = Controller::of(cgroup, "net_prio", "network.priorities")?;
        network::apply_priorities(&controller, &resources.network.priorities)?;
    }
    if !resources.hugepage_limits.is_empty() {
        hugetlb::apply(&Controller::of(cgroup, "hugetlb", "hugepageLimits")?, &resources.hugepage_limits)?;
    }
    if !resources.rdma.is_empty() {
        rdma::apply(&Controller::of(cgroup, "rdma", "rdma")?, &resources.rdma)?;
    }
    if resources.io != Default::default() {
        io::apply(&Controller::of(cgroup, "blkio", "blockIO")?, &resources.io)?;
    }
    if cpu::is_set(&resources.cpu) {
        cpu::apply(&Controller::of(cgroup, "cpu", "cpu")?, &resources.cpu)?;
    }
    if resources.memory != Default::default() {
        memory::apply(&Controller::of(cgroup, "memory", "memory")?, &resources.memory)?;
    }
    if let Some(pids) = resources.pids {
        pids::apply(&Controller::of(cgroup, "pids", "pids.limit")?, pids)?;
    }
    if !resources.unified.is_empty() {
        unified::apply(cgroup, &resources.unified)?;
    }
    Ok(())
}
