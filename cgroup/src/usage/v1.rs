//! The files of cgroup v1 (Documentation/admin-guide/cgroup-v1).

use super::files::{Files, device, get, number};
use super::{Amount, CpuUsage, CpusetUsage, HugetlbUsage, IoEntry, MemoryUsage, PidsUsage, Usage};
use crate::error::Error;
use crate::place::Directory;

/// A tick of cpuacct.stat, USER_HZ: 1/100 s on every architecture that proa runs on, in nanoseconds.
const TICK: u64 = 10_000_000;

/// The files of a cpuset that hold one number, without `cpuset.`.
pub const CPUSET_FLAGS: [&str; 9] = [
    "cpu_exclusive",
    "mem_hardwall",
    "mem_exclusive",
    "memory_migrate",
    "memory_spread_page",
    "memory_spread_slab",
    "memory_pressure",
    "sched_load_balance",
    "sched_relax_domain_level",
];

pub(super) fn read(directory: &Directory, usage: &mut Usage) -> Result<(), Error> {
    let files = Files { directory };
    if directory.has("cpuacct") {
        cpuacct(&files, usage.cpu.get_or_insert_default())?;
    }
    if directory.has("cpu") {
        cpu(&files, usage.cpu.get_or_insert_default())?;
    }
    if directory.has("cpuset") {
        usage.cpuset = Some(cpuset(&files)?);
    }
    if directory.has("memory") {
        usage.memory = memory(&files)?;
    }
    if directory.has("pids")
        && let Some(current) = files.number("pids.current")?
    {
        let limit = files.number("pids.max")?.filter(|limit| *limit != u64::MAX);
        usage.pids = Some(PidsUsage { current, limit: limit.unwrap_or(0) });
    }
    if directory.has("blkio") {
        blkio(&files, usage)?;
    }
    if directory.has("hugetlb") {
        usage.hugetlb = hugetlb(&files)?;
    }
    if directory.has("rdma") {
        usage.rdma = super::v2::rdma(&files)?;
    }
    Ok(())
}

fn cpuacct(files: &Files<'_>, cpu: &mut CpuUsage) -> Result<(), Error> {
    cpu.total = files.number("cpuacct.usage")?.unwrap_or(0);
    let stat = files.table("cpuacct.stat")?.unwrap_or_default();
    cpu.user = get(&stat, "user").saturating_mul(TICK);
    cpu.kernel = get(&stat, "system").saturating_mul(TICK);
    let list = |name: &str| -> Result<Vec<u64>, Error> {
        let text = files.text(name)?.unwrap_or_default();
        text.split_ascii_whitespace().map(|word| number(word).ok_or_else(|| files.malformed(name, word))).collect()
    };
    cpu.per_cpu = list("cpuacct.usage_percpu")?;
    // Lines of processor, user, system, below a header.
    let name = "cpuacct.usage_all";
    for line in files.text(name)?.unwrap_or_default().lines().skip(1) {
        let mut words = line.split_ascii_whitespace().skip(1).map(number);
        let (Some(Some(user)), Some(Some(kernel))) = (words.next(), words.next()) else {
            return Err(files.malformed(name, line));
        };
        cpu.per_cpu_user.push(user);
        cpu.per_cpu_kernel.push(kernel);
    }
    Ok(())
}

fn cpu(files: &Files<'_>, cpu: &mut CpuUsage) -> Result<(), Error> {
    let stat = files.table("cpu.stat")?.unwrap_or_default();
    cpu.periods = get(&stat, "nr_periods");
    cpu.throttled_periods = get(&stat, "nr_throttled");
    cpu.throttled_time = get(&stat, "throttled_time");
    cpu.bursts = get(&stat, "nr_bursts");
    cpu.burst_time = get(&stat, "burst_time");
    Ok(())
}

fn cpuset(files: &Files<'_>) -> Result<CpusetUsage, Error> {
    let list = |name: &str| -> Result<Vec<u16>, Error> {
        let text = files.text(name)?.unwrap_or_default();
        parse_list(text.trim()).ok_or_else(|| files.malformed(name, text.trim()))
    };
    let mut cpuset = CpusetUsage { cpus: list("cpuset.cpus")?, mems: list("cpuset.mems")?, flags: Vec::new() };
    for name in CPUSET_FLAGS {
        let file = format!("cpuset.{name}");
        if let Some(text) = files.text(&file)? {
            let value = text.trim().parse().map_err(|_| files.malformed(&file, text.trim()))?;
            cpuset.flags.push((name, value));
        }
    }
    Ok(cpuset)
}

/// `0-2,7`.
fn parse_list(text: &str) -> Option<Vec<u16>> {
    let mut list = Vec::new();
    for range in text.split(',').filter(|range| !range.is_empty()) {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (u16, u16) = (first.parse().ok()?, last.parse().ok()?);
        if last < first {
            return None;
        }
        list.extend(first..=last);
    }
    Some(list)
}

