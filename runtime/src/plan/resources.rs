//! `linux.resources`: limits as `cgroup` takes them, checked as far as config.json alone and the host's cgroups allow.
//!
//! What a kernel cannot do is found when a limit is written; device rules are in `devices.rs`.

use super::Host;
use crate::config::spec::{self, Linux, Map, Str};
use crate::error::{Result, bad};
use cgroup::{
    BlockIo, Cpu, DeviceWeight, HugepageLimit, Limit, Memory, Network, Rdma, Resources, Throttle, ThrottleKind,
};

/// All but the devices. Zero is, as for other runtimes, no limit set where it could be none anyway.
pub(crate) fn limits(linux: Option<&Linux<'_>>, host: &Host, warnings: &mut Vec<String>) -> Result<Resources> {
    let Some(given) = linux.and_then(|linux| linux.resources.as_ref()) else { return Ok(Resources::default()) };
    if let Some(memory) = &given.memory
        && let (None, Some(Limit::Of(swap))) =
            (some_amount("memory.limit", memory.limit)?, some_amount("memory.swap", memory.swap)?)
    {
        return Err(bad(name("memory.swap"), format_args!("{swap} needs a memory.limit, which it includes")));
    }
    updated(given, host, warnings)
}

/// The same for a container that is there, and whose other limits stay.
pub(crate) fn updated(given: &spec::Resources<'_>, host: &Host, warnings: &mut Vec<String>) -> Result<Resources> {
    let resources = Resources {
        devices: Vec::new(),
        cpu: given.cpu.as_ref().map(cpu).transpose()?.unwrap_or_default(),
        memory: given.memory.as_ref().map(memory).transpose()?.unwrap_or_default(),
        pids: match &given.pids {
            Some(pids) => amount("pids.limit", pids.limit)?,
            None => None,
        },
        io: given.block_io.as_ref().map(block_io).transpose()?.unwrap_or_default(),
        hugepage_limits: hugepages(&given.hugepage_limits, host)?,
        network: given.network.as_ref().map(network).transpose()?.unwrap_or_default(),
        rdma: rdma(&given.rdma)?,
        unified: unified(&given.unified)?,
    };
    if given.memory.as_ref().is_some_and(|memory| memory.kernel.is_some_and(|bytes| bytes != 0)) {
        warnings.push("linux.resources.memory.kernel: ignored, as kernels no longer have that limit".to_owned());
    }
    Ok(resources)
}

/// What must be known of the host; nothing is asked if nothing is limited.
pub(crate) fn check(resources: &mut Resources, disabled: bool, host: &Host, warnings: &mut Vec<String>) -> Result<()> {
    if resources.is_unlimited() {
        return Ok(());
    }
    if disabled {
        warnings.push("linux.resources: limits are ignored with --cgroup-manager=disabled".to_owned());
        return Ok(());
    }
    let host = host.cgroups()?;
    if resources.memory.kernel_tcp.is_some() && !host.has_v1("memory") {
        warnings.push("linux.resources.memory.kernelTCP: ignored, as cgroup v2 does not have that limit".to_owned());
        resources.memory.kernel_tcp = None;
    }
    Ok(resources.check(host)?)
}

fn name(limit: impl std::fmt::Display) -> String {
    format!("linux.resources.{limit}")
}

/// A number, or -1 for none at all.
fn amount(property: &str, value: Option<i64>) -> Result<Option<Limit>> {
    match value {
        None => Ok(None),
        Some(-1) => Ok(Some(Limit::Unlimited)),
        Some(value) => match u64::try_from(value) {
            Ok(value) => Ok(Some(Limit::Of(value))),
            Err(_) => Err(bad(name(property), format_args!("{value} is negative, and not -1 for no limit"))),
        },
    }
}

/// The same where zero sets nothing.
fn some_amount(property: &str, value: Option<i64>) -> Result<Option<Limit>> {
    amount(property, value.filter(|value| *value != 0))
}

fn cpu(given: &spec::Cpu<'_>) -> Result<Cpu> {
    let nonzero = |value: Option<u64>| value.filter(|value| *value != 0);
    let quota = some_amount("cpu.quota", given.quota)?;
    if let (Some(Limit::Of(quota)), Some(burst)) = (quota, given.burst)
        && burst > quota
    {
        return Err(bad(name("cpu.burst"), format_args!("{burst} is above the quota {quota}")));
    }
    let idle = match given.idle {
        None => None,
        Some(0) => Some(false),
        Some(1) => Some(true),
        Some(other) => return Err(bad(name("cpu.idle"), format_args!("{other} is neither 0 nor 1"))),
    };
    Ok(Cpu {
        shares: nonzero(given.shares),
        quota,
        period: nonzero(given.period),
        burst: given.burst,
        realtime_runtime: some_amount("cpu.realtimeRuntime", given.realtime_runtime)?,
        realtime_period: nonzero(given.realtime_period),
        cpus: list("cpu.cpus", &given.cpus)?,
        mems: list("cpu.mems", &given.mems)?,
        idle,
    })
}

