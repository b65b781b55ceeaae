//! The `cpu` controller: shares of processor time, quotas, real-time bandwidth (v1).

use rustix::io::Errno;

use super::controller::{Controller, Version};
use crate::error::Error;
use crate::resources::{Cpu, Limit};

/// Whether anything is set that [`apply`] writes.
pub(crate) fn is_set(cpu: &Cpu) -> bool {
    cpu.shares.is_some() || cpu.quota.is_some() || cpu.period.is_some() || cpu.burst.is_some() || cpu.idle.is_some()
}

/// Shares, idle, quota, period, burst.
pub(crate) fn apply(files: &Controller<'_>, cpu: &Cpu) -> Result<(), Error> {
    if let Some(idle) = cpu.idle {
        files.set("cpu.idle", "cpu.idle", u8::from(idle))?;
    }
    // The kernel takes no weight for one that is idle, and has none for it.
    if let Some(shares) = cpu.shares.filter(|_| cpu.idle != Some(true)) {
        match files.version {
            Version::V1 => files.set("cpu.shares", "cpu.shares", shares)?,
            Version::V2 => files.set("cpu.shares", "cpu.weight", weight_of_shares(shares))?,
        }
    }
    // It may not be above the quota: before it where it shrinks with it, else after.
    let file = match files.version {
        Version::V1 => "cpu.cfs_burst_us",
        Version::V2 => "cpu.max.burst",
    };
    let early = match cpu.burst {
        Some(burst) if cpu.quota.is_some() => files.try_set(file, burst),
        _ => Err(Errno::INVAL),
    };
    match files.version {
        Version::V1 => bandwidth_v1(files, cpu)?,
        Version::V2 => bandwidth_v2(files, cpu)?,
    }
    match (cpu.burst, early) {
        (Some(burst), Err(_)) => files.set("cpu.burst", file, burst),
        _ => Ok(()),
    }
}

/// The weight, 1 to 10000, that cgroup v2 has for v1's shares. The least, the greatest and the default of the one are
/// those of the other, with a smooth curve between; runc since 1.3.2 and crun since 1.23 have the same.
pub(crate) fn weight_of_shares(shares: u64) -> u64 {
    match shares {
        0..=2 => 1,
        262_144.. => 10_000,
        shares => {
            let log = (shares as f64).log2();
            10f64.powf((log * log + 125.0 * log) / 612.0 - 7.0 / 34.0).ceil() as u64
        }
    }
}

/// A shorter period makes more of the quota there is, perhaps more than a cgroup above has: then the quota is first.
fn bandwidth_v1(files: &Controller<'_>, cpu: &Cpu) -> Result<(), Error> {
    let period_file = "cpu.cfs_period_us";
    let mut late = None;
    if let Some(period) = cpu.period {
        match files.try_set(period_file, period) {
            Ok(()) => {}
            Err(Errno::INVAL) if cpu.quota.is_some() => late = Some(period),
            Err(errno) => return Err(files.failure("cpu.period", period_file, &period.to_string(), errno)),
        }
    }
    match cpu.quota {
        Some(Limit::Of(quota)) => files.set("cpu.quota", "cpu.cfs_quota_us", quota)?,
        Some(Limit::Unlimited) => files.set("cpu.quota", "cpu.cfs_quota_us", -1)?,
        None => {}
    }
    late.map_or(Ok(()), |period| files.set("cpu.period", period_file, period))
}

/// One file for both: a quota alone leaves the period, a period alone needs the quota there is.
fn bandwidth_v2(files: &Controller<'_>, cpu: &Cpu) -> Result<(), Error> {
    match (cpu.quota, cpu.period) {
        (Some(quota), None) => files.set("cpu.quota", "cpu.max", quota),
        (Some(quota), Some(period)) => files.set("cpu.quota", "cpu.max", format_args!("{quota} {period}")),
        (None, Some(period)) => match files.get("cpu.period", "cpu.max") {
            Ok(now) => {
                let quota = now.split(' ').next().unwrap_or("max");
                files.set("cpu.period", "cpu.max", format_args!("{quota} {period}"))
            }
            // Says why.
            Err(error) if error.errno() == Some(libc::ENOENT) => files.set("cpu.period", "cpu.max", period),
            Err(error) => Err(error),
        },
        (None, None) => Ok(()),
    }
}