fn memory(files: &Files<'_>) -> Result<Option<MemoryUsage>, Error> {
    let amount = |prefix: &str| -> Result<Option<Amount>, Error> {
        let of = |name: &str| files.number(&format!("memory.{prefix}{name}"));
        let Some(usage) = of("usage_in_bytes")? else { return Ok(None) };
        let (max, limit, failcnt) = (of("max_usage_in_bytes")?, of("limit_in_bytes")?, of("failcnt")?);
        Ok(Some(Amount {
            usage,
            max: max.unwrap_or(0),
            limit: limit.unwrap_or(u64::MAX),
            failcnt: failcnt.unwrap_or(0),
        }))
    };
    let Some(usage) = amount("")? else { return Ok(None) };
    let raw = files.table("memory.stat")?.unwrap_or_default();
    Ok(Some(MemoryUsage {
        cache: get(&raw, "cache"),
        usage,
        with_swap: amount("memsw.")?.unwrap_or_default(),
        kernel: amount("kmem.")?.unwrap_or_default(),
        kernel_tcp: amount("kmem.tcp.")?.unwrap_or_default(),
        hierarchical: files.number("memory.use_hierarchy")? == Some(1),
        raw,
        ..MemoryUsage::default()
    }))
}

fn blkio(files: &Files<'_>, usage: &mut Usage) -> Result<(), Error> {
    let io = &mut usage.io;
    for (list, names) in [
        // Of the scheduler of the device; else of throttling, which counts all the same.
        (&mut io.bytes, ["blkio.bfq.io_service_bytes_recursive", "blkio.throttle.io_service_bytes_recursive"]),
        (&mut io.requests, ["blkio.bfq.io_serviced_recursive", "blkio.throttle.io_serviced_recursive"]),
        (&mut io.queued, ["blkio.bfq.io_queued_recursive", "blkio.io_queued_recursive"]),
        (&mut io.service_time, ["blkio.bfq.io_service_time_recursive", "blkio.io_service_time_recursive"]),
        (&mut io.wait_time, ["blkio.bfq.io_wait_time_recursive", "blkio.io_wait_time_recursive"]),
        (&mut io.merged, ["blkio.bfq.io_merged_recursive", "blkio.io_merged_recursive"]),
        (&mut io.time, ["blkio.bfq.time_recursive", "blkio.time_recursive"]),
        (&mut io.sectors, ["blkio.bfq.sectors_recursive", "blkio.sectors_recursive"]),
    ] {
        for name in names {
            if list.is_empty() {
                *list = entries(files, name)?;
            }
        }
    }
    Ok(())
}

/// `8:0 Read 4096`, `8:0 17`, and a last line `Total 4096` that says nothing new.
fn entries(files: &Files<'_>, name: &str) -> Result<Vec<IoEntry>, Error> {
    let mut list = Vec::new();
    for line in files.text(name)?.unwrap_or_default().lines() {
        let words: Vec<&str> = line.split_ascii_whitespace().collect();
        let entry = match words[..] {
            ["Total", _] => continue,
            [numbers, op, value] => device(numbers).zip(number(value)).map(|found| (found, op)),
            [numbers, value] => device(numbers).zip(number(value)).map(|found| (found, "")),
            _ => None,
        };
        let Some((((major, minor), value), op)) = entry else { return Err(files.malformed(name, line)) };
        list.push(IoEntry { major, minor, op: op.to_owned(), value });
    }
    Ok(list)
}

fn hugetlb(files: &Files<'_>) -> Result<Vec<(String, HugetlbUsage)>, Error> {
    let mut list = Vec::new();
    for size in hugepage_sizes() {
        let of = |name: &str| files.number(&format!("hugetlb.{size}.{name}"));
        let Some(usage) = of("usage_in_bytes")? else { continue };
        let (max, failcnt) = (of("max_usage_in_bytes")?.unwrap_or(0), of("failcnt")?.unwrap_or(0));
        list.push((size, HugetlbUsage { usage, max, failcnt }));
    }
    Ok(list)
}

/// As the names of files have them: the largest unit, base 1024.
pub(super) fn hugepage_sizes() -> Vec<String> {
    let Ok(directory) = std::fs::read_dir("/sys/kernel/mm/hugepages") else { return Vec::new() };
    let kilobytes = directory.filter_map(|entry| {
        let name = entry.ok()?.file_name().into_string().ok()?;
        name.strip_prefix("hugepages-")?.strip_suffix("kB")?.parse::<u64>().ok()
    });
    let mut sizes: Vec<u64> = kilobytes.collect();
    sizes.sort_unstable();
    let name = |kilobytes: u64| match kilobytes {
        large if large >= 1 << 20 => format!("{}GB", large >> 20),
        middle if middle >= 1 << 10 => format!("{}MB", middle >> 10),
        small => format!("{small}KB"),
    };
    sizes.into_iter().map(name).collect()
}
