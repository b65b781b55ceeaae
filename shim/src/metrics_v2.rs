//! Figures of cgroup v2, in microseconds and bytes. Source: github.com/containerd/cgroups, cgroup2/stats/metrics.proto.

use std::collections::BTreeMap;

use cgroup::{IoUsage, MemoryUsage, Pressure, Stall, Usage};
use containerd_shim_protos::cgroups_v2::metrics::{
    CPUStat, HugeTlbStat, IOEntry, IOStat, MemoryEvents, MemoryStat, Metrics, PSIData, PSIStats, PidsStat, RdmaEntry,
    RdmaStat,
};
use protobuf::MessageField;

use crate::metrics::line;

/// The whole message.
pub(crate) fn of(usage: &Usage) -> Metrics {
    let mut metrics = Metrics::new();
    metrics.pids = usage.pids.map(|it| PidsStat { current: it.current, limit: it.limit, ..Default::default() }).into();
    metrics.cpu = usage
        .cpu
        .as_ref()
        .map(|it| CPUStat {
            usage_usec: it.total / 1000,
            user_usec: it.user / 1000,
            system_usec: it.kernel / 1000,
            nr_periods: it.periods,
            nr_throttled: it.throttled_periods,
            throttled_usec: it.throttled_time / 1000,
            nr_bursts: it.bursts,
            burst_usec: it.burst_time / 1000,
            psi: pressure(it.pressure),
            ..Default::default()
        })
        .into();
    metrics.memory = usage.memory.as_ref().map(memory).into();
    metrics.memory_events = usage
        .memory
        .as_ref()
        .map(|it| MemoryEvents {
            low: line(&it.events, "low"),
            high: line(&it.events, "high"),
            max: line(&it.events, "max"),
            oom: line(&it.events, "oom"),
            oom_kill: line(&it.events, "oom_kill"),
            oom_group_kill: line(&it.events, "oom_group_kill"),
            ..Default::default()
        })
        .into();
    metrics.io = MessageField::some(io(&usage.io));
    metrics.hugetlb = usage
        .hugetlb
        .iter()
        .map(|(size, it)| HugeTlbStat {
            current: it.usage,
            max: it.max,
            pagesize: size.clone(),
            failcnt: it.failcnt,
            ..Default::default()
        })
        .collect();
    if !usage.rdma.is_empty() {
        let rows = |pick: fn(&cgroup::RdmaUsage) -> (u64, u64)| {
            let row = |it: &cgroup::RdmaUsage| RdmaEntry {
                device: it.device.clone(),
                hca_handles: pick(it).0.min(u32::MAX.into()) as u32,
                hca_objects: pick(it).1.min(u32::MAX.into()) as u32,
                ..Default::default()
            };
            usage.rdma.iter().map(row).collect()
        };
        let (current, limit) = (rows(|it| it.current), rows(|it| it.limit));
        metrics.rdma = MessageField::some(RdmaStat { current, limit, ..Default::default() });
    }
    metrics
}

fn memory(memory: &MemoryUsage) -> MemoryStat {
    let of = |name| line(&memory.raw, name);
    let swap = memory.swap.unwrap_or_default();
    MemoryStat {
        anon: of("anon"),
        file: of("file"),
        kernel_stack: of("kernel_stack"),
        slab: of("slab"),
        sock: of("sock"),
        shmem: of("shmem"),
        file_mapped: of("file_mapped"),
        file_dirty: of("file_dirty"),
        file_writeback: of("file_writeback"),
        anon_thp: of("anon_thp"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        slab_reclaimable: of("slab_reclaimable"),
        slab_unreclaimable: of("slab_unreclaimable"),
        pgfault: of("pgfault"),
        pgmajfault: of("pgmajfault"),
        workingset_refault: of("workingset_refault"),
        workingset_activate: of("workingset_activate"),
        workingset_nodereclaim: of("workingset_nodereclaim"),
        pgrefill: of("pgrefill"),
        pgscan: of("pgscan"),
        pgsteal: of("pgsteal"),
        pgactivate: of("pgactivate"),
        pgdeactivate: of("pgdeactivate"),
        pglazyfree: of("pglazyfree"),
        pglazyfreed: of("pglazyfreed"),
        thp_fault_alloc: of("thp_fault_alloc"),
        thp_collapse_alloc: of("thp_collapse_alloc"),
        usage: memory.usage.usage,
        usage_limit: memory.usage.limit,
        max_usage: memory.usage.max,
        swap_usage: swap.usage,
        swap_limit: swap.limit,
        swap_max_usage: swap.max,
        psi: pressure(memory.pressure),
        ..Default::default()
    }
}

/// By device, where the kernel's figures are by kind.
fn io(usage: &IoUsage) -> IOStat {
    let mut devices: BTreeMap<(u64, u64), IOEntry> = BTreeMap::new();
    for (list, is_bytes) in [(&usage.bytes, true), (&usage.requests, false)] {
        for it in list {
            let entry = devices.entry((it.major, it.minor)).or_default();
            (entry.major, entry.minor) = (it.major, it.minor);
            match (it.op.to_ascii_lowercase().as_str(), is_bytes) {
                ("read", true) => entry.rbytes = it.value,
                ("write", true) => entry.wbytes = it.value,
                ("read", false) => entry.rios = it.value,
                ("write", false) => entry.wios = it.value,
                _ => {}
            }
        }
    }
    IOStat { usage: devices.into_values().collect(), psi: pressure(usage.pressure), ..Default::default() }
}

fn pressure(pressure: Option<Pressure>) -> MessageField<PSIStats> {
    let data = |stall: Stall| {
        MessageField::some(PSIData {
            avg10: stall.avg10,
            avg60: stall.avg60,
            avg300: stall.avg300,
            total: stall.total,
            ..Default::default()
        })
    };
    pressure.map(|it| PSIStats { some: data(it.some), full: data(it.full), ..Default::default() }).into()
}

#[cfg(test)]
mod tests {
    use super::*;
    use cgroup::{Amount, CpuUsage, IoEntry};

    #[test]
    fn figures_arrive() {
        let mut usage = Usage::default();
        usage.cpu = Some(CpuUsage { total: 5_000, ..CpuUsage::default() });
        usage.memory = Some(MemoryUsage {
            usage: Amount { usage: 5, limit: u64::MAX, ..Amount::default() },
            raw: vec![("inactive_file".into(), 7)],
            events: vec![("oom_kill".into(), 2)],
            ..MemoryUsage::default()
        });
        usage.io.bytes.push(IoEntry { major: 8, minor: 1, op: "Read".into(), value: 3 });
        usage.io.requests.push(IoEntry { major: 8, minor: 1, op: "Write".into(), value: 4 });
        let metrics = of(&usage);
        assert_eq!(metrics.cpu.usage_usec, 5);
        assert_eq!((metrics.memory.usage, metrics.memory.inactive_file), (5, 7));
        assert_eq!(metrics.memory_events.oom_kill, 2);
        assert_eq!((metrics.io.usage[0].rbytes, metrics.io.usage[0].wios), (3, 4));
    }
}
