//! The controller of block devices, `blkio` in v1 and `io` in v2: shares, and bounds on bytes and operations.

use rustix::io::Errno;

use super::controller::{Controller, Version};
use crate::error::Error;
use crate::resources::{BlockIo, DeviceWeight, Throttle, ThrottleKind};

/// Everything that is set.
pub(crate) fn apply(files: &Controller<'_>, io: &BlockIo) -> Result<(), Error> {
    if let Some(weight) = io.weight {
        set_weight(files, "blockIO.weight", None, weight)?;
    }
    if let Some(weight) = io.leaf_weight {
        set_leaf_weight(files, "blockIO.leafWeight", None, weight)?;
    }
    for (index, device) in io.devices.iter().enumerate() {
        let name = |field: &str| format!("blockIO.weightDevice[{index}].{field}");
        if let Some(weight) = device.weight {
            set_weight(files, &name("weight"), Some(device), weight)?;
        }
        if let Some(weight) = device.leaf_weight {
            set_leaf_weight(files, &name("leafWeight"), Some(device), weight)?;
        }
    }
    io.throttle.iter().try_for_each(|throttle| set_throttle(files, throttle))
}

/// The share, of one device or of all. By the scheduler BFQ where the kernel has it, else by what came before (v1) or
/// after it (v2).
fn set_weight(files: &Controller<'_>, limit: &str, device: Option<&DeviceWeight>, weight: u16) -> Result<(), Error> {
    let suffix = device.map_or("", |_| "_device");
    let (bfq, other, other_weight) = match files.version {
        Version::V1 => (format!("blkio.bfq.weight{suffix}"), format!("blkio.weight{suffix}"), u32::from(weight)),
        Version::V2 => ("io.bfq.weight".to_owned(), "io.weight".to_owned(), io_weight(weight)),
    };
    let value = line(device, weight.into());
    match files.try_set(&bfq, &value) {
        Ok(()) => Ok(()),
        Err(Errno::NOENT) => files.set(limit, &other, line(device, other_weight)),
        Err(errno) => Err(files.failure(limit, &bfq, &value, errno)),
    }
}

fn set_leaf_weight(
    files: &Controller<'_>,
    limit: &str,
    device: Option<&DeviceWeight>,
    weight: u16,
) -> Result<(), Error> {
    if files.version == Version::V2 {
        return Err(Error::no_v1("blkio").limit(limit));
    }
    let file = format!("blkio.leaf_weight{}", device.map_or("", |_| "_device"));
    files.set(limit, &file, line(device, weight.into()))
}

fn line(device: Option<&DeviceWeight>, weight: u32) -> String {
    device.map_or_else(|| weight.to_string(), |device| format!("{}:{} {weight}", device.major, device.minor))
}

/// The weight of cgroup v2, 1 to 10000, for one of v1, 10 to 1000.
pub(crate) fn io_weight(weight: u16) -> u32 {
    1 + u32::from(weight.saturating_sub(10)) * 9999 / 990
}

