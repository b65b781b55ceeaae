//! What a container may use, in the kernel's own units.

use std::os::fd::AsFd;

use rustix::fs::{CWD, Mode, OFlags, openat};
use rustix::io::write;

use crate::Cgroup;
use crate::bpf;
use crate::devices::{DeviceRule, Rules};
use crate::error::{Context, Error};
use crate::place::Directory;

/// What a container may use. What is empty or absent is left as it is.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Resources {
    /// The devices, all rules in order: nothing is added to them (see [`default_device_rules`]).
    ///
    /// [`default_device_rules`]: crate::default_device_rules
    pub devices: Vec<DeviceRule>,
}

/// Puts limits into force. The order of resources is that of the fields.
pub(crate) fn apply(cgroup: &Cgroup, resources: &Resources) -> Result<(), Error> {
    if !resources.devices.is_empty() {
        apply_devices(cgroup, &Rules::new(&resources.devices))?;
    }
    Ok(())
}

/// By the v1 controller where the host has it in v1, else by a program in v2.
fn apply_devices(cgroup: &Cgroup, rules: &Rules) -> Result<(), Error> {
    let place = &cgroup.place;
    match (place.v1.iter().find(|directory| directory.has("devices")), &place.unified, cgroup.unified_fd()) {
        (Some(directory), _, _) => write_devices(directory, rules),
        (None, Some(directory), Some(fd)) => bpf::apply(rules, fd, &directory.full(), !cgroup.fresh),
        _ => Err(Error::NoDeviceControl),
    }
}

fn write_devices(directory: &Directory, rules: &Rules) -> Result<(), Error> {
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
