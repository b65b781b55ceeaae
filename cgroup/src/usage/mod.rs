//! What a container uses: the figures of the kernel, read from the files that there are. Numbers are the kernel's own
//! units made equal: times in nanoseconds, memory in bytes.

mod files;
mod v1;
mod v2;

use crate::error::Error;
use crate::place::Place;

pub use v1::CPUSET_FLAGS;

/// All that is known; what the host does not count is absent.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct Usage {
    /// Time of processors.
    pub cpu: Option<CpuUsage>,
    /// Processors and memory nodes; cgroup v1 alone.
    pub cpuset: Option<CpusetUsage>,
    /// Memory and swap.
    pub memory: Option<MemoryUsage>,
    /// Processes and threads.
    pub pids: Option<PidsUsage>,
    /// Block devices.
    pub io: IoUsage,
    /// By size of page, as the kernel names them: `2MB`.
    pub hugetlb: Vec<(String, HugetlbUsage)>,
    /// By device.
    pub rdma: Vec<RdmaUsage>,
}

/// Time of processors, in nanoseconds.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct CpuUsage {
    /// All of it.
    pub total: u64,
    /// In programs.
    pub user: u64,
    /// In the kernel.
    pub kernel: u64,
    /// By processor; cgroup v1 alone counts that.
    pub per_cpu: Vec<u64>,
    /// The same in programs.
    pub per_cpu_user: Vec<u64>,
    /// The same in the kernel.
    pub per_cpu_kernel: Vec<u64>,
    /// Periods of a quota that have passed.
    pub periods: u64,
    /// Periods in which it was used up.
    pub throttled_periods: u64,
    /// For how long.
    pub throttled_time: u64,
    /// Periods in which a burst was used.
    pub bursts: u64,
    /// For how long.
    pub burst_time: u64,
    /// How long processes waited for a processor.
    pub pressure: Option<Pressure>,
}

/// The files of a cpuset, cpuset(7).
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct CpusetUsage {
    /// Processors.
    pub cpus: Vec<u16>,
    /// Memory nodes.
    pub mems: Vec<u16>,
    /// Those of [`CPUSET_FLAGS`] that there are.
    pub flags: Vec<(&'static str, i64)>,
}

/// Memory, in bytes.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct MemoryUsage {
    /// Page cache.
    pub cache: u64,
    /// Memory; without swap.
    pub usage: Amount,
    /// Memory with swap.
    pub with_swap: Amount,
    /// Swap alone; cgroup v2 counts it so.
    pub swap: Option<Amount>,
    /// Of the kernel for the container.
    pub kernel: Amount,
    /// Buffers of TCP.
    pub kernel_tcp: Amount,
    /// Every line of memory.stat.
    pub raw: Vec<(String, u64)>,
    /// Every line of memory.events, of cgroup v2.
    pub events: Vec<(String, u64)>,
    /// cgroup v1 counts all below too.
    pub hierarchical: bool,
    /// How long processes waited for memory.
    pub pressure: Option<Pressure>,
}

/// How much of something.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct Amount {
    /// Now.
    pub usage: u64,
    /// The most there ever was; zero where that is not counted.
    pub max: u64,
    /// The most there may be; `u64::MAX` for no limit.
    pub limit: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Processes and threads.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct PidsUsage {
    /// Now.
    pub current: u64,
    /// The most there may be; zero for no limit.
    pub limit: u64,
}

/// Block devices: lists by kind of figure.
#[derive(Debug, Default, Clone, PartialEq)]
pub struct IoUsage {
    /// Bytes.
    pub bytes: Vec<IoEntry>,
    /// Requests.
    pub requests: Vec<IoEntry>,
    /// Waiting requests.
    pub queued: Vec<IoEntry>,
    /// Nanoseconds of service.
    pub service_time: Vec<IoEntry>,
    /// Nanoseconds of waiting.
    pub wait_time: Vec<IoEntry>,
    /// Merged requests.
    pub merged: Vec<IoEntry>,
    /// Milliseconds of the device.
    pub time: Vec<IoEntry>,
    /// Sectors.
    pub sectors: Vec<IoEntry>,
    /// How long processes waited for devices.
    pub pressure: Option<Pressure>,
}

/// A figure of one device.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct IoEntry {
    /// Major number.
    pub major: u64,
    /// Minor number.
    pub minor: u64,
    /// `Read`, `Write`, `Sync`, ...; empty where there is one figure only.
    pub op: String,
    /// The figure.
    pub value: u64,
}

/// Huge pages, in bytes.
#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
pub struct HugetlbUsage {
    /// Now.
    pub usage: u64,
    /// The most there ever was; cgroup v1 alone counts that.
    pub max: u64,
    /// How often the limit was hit.
    pub failcnt: u64,
}

/// Handles and objects of an RDMA device.
#[derive(Debug, Default, Clone, PartialEq, Eq)]
pub struct RdmaUsage {
    /// The device.
    pub device: String,
    /// hca_handle and hca_object.
    pub current: (u64, u64),
    /// Their limits.
    pub limit: (u64, u64),
}

/// Pressure stall information (Documentation/accounting/psi.rst).
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Pressure {
    /// Some processes waited.
    pub some: Stall,
    /// All processes waited.
    pub full: Stall,
}

/// Parts of time in percent, and a total in microseconds.
#[derive(Debug, Default, Clone, Copy, PartialEq)]
pub struct Stall {
    /// Over 10 s.
    pub avg10: f64,
    /// Over 60 s.
    pub avg60: f64,
    /// Over 300 s.
    pub avg300: f64,
    /// Since the cgroup was made.
    pub total: u64,
}

