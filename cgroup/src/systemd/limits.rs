//! Limits as properties of a unit: what was written to files, said to systemd too, so that it does not write other
//! values there when it is reloaded or a property changes.
//!
//! systemd knows fewer limits than the kernel. It leaves alone the files of those that it does not know.

use std::collections::BTreeMap;

use zvariant::Value;

use crate::limits::Version;

/// A value that was written to a file of the cgroup.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Written {
    pub(crate) version: Version,
    pub(crate) file: String,
    pub(crate) value: String,
}

/// The properties that say the same, by name.
pub(super) fn properties(written: &[Written]) -> Vec<(&'static str, Value<'static>)> {
    let mut list = Vec::new();
    let mut cpu = Cpu::default();
    let mut devices: BTreeMap<&'static str, Vec<(String, u64)>> = BTreeMap::new();
    for Written { version, file, value } in written {
        let mut plain = |name| list.extend(number(value).map(|number| (name, Value::from(number))));
        match (version, file.as_str()) {
            (Version::V2, "memory.max") => plain("MemoryMax"),
            (Version::V2, "memory.high") => plain("MemoryHigh"),
            (Version::V2, "memory.low") => plain("MemoryLow"),
            (Version::V2, "memory.min") => plain("MemoryMin"),
            (Version::V2, "memory.swap.max") => plain("MemorySwapMax"),
            (Version::V2, "memory.zswap.max") => plain("MemoryZSwapMax"),
            (Version::V1, "memory.limit_in_bytes") => plain("MemoryLimit"),
            // systemd takes no 0, and 1 is as much for a scope with the container's first process in it.
            (_, "pids.max") => list.extend(number(value).map(|number| ("TasksMax", Value::from(number.max(1))))),
            (Version::V1, "cpu.shares") => plain("CPUShares"),
            (Version::V1, "blkio.weight") => plain("BlockIOWeight"),
            // There systemd makes at most 181 of its own 10 to 1000. More than that it is not told, and leaves alone.
            (Version::V1, "blkio.bfq.weight") => {
                let weight = number(value).map(of_bfq).filter(|weight| *weight <= 1000);
                list.extend(weight.map(|weight| ("BlockIOWeight", Value::from(weight))));
            }
            (Version::V2, "cpuset.cpus") => list.extend(mask(value).map(|mask| ("AllowedCPUs", mask))),
            (Version::V2, "cpuset.mems") => list.extend(mask(value).map(|mask| ("AllowedMemoryNodes", mask))),
            (_, file) if cpu.take(file, value) => {}
            (version, file) => {
                for (name, device, number) in of_devices(*version, file, value) {
                    match device {
                        None => list.push((name, Value::from(number))),
                        Some(device) => devices.entry(name).or_default().push((device, number)),
                    }
                }
            }
        }
    }
    list.extend(cpu.properties());
    list.extend(devices.into_iter().map(|(name, entries)| (name, Value::from(entries))));
    list
}

/// What no limit is for systemd.
const INFINITY: u64 = u64::MAX;

/// `max` and, of v1, -1 are no limit.
fn number(value: &str) -> Option<u64> {
    match value.trim() {
        "max" | "-1" => Some(INFINITY),
        value => value.parse().ok(),
    }
}

/// Time of the processor: several files make one property.
#[derive(Default)]
struct Cpu {
    /// In microseconds per period.
    quota: Option<u64>,
    period: Option<u64>,
    weight: Option<u64>,
    idle: Option<bool>,
}

impl Cpu {
    /// Whether it was one of its files.
    fn take(&mut self, file: &str, value: &str) -> bool {
        match file {
            "cpu.max" => {
                let mut words = value.split_ascii_whitespace();
                self.quota = words.next().and_then(number).or(self.quota);
                self.period = words.next().and_then(number).or(self.period);
            }
            "cpu.cfs_quota_us" => self.quota = number(value),
            "cpu.cfs_period_us" => self.period = number(value),
            "cpu.weight" => self.weight = number(value),
            "cpu.idle" => self.idle = Some(value.trim() == "1"),
            _ => return false,
        }
        true
    }

