//! Device rules: by the v1 controller where the host has it in v1, else by a program in v2.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::write;

use crate::devices::{DeviceRule, Rules};
use crate::error::{Context, Error};
use crate::place::Directory;
use crate::{Cgroup, bpf};

/// Replaces the rules of the cgroup.
pub(crate) fn apply(cgroup: &Cgroup, rules: &[DeviceRule]) -> Result<(), Error> {
    let place = &cgroup.place;
    let rules = &Rules::new(rules);
    match (place.v1.iter().find(|directory| directory.has("devices")), &place.unified, cgroup.unified_fd()) {
        (Some(directory), _, _) => write_rules(directory, rules),
        (None, Some(directory), Some(fd)) => bpf::apply(rules, fd, &directory.full(), !cgroup.fresh),
        _ => Err(Error::NoDeviceControl),
    }
}

fn write_rules(directory: &Directory, rules: &Rules) -> Result<(), Error> {
    let writes = rules
        .v1_writes()
        .map_err(|(rule, earlier)| Error::DeviceOverlap { rule: rule.to_string(), earlier: earlier.to_string() })?;
    let open = |name| {
        let path = directory.file(name);
        openat(CWD, &*path, OFlags::WRONLY | OFlags::CLOEXEC, Mode::empty()).context("open", &path)
    };
    let (allow, deny) = (open("devices.allow")?, open("devices.deny")?);
    for (allowed, rule) in writes {
        let (file, name) = if allowed { (&allow, "devices.allow") } else { (&deny, "devices.deny") };
        write(file.as_fd(), rule.as_bytes()).map(drop).context(&format!("write {rule:?} to"), &directory.file(name))?;
    }
    Ok(())
}