/// Before a process comes in: a cgroup without real-time bandwidth takes in no real-time process, and the container's
/// own may become one while it is set up.
pub(crate) fn apply_realtime(files: &Controller<'_>, cpu: &Cpu) -> Result<(), Error> {
    if files.version == Version::V2 {
        let name = if cpu.realtime_runtime.is_some() { "cpu.realtimeRuntime" } else { "cpu.realtimePeriod" };
        return Err(Error::no_v1("cpu").limit(name));
    }
    let first = write_realtime(files, cpu);
    if !matches!(&first, Err(error) if error.errno() == Some(libc::EINVAL)) {
        return first;
    }
    // No more than the cgroup above has, which has none if it was just made. Others' are left as they are.
    for above in files.made_above() {
        write_realtime(&above, cpu)?;
    }
    write_realtime(files, cpu)
}

fn write_realtime(files: &Controller<'_>, cpu: &Cpu) -> Result<(), Error> {
    if let Some(period) = cpu.realtime_period {
        files.set("cpu.realtimePeriod", "cpu.rt_period_us", period)?;
    }
    match cpu.realtime_runtime {
        Some(Limit::Of(runtime)) => files.set("cpu.realtimeRuntime", "cpu.rt_runtime_us", runtime),
        Some(Limit::Unlimited) => files.set("cpu.realtimeRuntime", "cpu.rt_runtime_us", -1),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    #[test]
    fn weights_are_those_of_the_new_curve() {
        let expected = [(0, 1), (1, 1), (2, 1), (1024, 100), (262_144, 10_000), (u64::MAX, 10_000)];
        for (shares, weight) in expected {
            assert_eq!(weight_of_shares(shares), weight, "{shares}");
        }
        // ceil(10^((81 + 1125) / 612 - 7 / 34)), and what is between grows.
        assert_eq!(weight_of_shares(512), 59);
        let all: Vec<u64> = (2..=262_144).step_by(101).map(weight_of_shares).collect();
        assert!(all.is_sorted() && all.iter().all(|weight| (1..=10_000).contains(weight)));
    }

    fn v1() -> Fake {
        Fake::new(&[
            ("cpu.shares", "1024"),
            ("cpu.cfs_period_us", "100000"),
            ("cpu.cfs_quota_us", "-1"),
            ("cpu.cfs_burst_us", "0"),
            ("cpu.idle", "0"),
            ("cpu.rt_period_us", "1000000"),
            ("cpu.rt_runtime_us", "0"),
        ])
    }

    fn v2() -> Fake {
        Fake::new(&[("cpu.weight", "100"), ("cpu.max", "max 100000"), ("cpu.max.burst", "0"), ("cpu.idle", "0")])
    }

    #[test]
    fn only_what_is_set_is_written() {
        let cpu = Cpu { shares: Some(512), ..Cpu::default() };
        let (one, two) = (v1(), v2());
        apply(&one.v1(), &cpu).unwrap();
        apply(&two.v2(), &cpu).unwrap();
        assert_eq!((one.log(), two.log()), (vec!["cpu.shares=512".into()], vec!["cpu.weight=59".into()]));
        apply(&one.v1(), &Cpu::default()).unwrap();
        assert_eq!(one.log().len(), 1);
    }

    #[test]
    fn an_idle_one_has_no_weight_and_one_that_is_no_longer_gets_it_back() {
        let two = v2();
        apply(&two.v2(), &Cpu { shares: Some(512), idle: Some(true), ..Cpu::default() }).unwrap();
        assert_eq!(two.log(), ["cpu.idle=1"]);
        apply(&two.v2(), &Cpu { shares: Some(1024), idle: Some(false), ..Cpu::default() }).unwrap();
        assert_eq!(two.log()[1..], ["cpu.idle=0", "cpu.weight=100"]);
    }

    #[test]
    fn quota_and_period_share_a_file_on_v2() {
        let cases = [
            (Some(Limit::Of(5000)), Some(20_000), "cpu.max=5000 20000"),
            (Some(Limit::Of(5000)), None, "cpu.max=5000"),
            (Some(Limit::Unlimited), None, "cpu.max=max"),
            (None, Some(20_000), "cpu.max=max 20000"),
        ];
        for (quota, period, expected) in cases {
            let fake = v2();
            apply(&fake.v2(), &Cpu { quota, period, ..Cpu::default() }).unwrap();
            assert_eq!(fake.log(), [expected]);
        }
        let kept = Fake::new(&[("cpu.max", "7000 100000")]);
        apply(&kept.v2(), &Cpu { period: Some(50_000), ..Cpu::default() }).unwrap();
        assert_eq!(kept.log(), ["cpu.max=7000 50000"]);
    }

    #[test]
    fn a_period_that_is_refused_comes_after_the_quota_on_v1() {
        let fake = v1().with_rule(|files, name, value| {
            let refused = name == "cpu.cfs_period_us" && value == "1000" && files["cpu.cfs_quota_us"] == "-1";
            refused.then_some(Errno::INVAL)
        });
        let cpu = Cpu { quota: Some(Limit::Of(500)), period: Some(1000), ..Cpu::default() };
        apply(&fake.v1(), &cpu).unwrap();
        assert_eq!(fake.log(), ["cpu.cfs_quota_us=500", "cpu.cfs_period_us=1000"]);
        let error = apply(&v1().with_rule(|_, _, _| Some(Errno::INVAL)).v1(), &cpu).unwrap_err().to_string();
        assert_eq!(error, "linux.resources.cpu.quota: write \"500\" to /fake/cpu.cfs_quota_us: invalid argument");
    }

    #[test]
    fn a_burst_is_never_above_the_quota_that_is_in_force() {
        let bound = |name: &'static str| {
            move |files: &std::collections::BTreeMap<String, String>, file: &str, value: &str| {
                let number = |text: &str| text.split(' ').next().and_then(|word| word.parse::<u64>().ok());
                let quota = number(&files["cpu.max"]).unwrap_or(0);
                let burst = number(&files["cpu.max.burst"]).unwrap_or(0);
                let refused = match file {
                    _ if file == name => return Some(Errno::PERM),
                    "cpu.max.burst" => number(value).unwrap_or(0) > quota,
                    "cpu.max" => number(value).is_some_and(|quota| burst > quota),
                    _ => false,
                };
                refused.then_some(Errno::INVAL)
            }
        };
        let fake = v2().with_rule(bound(""));
        let cpu = |quota, burst| Cpu { quota: Some(Limit::Of(quota)), burst: Some(burst), ..Cpu::default() };
        apply(&fake.v2(), &cpu(50_000, 20_000)).unwrap();
        assert_eq!(fake.log(), ["cpu.max=50000", "cpu.max.burst=20000"]);
        apply(&fake.v2(), &cpu(10_000, 5000)).unwrap();
        assert_eq!(fake.log()[2..], ["cpu.max.burst=5000", "cpu.max=10000"]);
        let error = apply(&v2().with_rule(bound("cpu.max.burst")).v2(), &cpu(9000, 1)).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.cpu.burst: write \"1\" to"), "{error}");
    }

    #[test]
    fn real_time_is_v1s() {
        let cpu = Cpu { realtime_runtime: Some(Limit::Of(1000)), realtime_period: Some(50_000), ..Cpu::default() };
        let fake = v1();
        apply_realtime(&fake.v1(), &cpu).unwrap();
        assert_eq!(fake.log(), ["cpu.rt_period_us=50000", "cpu.rt_runtime_us=1000"]);
        let error = apply_realtime(&v2().v2(), &cpu).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.cpu.realtimeRuntime: "), "{error}");
    }
}