    fn properties(&self) -> Vec<(&'static str, Value<'static>)> {
        let mut list = Vec::new();
        if let Some(quota) = self.quota {
            list.push(("CPUQuotaPerSecUSec", Value::from(per_second(quota, self.period.unwrap_or(100_000)))));
        }
        list.extend(self.period.map(|period| ("CPUQuotaPeriodUSec", Value::from(period))));
        match (self.idle, self.weight) {
            // The weight of `CPUWeight=idle`, systemd 252.
            (Some(true), _) => list.push(("CPUWeight", Value::from(0u64))),
            (_, weight) => list.extend(weight.map(|weight| ("CPUWeight", Value::from(weight)))),
        }
        list
    }
}

/// systemd keeps whole percents of a processor: rounded up, as less than was asked for would be a tighter limit.
fn per_second(quota: u64, period: u64) -> u64 {
    const PERCENT: u128 = 10_000;
    if quota == INFINITY || period == 0 {
        return INFINITY;
    }
    let exact = (u128::from(quota) * 1_000_000).div_ceil(u128::from(period));
    u64::try_from(exact.div_ceil(PERCENT) * PERCENT).unwrap_or(INFINITY)
}

/// A list such as `0-2,7` as the bits of bytes, the lowest first. Strides are the kernel's alone.
fn mask(list: &str) -> Option<Value<'static>> {
    const HIGHEST: usize = 1 << 13;
    let mut bytes = Vec::new();
    for range in list.trim().split(',') {
        let (first, last) = range.split_once('-').unwrap_or((range, range));
        let (first, last): (usize, usize) = (first.parse().ok()?, last.parse().ok()?);
        if last >= HIGHEST {
            return None;
        }
        for number in first..=last {
            bytes.resize(bytes.len().max(number / 8 + 1), 0u8);
            bytes[number / 8] |= 1 << (number % 8);
        }
    }
    Some(Value::from(bytes))
}

/// Limits on block devices: the property, the device's node if it is for one, and the number.
fn of_devices(version: Version, file: &str, value: &str) -> Vec<(&'static str, Option<String>, u64)> {
    let mut words = value.split_ascii_whitespace();
    let first = words.next().unwrap_or_default();
    let node = first.contains(':').then(|| format!("/dev/block/{first}"));
    let one = |name: &'static str, for_device: &'static str, to: &dyn Fn(u64) -> u64| match (
        &node,
        value.split_ascii_whitespace().next_back(),
    ) {
        (Some(node), Some(last)) => number(last).map(|number| (for_device, Some(node.clone()), to(number))),
        (None, Some(last)) => number(last).map(|number| (name, None, to(number))),
        _ => None,
    };
    let same = |number| number;
    match (version, file) {
        (Version::V2, "io.weight") => one("IOWeight", "IODeviceWeight", &same).into_iter().collect(),
        (Version::V2, "io.bfq.weight") => one("IOWeight", "IODeviceWeight", &of_bfq).into_iter().collect(),
        (Version::V1, "blkio.weight_device" | "blkio.bfq.weight_device") => {
            one("", "BlockIODeviceWeight", &same).into_iter().collect()
        }
        (Version::V1, "blkio.throttle.read_bps_device") => one("", "BlockIOReadBandwidth", &same).into_iter().collect(),
        (Version::V1, "blkio.throttle.write_bps_device") => {
            one("", "BlockIOWriteBandwidth", &same).into_iter().collect()
        }
        (Version::V2, "io.max") => words
            .filter_map(|word| {
                let (key, value) = word.split_once('=')?;
                let name = match key {
                    "rbps" => "IOReadBandwidthMax",
                    "wbps" => "IOWriteBandwidthMax",
                    "riops" => "IOReadIOPSMax",
                    "wiops" => "IOWriteIOPSMax",
                    _ => return None,
                };
                Some((name, node.clone(), number(value)?))
            })
            .collect(),
        _ => Vec::new(),
    }
}

