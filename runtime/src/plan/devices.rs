//! `linux.devices` and `linux.resources.devices`: nodes in /dev, and which of them may be opened.

use super::{clean, text};
use crate::config::spec::{self, Linux};
use crate::error::{Result, bad};
use cgroup::DeviceRule;
use rootfs::plan::{CText, Device, DeviceKind};

/// config-linux.md, Default devices.
const DEFAULT: [(&str, u32, u32); 6] = [
    ("/dev/null", 1, 3),
    ("/dev/zero", 1, 5),
    ("/dev/full", 1, 7),
    ("/dev/random", 1, 8),
    ("/dev/urandom", 1, 9),
    ("/dev/tty", 5, 0),
];

/// Those of config.json, at their places there, then the default ones whose paths they leave free.
pub(crate) fn nodes(linux: Option<&Linux<'_>>) -> Result<Vec<Device>> {
    let mut nodes = asked(linux)?;
    let count = nodes.len();
    for (path, major, minor) in DEFAULT {
        let path = CText::new(path).unwrap_or_default();
        if !nodes[..count].iter().any(|device| device.path == path) {
            let kind = DeviceKind::Char;
            nodes.push(Device { path, kind, major, minor, mode: 0o666, uid: 0, gid: 0, default: true });
        }
    }
    Ok(nodes)
}

/// Those of config.json alone.
pub(crate) fn asked(linux: Option<&Linux<'_>>) -> Result<Vec<Device>> {
    let Some(linux) = linux else { return Ok(Vec::new()) };
    linux.devices.iter().enumerate().map(|(index, device)| node(index, device)).collect()
}

fn node(index: usize, device: &spec::Device<'_>) -> Result<Device> {
    let property = |name: &str| format!("linux.devices[{index}].{name}");
    let kind = match device.kind.as_deref().unwrap_or_default() {
        "c" | "u" => DeviceKind::Char,
        "b" => DeviceKind::Block,
        "p" => DeviceKind::Fifo,
        other => return Err(bad(property("type"), format_args!("{other:?} is none of c, u, b, p"))),
    };
    let path = device.path.as_deref().unwrap_or_default();
    if !path.starts_with('/') || clean(path) == "/" {
        return Err(bad(property("path"), format_args!("{path:?} is no absolute path")));
    }
    let number = |name: &str, value: Option<i64>, limit: i64| match value {
        _ if kind == DeviceKind::Fifo => Ok(0),
        Some(value) if (0..=limit).contains(&value) => Ok(value as u32),
        Some(value) => Err(bad(property(name), format_args!("{value} is no device number"))),
        None => Err(bad(property(name), "missing")),
    };
    // Engines copy st_mode of the host's node, its type included.
    let (given, type_bits) = (device.file_mode.unwrap_or(0o666), file_type_bits(kind));
    let mode = given & 0o7777;
    if given & !0o7777 != 0 && given & !0o7777 != type_bits {
        return Err(bad(property("fileMode"), format_args!("{given} has bits beyond permissions and type")));
    }
    Ok(Device {
        path: text(property("path"), &clean(path))?,
        kind,
        // dev_t has 12 and 20 bits.
        major: number("major", device.major, 0xfff)?,
        minor: number("minor", device.minor, 0xf_ffff)?,
        mode,
        uid: device.uid.unwrap_or(0),
        gid: device.gid.unwrap_or(0),
        default: false,
    })
}

/// S_IFCHR, S_IFBLK, S_IFIFO.
fn file_type_bits(kind: DeviceKind) -> u32 {
    match kind {
        DeviceKind::Char => libc::S_IFCHR,
        DeviceKind::Block => libc::S_IFBLK,
        DeviceKind::Fifo => libc::S_IFIFO,
    }
}

/// The rules in force, and each as a line for people: nothing is allowed but what config.json allows, and what every
/// container may do whatever came before (config-linux.md, Default devices).
pub(crate) fn rules(linux: Option<&Linux<'_>>) -> Result<(Vec<DeviceRule>, Vec<String>)> {
    let mut devices = vec![DeviceRule {
        allow: false,
        kind: cgroup::DeviceKind::All,
        major: None,
        minor: None,
        read: true,
        write: true,
        mknod: true,
    }];
    let asked = linux.and_then(|linux| linux.resources.as_ref()).map(|resources| &resources.devices);
    for (index, given) in asked.into_iter().flat_map(|rules| rules.iter()).enumerate() {
        devices.push(rule(index, given)?);
    }
    devices.extend(cgroup::default_device_rules());
    let lines = devices.iter().map(line).collect();
    Ok((devices, lines))
}

fn rule(index: usize, given: &spec::DeviceRule<'_>) -> Result<DeviceRule> {
    let property = |name: &str| format!("linux.resources.devices[{index}].{name}");
    let kind = match given.kind.as_deref().unwrap_or_default() {
        "" | "a" => cgroup::DeviceKind::All,
        "c" | "u" => cgroup::DeviceKind::Char,
        "b" => cgroup::DeviceKind::Block,
        other => return Err(bad(property("type"), format_args!("{other:?} is none of a, c, b"))),
    };
    let number = |name: &str, value: Option<i64>| match value {
        None | Some(-1) => Ok(None),
        Some(value) => {
            u32::try_from(value).map(Some).map_err(|_| bad(property(name), format_args!("{value} is no device number")))
        }
    };
    let access = given.access.as_deref().filter(|access| !access.is_empty()).unwrap_or("rwm");
    if let Some(other) = access.chars().find(|c| !"rwm".contains(*c)) {
        return Err(bad(property("access"), format_args!("{other:?} is none of r, w, m")));
    }
    let (major, minor) = (number("major", given.major)?, number("minor", given.minor)?);
    Ok(DeviceRule {
        allow: given.allow.ok_or_else(|| bad(property("allow"), "missing"))?,
        kind,
        major,
        minor,
        read: access.contains('r'),
        write: access.contains('w'),
        mknod: access.contains('m'),
    })
}

fn line(rule: &DeviceRule) -> String {
    let kind = match rule.kind {
        cgroup::DeviceKind::All => 'a',
        cgroup::DeviceKind::Char => 'c',
        cgroup::DeviceKind::Block => 'b',
    };
    let number = |number: Option<u32>| number.map_or_else(|| "*".to_owned(), |number| number.to_string());
    let access: String = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')]
        .iter()
        .filter(|(on, _)| *on)
        .map(|(_, c)| *c)
        .collect();
    let verb = if rule.allow { "allow" } else { "deny" };
    format!("{verb} {kind} {}:{} {access}", number(rule.major), number(rule.minor))
}