/// A list of numbers and ranges, cpuset(7) "List format", with strides as the kernel knows them: `0-2,7,8-31:2/4`.
fn list(property: &str, value: &Option<Str<'_>>) -> Result<Option<String>> {
    let Some(text) = value.as_deref().map(str::trim).filter(|text| !text.is_empty()) else { return Ok(None) };
    match text.split(',').all(is_range) {
        true => Ok(Some(text.to_owned())),
        false => Err(bad(name(property), format_args!("{text:?} is no list such as \"0-2,7\""))),
    }
}

fn is_range(text: &str) -> bool {
    let number =
        |text: &str| text.bytes().all(|byte| byte.is_ascii_digit()).then(|| text.parse::<u32>().ok()).flatten();
    let (range, stride) = text.split_once(':').map_or((text, None), |(range, stride)| (range, Some(stride)));
    let good_range = match range.split_once('-') {
        Some((first, last)) => matches!((number(first), number(last)), (Some(first), Some(last)) if first <= last),
        None => number(range).is_some() && stride.is_none(),
    };
    let good_stride = stride.is_none_or(|stride| {
        let parts = stride.split_once('/').map(|(used, group)| (number(used), number(group)));
        matches!(parts, Some((Some(used), Some(group))) if used <= group && group > 0)
    });
    good_range && good_stride
}

fn memory(given: &spec::Memory) -> Result<Memory> {
    let limit = some_amount("memory.limit", given.limit)?;
    let swap = some_amount("memory.swap", given.swap)?;
    match (limit, swap) {
        (Some(Limit::Of(limit)), Some(Limit::Of(swap))) if swap < limit => {
            return Err(bad(
                name("memory.swap"),
                format_args!("{swap} is below memory.limit {limit}, which it includes"),
            ));
        }
        _ => {}
    }
    // Engines also say "not set" by the largest number.
    let swappiness = match given.swappiness.filter(|value| *value != u64::MAX) {
        None => None,
        Some(value @ 0..=100) => Some(value as u8),
        Some(value) => return Err(bad(name("memory.swappiness"), format_args!("{value} is not in 0 to 100"))),
    };
    some_amount("memory.kernel", given.kernel)?;
    Ok(Memory {
        limit,
        reservation: some_amount("memory.reservation", given.reservation)?,
        swap,
        kernel_tcp: some_amount("memory.kernelTCP", given.kernel_tcp)?,
        swappiness,
        disable_oom_killer: given.disable_oom_killer,
        use_hierarchy: given.use_hierarchy,
        check_before_update: given.check_before_update == Some(true),
    })
}

fn weight(property: impl std::fmt::Display, value: Option<u16>) -> Result<Option<u16>> {
    match value.filter(|value| *value != 0) {
        Some(value) if !(10..=1000).contains(&value) => {
            Err(bad(name(property), format_args!("{value} is not in 10 to 1000")))
        }
        value => Ok(value),
    }
}

/// dev_t has 12 and 20 bits.
fn device(entry: &str, major: Option<i64>, minor: Option<i64>) -> Result<(u32, u32)> {
    let number = |field: &str, value: Option<i64>, limit: i64| match value {
        Some(value) if (0..=limit).contains(&value) => Ok(value as u32),
        Some(value) => Err(bad(name(format_args!("{entry}.{field}")), format_args!("{value} is no device number"))),
        None => Err(bad(name(format_args!("{entry}.{field}")), "missing")),
    };
    Ok((number("major", major, 0xfff)?, number("minor", minor, 0xf_ffff)?))
}