fn set_throttle(files: &Controller<'_>, throttle: &Throttle) -> Result<(), Error> {
    let Throttle { kind, index, major, minor, rate } = throttle;
    let (name, v1, v2) = match kind {
        ThrottleKind::ReadBps => ("ReadBps", "read_bps", "rbps"),
        ThrottleKind::WriteBps => ("WriteBps", "write_bps", "wbps"),
        ThrottleKind::ReadIops => ("ReadIOPS", "read_iops", "riops"),
        ThrottleKind::WriteIops => ("WriteIOPS", "write_iops", "wiops"),
    };
    let limit = format!("blockIO.throttle{name}Device[{index}]");
    match (files.version, rate) {
        (Version::V1, rate) => {
            files.set(&limit, &format!("blkio.throttle.{v1}_device"), format_args!("{major}:{minor} {rate}"))
        }
        // v2 takes no zero, which in v1 is no bound.
        (Version::V2, 0) => files.set(&limit, "io.max", format_args!("{major}:{minor} {v2}=max")),
        (Version::V2, rate) => files.set(&limit, "io.max", format_args!("{major}:{minor} {v2}={rate}")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::fake::Fake;
    use super::*;

    fn io() -> BlockIo {
        let throttle = |kind, index, rate| Throttle { kind, index, major: 8, minor: 0, rate };
        BlockIo {
            weight: Some(500),
            leaf_weight: None,
            devices: vec![DeviceWeight { major: 8, minor: 16, weight: Some(10), leaf_weight: None }],
            throttle: vec![
                throttle(ThrottleKind::ReadBps, 0, 1024),
                throttle(ThrottleKind::WriteBps, 0, 0),
                throttle(ThrottleKind::ReadIops, 0, 5),
                throttle(ThrottleKind::WriteIops, 1, 6),
            ],
        }
    }

    fn throttles() -> Vec<(&'static str, &'static str)> {
        vec![
            ("blkio.throttle.read_bps_device", ""),
            ("blkio.throttle.write_bps_device", ""),
            ("blkio.throttle.read_iops_device", ""),
            ("blkio.throttle.write_iops_device", ""),
        ]
    }

    #[test]
    fn v1_has_a_file_for_each_kind() {
        let files = [throttles(), vec![("blkio.bfq.weight", "100"), ("blkio.bfq.weight_device", "")]].concat();
        let fake = Fake::new(&files);
        apply(&fake.v1(), &io()).unwrap();
        let expected = [
            "blkio.bfq.weight=500",
            "blkio.bfq.weight_device=8:16 10",
            "blkio.throttle.read_bps_device=8:0 1024",
            "blkio.throttle.write_bps_device=8:0 0",
            "blkio.throttle.read_iops_device=8:0 5",
            "blkio.throttle.write_iops_device=8:0 6",
        ];
        assert_eq!(fake.log(), expected);
    }

    #[test]
    fn v1_before_bfq_had_leaves_too() {
        let files = [("blkio.weight", ""), ("blkio.leaf_weight", ""), ("blkio.leaf_weight_device", "")];
        let fake = Fake::new(&files);
        let devices = vec![DeviceWeight { major: 8, minor: 0, weight: None, leaf_weight: Some(30) }];
        let io = BlockIo { weight: Some(20), leaf_weight: Some(10), devices, throttle: vec![] };
        apply(&fake.v1(), &io).unwrap();
        assert_eq!(fake.log(), ["blkio.weight=20", "blkio.leaf_weight=10", "blkio.leaf_weight_device=8:0 30"]);
    }

    #[test]
    fn v2_has_one_file_for_all_kinds() {
        let rest = ["io.max=8:0 rbps=1024", "io.max=8:0 wbps=max", "io.max=8:0 riops=5", "io.max=8:0 wiops=6"];
        let fake = Fake::new(&[("io.bfq.weight", ""), ("io.weight", ""), ("io.max", "")]);
        apply(&fake.v2(), &io()).unwrap();
        assert_eq!(fake.log(), [vec!["io.bfq.weight=500", "io.bfq.weight=8:16 10"], rest.to_vec()].concat());
        let fake = Fake::new(&[("io.weight", ""), ("io.max", "")]);
        apply(&fake.v2(), &io()).unwrap();
        assert_eq!(fake.log(), [vec!["io.weight=4950", "io.weight=8:16 1"], rest.to_vec()].concat());
    }

    #[test]
    fn weights_keep_their_ends() {
        assert_eq!([10, 500, 1000].map(io_weight), [1, 4950, 10_000]);
    }

    #[test]
    fn errors_name_the_entry() {
        let error = apply(&Fake::new(&throttles()).v1(), &io()).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.blockIO.weight: /fake/blkio.weight "), "{error}");
        let fake = Fake::new(&throttles()).with_rule(|_, name, _| name.contains("write_iops").then_some(Errno::NODEV));
        let error = apply(&fake.v1(), &BlockIo { weight: None, devices: vec![], ..io() }).unwrap_err().to_string();
        let expected = "linux.resources.blockIO.throttleWriteIOPSDevice[1]: write \"8:0 6\" to \
                        /fake/blkio.throttle.write_iops_device: no such device";
        assert_eq!(error, expected);
        let leaf = BlockIo { leaf_weight: Some(10), ..BlockIo::default() };
        let error = apply(&Fake::new(&[]).v2(), &leaf).unwrap_err().to_string();
        assert!(error.starts_with("linux.resources.blockIO.leafWeight: "), "{error}");
    }
}
