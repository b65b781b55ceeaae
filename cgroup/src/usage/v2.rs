//! The files of cgroup v2 (Documentation/admin-guide/cgroup-v2.rst).

use super::files::{Files, device, get, number};
use super::{Amount, CpuUsage, HugetlbUsage, IoEntry, MemoryUsage, PidsUsage, RdmaUsage, Usage};
use crate::error::Error;
use crate::place::Directory;

/// Microseconds in nanoseconds.
const MICRO: u64 = 1000;

/// `in_v1` says which controllers the host has in cgroup v1: there is nothing of those here.
pub(super) fn read(directory: &Directory, in_v1: &dyn Fn(&str) -> bool, usage: &mut Usage) -> Result<(), Error> {
    let files = Files { directory };
    if !in_v1("cpu") && !in_v1("cpuacct") {
        usage.cpu = cpu(&files)?;
    }
    if !in_v1("memory") {
        usage.memory = memory(&files)?;
    }
    if !in_v1("pids")
        && let Some(current) = files.number("pids.current")?
    {
        let limit = files.number("pids.max")?.filter(|limit| *limit != u64::MAX);
        usage.pids = Some(PidsUsage { current, limit: limit.unwrap_or(0) });
    }
    if !in_v1("blkio") {
        io(&files, usage)?;
    }
    if !in_v1("hugetlb") {
        usage.hugetlb = hugetlb(&files)?;
    }
    if !in_v1("rdma") {
        usage.rdma = rdma(&files)?;
    }
    Ok(())
}

fn cpu(files: &Files<'_>) -> Result<Option<CpuUsage>, Error> {
    let Some(table) = files.table("cpu.stat")? else { return Ok(None) };
    let of = |name| get(&table, name);
    let time = |name| of(name).saturating_mul(MICRO);
    Ok(Some(CpuUsage {
        total: time("usage_usec"),
        user: time("user_usec"),
        kernel: time("system_usec"),
        periods: of("nr_periods"),
        throttled_periods: of("nr_throttled"),
        throttled_time: time("throttled_usec"),
        bursts: of("nr_bursts"),
        burst_time: time("burst_usec"),
        pressure: files.pressure("cpu.pressure")?,
        ..CpuUsage::default()
    }))
}

fn memory(files: &Files<'_>) -> Result<Option<MemoryUsage>, Error> {
    let Some(current) = files.number("memory.current")? else { return Ok(None) };
    let raw = files.table("memory.stat")?.unwrap_or_default();
    let events = files.table("memory.events")?.unwrap_or_default();
    let or_max = |limit: Option<u64>| limit.unwrap_or(u64::MAX);
    let usage = Amount {
        usage: current,
        max: files.number("memory.peak")?.unwrap_or(0),
        limit: or_max(files.number("memory.max")?),
        failcnt: get(&events, "max"),
    };
    let swap = match files.number("memory.swap.current")? {
        Some(swap) => Some(Amount {
            usage: swap,
            max: files.number("memory.swap.peak")?.unwrap_or(0),
            limit: or_max(files.number("memory.swap.max")?),
            failcnt: 0,
        }),
        None => None,
    };
    let with_swap = Amount {
        usage: usage.usage.saturating_add(swap.map_or(0, |swap| swap.usage)),
        max: usage.max.saturating_add(swap.map_or(0, |swap| swap.max)),
        limit: match swap.map(|swap| swap.limit) {
            Some(u64::MAX) | None => u64::MAX,
            Some(limit) => usage.limit.saturating_add(limit),
        },
        failcnt: 0,
    };
    Ok(Some(MemoryUsage {
        cache: get(&raw, "file"),
        usage,
        with_swap,
        swap,
        pressure: files.pressure("memory.pressure")?,
        hierarchical: true,
        raw,
        events,
        ..MemoryUsage::default()
    }))
}

fn io(files: &Files<'_>, usage: &mut Usage) -> Result<(), Error> {
    let io = &mut usage.io;
    io.pressure = files.pressure("io.pressure")?;
    let Some(text) = files.text("io.stat")? else { return Ok(()) };
    for line in text.lines() {
        let malformed = || files.malformed("io.stat", line);
        let mut words = line.split_ascii_whitespace();
        // Devices that are gone can be left as a line of a number alone, or of nothing.
        if line.trim().is_empty() {
            continue;
        }
        let Some((major, minor)) = words.next().and_then(device) else { return Err(malformed()) };
        for word in words {
            // Words without a number tell of controllers (`io.cost`).
            let Some((key, value)) = word.split_once('=') else { continue };
            let (list, op) = match key {
                "rbytes" => (&mut io.bytes, "Read"),
                "wbytes" => (&mut io.bytes, "Write"),
                "dbytes" => (&mut io.bytes, "Discard"),
                "rios" => (&mut io.requests, "Read"),
                "wios" => (&mut io.requests, "Write"),
                "dios" => (&mut io.requests, "Discard"),
                _ => continue,
            };
            let value = number(value).ok_or_else(malformed)?;
            list.push(IoEntry { major, minor, op: op.to_owned(), value });
        }
    }
    Ok(())
}

/// The sizes of huge pages are those that the cgroup has files for.
fn hugetlb(files: &Files<'_>) -> Result<Vec<(String, HugetlbUsage)>, Error> {
    let mut list = Vec::new();
    for size in super::v1::hugepage_sizes() {
        let Some(usage) = files.number(&format!("hugetlb.{size}.current"))? else { continue };
        let events = files.table(&format!("hugetlb.{size}.events"))?.unwrap_or_default();
        list.push((size, HugetlbUsage { usage, max: 0, failcnt: get(&events, "max") }));
    }
    Ok(list)
}

pub(super) fn rdma(files: &Files<'_>) -> Result<Vec<RdmaUsage>, Error> {
    let mut list: Vec<RdmaUsage> = Vec::new();
    for (name, limit) in [("rdma.current", false), ("rdma.max", true)] {
        for line in files.text(name)?.unwrap_or_default().lines() {
            let mut words = line.split_ascii_whitespace();
            let device = words.next().unwrap_or_default().to_owned();
            let mut pair = (0, 0);
            for word in words {
                let found = word.split_once('=').and_then(|(key, value)| Some((key, number(value)?)));
                match found {
                    Some(("hca_handle", value)) => pair.0 = value,
                    Some(("hca_object", value)) => pair.1 = value,
                    _ => return Err(files.malformed(name, line)),
                }
            }
            match list.iter_mut().find(|known| known.device == device) {
                Some(known) if limit => known.limit = pair,
                Some(known) => known.current = pair,
                None if limit => list.push(RdmaUsage { device, limit: pair, current: (0, 0) }),
                None => list.push(RdmaUsage { device, current: pair, limit: (0, 0) }),
            }
        }
    }
    Ok(list)
}