fn block_io(given: &spec::BlockIo) -> Result<BlockIo> {
    let mut devices = Vec::new();
    for (index, entry) in given.weight_device.iter().enumerate() {
        let property = format!("blockIO.weightDevice[{index}]");
        let (major, minor) = device(&property, entry.major, entry.minor)?;
        let weight_of = |field: &str, value| weight(format_args!("{property}.{field}"), value);
        let (weight, leaf_weight) = (weight_of("weight", entry.weight)?, weight_of("leafWeight", entry.leaf_weight)?);
        if weight.is_none() && leaf_weight.is_none() {
            return Err(bad(name(property), "has neither weight nor leafWeight"));
        }
        devices.push(DeviceWeight { major, minor, weight, leaf_weight });
    }
    let mut throttle = Vec::new();
    for (kind, list, entries) in [
        (ThrottleKind::ReadBps, "throttleReadBpsDevice", &given.throttle_read_bps_device),
        (ThrottleKind::WriteBps, "throttleWriteBpsDevice", &given.throttle_write_bps_device),
        (ThrottleKind::ReadIops, "throttleReadIOPSDevice", &given.throttle_read_iops_device),
        (ThrottleKind::WriteIops, "throttleWriteIOPSDevice", &given.throttle_write_iops_device),
    ] {
        for (index, entry) in entries.iter().enumerate() {
            let property = format!("blockIO.{list}[{index}]");
            let (major, minor) = device(&property, entry.major, entry.minor)?;
            let rate = entry.rate.ok_or_else(|| bad(name(format_args!("{property}.rate")), "missing"))?;
            throttle.push(Throttle { kind, index, major, minor, rate });
        }
    }
    Ok(BlockIo {
        weight: weight("blockIO.weight", given.weight)?,
        leaf_weight: weight("blockIO.leafWeight", given.leaf_weight)?,
        devices,
        throttle,
    })
}

fn hugepages(given: &[spec::HugepageLimit<'_>], host: &Host) -> Result<Vec<HugepageLimit>> {
    let one = |(index, entry): (usize, &spec::HugepageLimit<'_>)| {
        let property = |field: &str| name(format_args!("hugepageLimits[{index}].{field}"));
        let size = entry.page_size.as_deref().unwrap_or_default();
        let kilobytes = size_in_kilobytes(size)
            .ok_or_else(|| bad(property("pageSize"), format_args!("{size:?} is no size such as \"2MB\" or \"1GB\"")))?;
        if !host.has_hugepages(kilobytes) {
            return Err(bad(property("pageSize"), format_args!("this machine has no huge pages of {size}")));
        }
        let limit = entry.limit.ok_or_else(|| bad(property("limit"), "missing"))?;
        Ok(HugepageLimit { page_size: size.to_owned(), limit })
    };
    given.iter().enumerate().map(one).collect()
}

/// The kernel's names for sizes: the largest unit, base 1024.
fn size_in_kilobytes(size: &str) -> Option<u64> {
    let digits = size.find(|c: char| !c.is_ascii_digit())?;
    let (number, unit) = size.split_at(digits);
    let factor = match unit {
        "KB" => 1,
        "MB" => 1 << 10,
        "GB" => 1 << 20,
        _ => return None,
    };
    let number = Some(number).filter(|number| !number.starts_with('0'))?.parse::<u64>().ok()?;
    number.checked_mul(factor)
}

fn network(given: &spec::Network<'_>) -> Result<Network> {
    let one = |(index, entry): (usize, &spec::Priority<'_>)| {
        let property = |field: &str| name(format_args!("network.priorities[{index}].{field}"));
        let device = entry.name.as_deref().unwrap_or_default();
        if device.is_empty() || device.contains(|c: char| c.is_whitespace() || c == '/') {
            return Err(bad(property("name"), format_args!("{device:?} is no name of a network device")));
        }
        let priority = entry.priority.ok_or_else(|| bad(property("priority"), "missing"))?;
        Ok((device.to_owned(), priority))
    };
    let priorities = given.priorities.iter().enumerate().map(one).collect::<Result<_>>()?;
    Ok(Network { class_id: given.class_id, priorities })
}

fn rdma(given: &Map<'_, spec::Rdma>) -> Result<Vec<Rdma>> {
    let one = |(device, entry): &(Str<'_>, spec::Rdma)| {
        let property = name(format_args!("rdma[{:?}]", &**device));
        if device.is_empty() || device.contains(char::is_whitespace) {
            return Err(bad(property, "is no name of a device"));
        }
        if entry.hca_handles.is_none() && entry.hca_objects.is_none() {
            return Err(bad(property, "has neither hcaHandles nor hcaObjects"));
        }
        Ok(Rdma { device: device.to_string(), hca_handles: entry.hca_handles, hca_objects: entry.hca_objects })
    };
    given.iter().map(one).collect()
}

fn unified(given: &Map<'_, Str<'_>>) -> Result<Vec<(String, String)>> {
    let one = |(file, value): &(Str<'_>, Str<'_>)| {
        cgroup::check_unified_name(file).map_err(|why| bad(name(format_args!("unified[{:?}]", &**file)), why))?;
        Ok((file.to_string(), value.to_string()))
    };
    given.iter().map(one).collect()
}

#[cfg(test)]
mod tests;
