//! Smaller sections of `linux`: network devices and resctrl.

use super::{Namespaces, text};
use crate::config::spec::Linux;
use crate::error::{Result, bad};
use rootfs::plan::CText;
use serde::Serialize;

/// A network device of the host that moves into the container.
#[derive(Clone, Debug, Serialize)]
pub(crate) struct NetDevice {
    pub host: CText,
    /// Its name there; one that ends in `%d` is numbered by the kernel.
    pub name: CText,
}

/// IFNAMSIZ less the NUL.
const MAX_NAME: usize = 15;

pub(crate) fn net_devices(linux: Option<&Linux<'_>>, namespaces: &Namespaces) -> Result<Vec<NetDevice>> {
    let Some(linux) = linux.filter(|linux| !linux.net_devices.is_empty()) else { return Ok(Vec::new()) };
    if !namespaces.has_own(libc::CLONE_NEWNET) {
        return Err(bad("linux.netDevices", "needs a network namespace"));
    }
    let mut devices: Vec<NetDevice> = Vec::new();
    for (host, device) in linux.net_devices.iter() {
        let property = format!("linux.netDevices {:?}", &**host);
        let name = device.name.as_deref().filter(|name| !name.is_empty()).unwrap_or(host);
        for name in [&**host, name] {
            check_name(&property, name)?;
        }
        let name = text(&property, name)?;
        if devices.iter().any(|other| other.name == name && !name.to_bytes().ends_with(b"%d")) {
            return Err(bad(property, format_args!("the name {name} is given twice")));
        }
        devices.push(NetDevice { host: text(&property, host)?, name });
    }
    Ok(devices)
}

fn check_name(property: &str, name: &str) -> Result<()> {
    let bad_char = |c: char| c == '/' || c == ':' || c.is_whitespace();
    match name {
        "" | "." | ".." => {}
        name if name.len() > MAX_NAME || name.contains(bad_char) => {}
        _ => return Ok(()),
    }
    Err(bad(property, format_args!("{name:?} is no name of a network device")))
}

/// What to do in resctrl.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IntelRdt {
    /// The control group: `/` is the default one.
    pub group: String,
    /// `closID` was given, so the group is not the container's to remove.
    pub shared: bool,
    /// Lines for its schemata file, in order.
    pub schemata: Vec<String>,
    /// Those of them that an existing group must have already.
    pub compared: Vec<String>,
    /// Name of the monitoring group.
    pub monitor: Option<String>,
}

pub(crate) fn intel_rdt(linux: Option<&Linux<'_>>, id: &str) -> Result<Option<IntelRdt>> {
    let Some(rdt) = linux.and_then(|linux| linux.intel_rdt.as_ref()) else { return Ok(None) };
    let clos = rdt.clos_id.as_deref().filter(|clos| !clos.is_empty());
    if let Some(clos) = clos
        && clos != "/"
        && (clos.contains(['/', '\n', '\0']) || matches!(clos, "." | ".." | "info" | "mon_data" | "mon_groups"))
    {
        return Err(bad("linux.intelRdt.closID", format_args!("{clos:?} is no name of a directory")));
    }
    let mut schemata = Vec::new();
    let mut compared = Vec::new();
    for (property, prefix, value) in [
        ("linux.intelRdt.l3CacheSchema", "L3", &rdt.l3_cache_schema),
        ("linux.intelRdt.memBwSchema", "MB:", &rdt.mem_bw_schema),
    ] {
        let Some(value) = value.as_deref().filter(|value| !value.is_empty()) else { continue };
        one_line(property, value)?;
        if !value.starts_with(prefix) {
            return Err(bad(property, format_args!("{value:?} does not start with {prefix:?}")));
        }
        schemata.push(value.to_owned());
        compared.push(value.to_owned());
    }
    for (index, line) in rdt.schemata.iter().enumerate() {
        one_line(&format!("linux.intelRdt.schemata[{index}]"), line)?;
        schemata.push(line.to_string());
    }
    Ok(Some(IntelRdt {
        group: clos.unwrap_or(id).to_owned(),
        shared: clos.is_some(),
        schemata,
        compared,
        monitor: rdt.enable_monitoring.unwrap_or(false).then(|| id.to_owned()),
    }))
}

fn one_line(property: &str, value: &str) -> Result<()> {
    match value.contains('\n') {
        true => Err(bad(property, format_args!("{value:?} holds a newline"))),
        false => Ok(()),
    }
}
