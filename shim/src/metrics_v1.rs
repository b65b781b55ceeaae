//! Figures of cgroup v1, in nanoseconds and bytes. Source: github.com/containerd/cgroups, cgroup1/stats/metrics.proto.

use cgroup::{Amount, IoEntry, MemoryUsage, Usage};
use containerd_shim_protos::cgroups::metrics::{
    BlkIOEntry, BlkIOStat, CPUStat, CPUUsage, HugetlbStat, MemoryEntry, MemoryStat, Metrics, PidsStat, RdmaEntry,
    RdmaStat, Throttle,
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
        .map(|it| {
            let usage = CPUUsage {
                total: it.total,
                kernel: it.kernel,
                user: it.user,
                per_cpu: it.per_cpu.clone(),
                ..Default::default()
            };
            let throttling = Throttle {
                periods: it.periods,
                throttled_periods: it.throttled_periods,
                throttled_time: it.throttled_time,
                ..Default::default()
            };
            CPUStat {
                usage: MessageField::some(usage),
                throttling: MessageField::some(throttling),
                ..Default::default()
            }
        })
        .into();
    metrics.memory = usage.memory.as_ref().map(memory).into();
    metrics.hugetlb = usage
        .hugetlb
        .iter()
        .map(|(size, it)| HugetlbStat {
            usage: it.usage,
            max: it.max,
            failcnt: it.failcnt,
            pagesize: size.clone(),
            ..Default::default()
        })
        .collect();
    let io = &usage.io;
    metrics.blkio = MessageField::some(BlkIOStat {
        io_service_bytes_recursive: entries(&io.bytes),
        io_serviced_recursive: entries(&io.requests),
        io_queued_recursive: entries(&io.queued),
        io_service_time_recursive: entries(&io.service_time),
        io_wait_time_recursive: entries(&io.wait_time),
        io_merged_recursive: entries(&io.merged),
        io_time_recursive: entries(&io.time),
        sectors_recursive: entries(&io.sectors),
        ..Default::default()
    });
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
    let entry = |it: &Amount| {
        MessageField::some(MemoryEntry {
            limit: it.limit,
            usage: it.usage,
            max: it.max,
            failcnt: it.failcnt,
            ..Default::default()
        })
    };
    MemoryStat {
        cache: of("cache"),
        rss: of("rss"),
        rss_huge: of("rss_huge"),
        mapped_file: of("mapped_file"),
        dirty: of("dirty"),
        writeback: of("writeback"),
        pg_pg_in: of("pgpgin"),
        pg_pg_out: of("pgpgout"),
        pg_fault: of("pgfault"),
        pg_maj_fault: of("pgmajfault"),
        inactive_anon: of("inactive_anon"),
        active_anon: of("active_anon"),
        inactive_file: of("inactive_file"),
        active_file: of("active_file"),
        unevictable: of("unevictable"),
        hierarchical_memory_limit: of("hierarchical_memory_limit"),
        hierarchical_swap_limit: of("hierarchical_memsw_limit"),
        total_cache: of("total_cache"),
        total_rss: of("total_rss"),
        total_rss_huge: of("total_rss_huge"),
        total_mapped_file: of("total_mapped_file"),
        total_dirty: of("total_dirty"),
        total_writeback: of("total_writeback"),
        total_pg_pg_in: of("total_pgpgin"),
        total_pg_pg_out: of("total_pgpgout"),
        total_pg_fault: of("total_pgfault"),
        total_pg_maj_fault: of("total_pgmajfault"),
        total_inactive_anon: of("total_inactive_anon"),
        total_active_anon: of("total_active_anon"),
        total_inactive_file: of("total_inactive_file"),
        total_active_file: of("total_active_file"),
        total_unevictable: of("total_unevictable"),
        usage: entry(&memory.usage),
        swap: entry(&memory.with_swap),
        kernel: entry(&memory.kernel),
        kernel_tcp: entry(&memory.kernel_tcp),
        ..Default::default()
    }
}

fn entries(entries: &[IoEntry]) -> Vec<BlkIOEntry> {
    let entry = |it: &IoEntry| BlkIOEntry {
        op: it.op.clone(),
        device: format!("/dev/block/{}:{}", it.major, it.minor),
        major: it.major,
        minor: it.minor,
        value: it.value,
        ..Default::default()
    };
    entries.iter().map(entry).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_arrive() {
        let mut usage = Usage::default();
        usage.memory = Some(MemoryUsage {
            usage: Amount { usage: 5, limit: 9, ..Amount::default() },
            raw: vec![("total_inactive_file".into(), 7)],
            ..MemoryUsage::default()
        });
        usage.io.bytes.push(IoEntry { major: 8, minor: 1, op: "Read".into(), value: 3 });
        let metrics = of(&usage);
        assert_eq!((metrics.memory.usage.usage, metrics.memory.usage.limit), (5, 9));
        assert_eq!(metrics.memory.total_inactive_file, 7);
        assert_eq!(metrics.blkio.io_service_bytes_recursive[0].value, 3);
        assert!(metrics.pids.is_none());
    }
}