/// systemd makes 1 to 1000 of BFQ from its own 1 to 10000, the same up to 100; this is the way back.
fn of_bfq(weight: u64) -> u64 {
    if weight <= 100 { weight } else { 100 + (weight - 100) * 11 }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(version: Version, files: &[(&str, &str)]) -> Vec<String> {
        let written: Vec<Written> = files
            .iter()
            .map(|(file, value)| Written { version, file: (*file).to_owned(), value: (*value).to_owned() })
            .collect();
        properties(&written).iter().map(|(name, value)| format!("{name}={value}")).collect()
    }

    #[test]
    fn files_of_version_2() {
        let max = "uint64 18446744073709551615";
        assert_eq!(
            of(
                Version::V2,
                &[("memory.max", "4096"), ("memory.swap.max", "max"), ("pids.max", "7"), ("memory.high", "9")]
            ),
            ["MemoryMax=uint64 4096", &format!("MemorySwapMax={max}"), "TasksMax=uint64 7", "MemoryHigh=uint64 9"]
        );
        assert_eq!(
            of(Version::V2, &[("cpu.weight", "50"), ("cpu.max", "33333 100000")]),
            ["CPUQuotaPerSecUSec=uint64 340000", "CPUQuotaPeriodUSec=uint64 100000", "CPUWeight=uint64 50"]
        );
        assert_eq!(of(Version::V2, &[("pids.max", "0")]), ["TasksMax=uint64 1"]);
        assert_eq!(of(Version::V2, &[("cpu.max", "max")]), [format!("CPUQuotaPerSecUSec={max}")]);
        assert_eq!(of(Version::V2, &[("cpu.idle", "1"), ("cpu.weight", "50")]), ["CPUWeight=uint64 0"]);
        assert_eq!(of(Version::V2, &[("cpuset.cpus", "0-2,9")]), ["AllowedCPUs=[byte 0x07, 0x02]"]);
        assert_eq!(
            of(
                Version::V2,
                &[("io.max", "8:0 rbps=5"), ("io.max", "8:16 rbps=max wiops=3"), ("io.weight", "default 50")]
            ),
            [
                "IOWeight=uint64 50".to_owned(),
                format!("IOReadBandwidthMax=[(\"/dev/block/8:0\", uint64 5), (\"/dev/block/8:16\", {})]", INFINITY),
                "IOWriteIOPSMax=[(\"/dev/block/8:16\", uint64 3)]".to_owned(),
            ]
        );
        assert_eq!(
            of(Version::V2, &[("io.bfq.weight", "8:0 1000")]),
            ["IODeviceWeight=[(\"/dev/block/8:0\", uint64 10000)]"]
        );
        assert!(
            of(Version::V2, &[("hugetlb.2MB.max", "1"), ("cpu.max.burst", "1"), ("cpuset.cpus", "0-4:1/2")]).is_empty()
        );
    }

    #[test]
    fn files_of_version_1() {
        assert_eq!(
            of(
                Version::V1,
                &[("cpu.shares", "2"), ("memory.limit_in_bytes", "-1"), ("blkio.throttle.read_bps_device", "8:0 7")]
            ),
            [
                "CPUShares=uint64 2",
                "MemoryLimit=uint64 18446744073709551615",
                "BlockIOReadBandwidth=[(\"/dev/block/8:0\", uint64 7)]"
            ]
        );
        for (weight, told) in [("100", "100"), ("136", "496"), ("181", "991"), ("182", ""), ("500", "")] {
            let told: Vec<_> = (!told.is_empty()).then(|| format!("BlockIOWeight=uint64 {told}")).into_iter().collect();
            assert_eq!(of(Version::V1, &[("blkio.bfq.weight", weight)]), told, "{weight}");
        }
        assert_eq!(of(Version::V1, &[("blkio.weight", "500")]), ["BlockIOWeight=uint64 500"]);
        assert_eq!(
            of(Version::V1, &[("cpu.cfs_period_us", "50000"), ("cpu.cfs_quota_us", "25000")]),
            ["CPUQuotaPerSecUSec=uint64 500000", "CPUQuotaPeriodUSec=uint64 50000"]
        );
    }
}