pub(crate) fn read(place: &Place) -> Result<Usage, Error> {
    let mut usage = Usage::default();
    for directory in &place.v1 {
        v1::read(directory, &mut usage)?;
    }
    if let Some(directory) = &place.unified {
        let in_v1 = |name: &str| place.v1.iter().any(|directory| directory.has(name));
        v2::read(directory, &in_v1, &mut usage)?;
    }
    Ok(usage)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::place::Directory;

    fn directory() -> (std::path::PathBuf, Directory) {
        let path = std::env::temp_dir().join(format!("usage-{}-{:?}", std::process::id(), std::thread::current().id()));
        std::fs::create_dir_all(&path).unwrap();
        let directory = Directory::new("", path.to_str().unwrap(), "/".into());
        (path, directory)
    }

    fn usage_of(files: &[(&str, &str)], controllers: &str) -> Result<Usage, String> {
        let (path, mut directory) = directory();
        for (name, text) in files {
            std::fs::write(path.join(name), text).unwrap();
        }
        directory.controllers = controllers.to_owned();
        let place = match controllers {
            "" => Place::new(Some(directory), vec![]),
            _ => Place::new(None, vec![directory]),
        };
        let usage = read(&place).map_err(|error| error.to_string());
        std::fs::remove_dir_all(path).unwrap();
        usage
    }

    #[test]
    fn files_of_version_2() {
        let usage = usage_of(
            &[
                (
                    "cpu.stat",
                    "usage_usec 5\nuser_usec 3\nsystem_usec 2\nnr_periods 7\nnr_throttled 1\nthrottled_usec 9\n",
                ),
                ("cpu.pressure", "some avg10=1.50 avg60=0.10 avg300=0.00 total=77\n"),
                ("memory.current", "4096\n"),
                ("memory.max", "max\n"),
                ("memory.swap.current", "10\n"),
                ("memory.swap.max", "20\n"),
                ("memory.stat", "anon 1\nfile 2\n"),
                ("memory.events", "low 0\nmax 3\noom_kill 1\n"),
                ("pids.current", "2\n"),
                ("pids.max", "max\n"),
                ("io.stat", "8:0 rbytes=1 wbytes=2 rios=3 wios=4 dbytes=0 dios=0\n8:16 \n\n"),
            ],
            "",
        )
        .unwrap();
        let cpu = usage.cpu.unwrap();
        assert_eq!((cpu.total, cpu.user, cpu.kernel, cpu.throttled_time), (5000, 3000, 2000, 9000));
        assert_eq!(cpu.pressure.unwrap().some, Stall { avg10: 1.5, avg60: 0.1, avg300: 0.0, total: 77 });
        let memory = usage.memory.unwrap();
        assert_eq!(memory.usage, Amount { usage: 4096, max: 0, limit: u64::MAX, failcnt: 3 });
        assert_eq!((memory.with_swap.usage, memory.with_swap.limit, memory.cache), (4106, u64::MAX, 2));
        assert_eq!(usage.pids, Some(PidsUsage { current: 2, limit: 0 }));
        assert_eq!(usage.io.bytes[1], IoEntry { major: 8, minor: 0, op: "Write".into(), value: 2 });
        assert_eq!(usage.io.requests.len(), 3);
    }

    #[test]
    fn files_of_version_1() {
        let usage = usage_of(
            &[
                ("cpuacct.usage", "9000\n"),
                ("cpuacct.stat", "user 2\nsystem 3\n"),
                ("cpuacct.usage_percpu", "4000 5000 \n"),
                ("cpuacct.usage_all", "cpu user system\n0 1 2\n1 3 4\n"),
                ("cpu.stat", "nr_periods 1\nnr_throttled 2\nthrottled_time 3\n"),
                ("memory.usage_in_bytes", "1\n"),
                ("memory.limit_in_bytes", "9223372036854771712\n"),
                ("memory.stat", "cache 5\n"),
                ("blkio.throttle.io_service_bytes_recursive", "8:0 Read 5\n8:0 Total 5\nTotal 5\n"),
                ("blkio.sectors_recursive", "8:0 8\n"),
            ],
            "cpu,cpuacct,memory,blkio",
        )
        .unwrap();
        let cpu = usage.cpu.unwrap();
        assert_eq!((cpu.total, cpu.user, cpu.per_cpu.len(), cpu.throttled_time), (9000, 20_000_000, 2, 3));
        assert_eq!((cpu.per_cpu_user, cpu.per_cpu_kernel), (vec![1, 3], vec![2, 4]));
        assert_eq!(usage.memory.unwrap().cache, 5);
        assert_eq!((usage.io.bytes.len(), usage.io.sectors[0].value), (2, 8));
    }

    #[test]
    fn what_makes_no_sense_is_an_error_that_names_file_and_line() {
        for (file, text) in [
            ("cpu.stat", "usage_usec\n"),
            ("cpu.stat", "usage_usec -1\n"),
            ("memory.current", "99999999999999999999999\n"),
            ("memory.current", "\n"),
            ("io.stat", "x rbytes=1\n"),
            ("io.stat", "8:0 rbytes=x\n"),
            ("cpu.pressure", "nobody avg10=0\n"),
            ("rdma.current", "mlx4_0 hca_handle=x\n"),
            ("rdma.max", "mlx4_0 other=1\n"),
        ] {
            let files = [("cpu.stat", "usage_usec 1\n"), (file, text)];
            let error = usage_of(&files, "").unwrap_err();
            assert!(error.contains(file) && error.contains("cannot make sense of"), "{text:?}: {error}");
        }
        assert_eq!(usage_of(&[], "").unwrap(), Usage::default());
    }
}
