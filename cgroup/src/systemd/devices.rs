//! Device rules for systemd on cgroup v1, where it writes the list of devices anew when it is reloaded. On v2 a
//! container's own program stays beside whatever systemd loads.

use zvariant::Value;

use crate::devices::{DeviceKind, DeviceRule, Rules};

/// DevicePolicy and DeviceAllow. Exceptions to "all are allowed" cannot be said: then there is nothing to say.
pub(super) fn properties(rules: &[DeviceRule]) -> Vec<(&'static str, Value<'static>)> {
    let rules = Rules::new(rules);
    if rules.base != Some(false) || rules.v1_writes().is_err() {
        return Vec::new();
    }
    let mut allowed: Vec<DeviceRule> = Vec::new();
    for rule in &rules.rest {
        match rule.allow {
            true => allowed.push(*rule),
            // As the kernel does: it has refused before what overlaps and is not the same.
            false => allowed.retain(|earlier| !earlier.same_devices(rule)),
        }
    }
    let entries: Vec<(String, String)> = allowed.iter().flat_map(entries).collect();
    vec![("DevicePolicy", Value::from("strict")), ("DeviceAllow", Value::from(entries))]
}

/// The node or the class of nodes, and the access (systemd.resource-control(5)).
fn entries(rule: &DeviceRule) -> Vec<(String, String)> {
    let access: String = [(rule.read, 'r'), (rule.write, 'w'), (rule.mknod, 'm')]
        .into_iter()
        .filter_map(|(set, letter)| set.then_some(letter))
        .collect();
    let kinds: &[&str] = match rule.kind {
        DeviceKind::All => &["char", "block"],
        DeviceKind::Char => &["char"],
        DeviceKind::Block => &["block"],
    };
    let name = |kind: &&str| match (rule.major, rule.minor) {
        (None, _) => Some(format!("{kind}-*")),
        (Some(major), Some(minor)) => Some(format!("/dev/{kind}/{major}:{minor}")),
        // Of all minor numbers it knows only by the driver's name.
        (Some(major), None) => class(kind, major).map(|class| format!("{kind}-{class}")),
    };
    kinds.iter().filter_map(name).map(|name| (name, access.clone())).collect()
}

/// /proc/devices: the name of a major number.
fn class(kind: &str, major: u32) -> Option<String> {
    let text = std::fs::read_to_string("/proc/devices").ok()?;
    let (char, block) = text.split_once("Block devices:")?;
    let section = if kind == "char" { char } else { block };
    section.lines().find_map(|line| {
        let (number, name) = line.trim().split_once(' ')?;
        (number.parse() == Ok(major)).then(|| name.trim().to_owned())
    })
}
