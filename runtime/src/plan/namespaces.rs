//! `linux.namespaces`, the id mappings and the time offsets.

use super::{Host, text};
use crate::config::spec::{self, Spec};
use crate::error::{Result, bad};
use rootfs::plan::CText;
use serde::Serialize;

/// Types with their CLONE_NEW* flags and their names in /proc/PID/ns.
pub(crate) const NAMESPACES: [(&str, i32, &str); 8] = [
    ("cgroup", libc::CLONE_NEWCGROUP, "cgroup"),
    ("ipc", libc::CLONE_NEWIPC, "ipc"),
    ("mount", libc::CLONE_NEWNS, "mnt"),
    ("network", libc::CLONE_NEWNET, "net"),
    ("pid", libc::CLONE_NEWPID, "pid"),
    ("time", libc::CLONE_NEWTIME, "time"),
    ("user", libc::CLONE_NEWUSER, "user"),
    ("uts", libc::CLONE_NEWUTS, "uts"),
];

#[derive(Debug, Default, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Namespaces {
    /// CLONE_NEW* of those to make.
    pub new: i32,
    pub join: Vec<Join>,
    /// Of a new user namespace.
    pub ids: Option<IdMaps>,
    /// Given beside a user namespace to join: they must be its own.
    pub expected_ids: Option<IdMaps>,
    /// Lines for /proc/self/timens_offsets.
    pub time_offsets: Option<String>,
}

#[derive(Debug, Serialize)]
pub(crate) struct Join {
    /// Place in `linux.namespaces`.
    pub index: u16,
    /// CLONE_NEW*.
    pub kind: i32,
    pub path: CText,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub(crate) struct IdMaps {
    pub uid: Vec<IdMapping>,
    pub gid: Vec<IdMapping>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct IdMapping {
    pub container: u32,
    pub host: u32,
    pub size: u32,
}

impl Namespaces {
    pub(crate) fn new(spec: &Spec<'_>, host: &Host) -> Result<Namespaces> {
        let mut plan = Namespaces::default();
        let Some(linux) = &spec.linux else { return Ok(plan) };
        let mut seen = 0;
        for (index, namespace) in linux.namespaces.iter().enumerate() {
            let property = format!("linux.namespaces[{index}]");
            let word = namespace.kind.as_deref().unwrap_or_default();
            let Some((_, flag, name)) = NAMESPACES.iter().find(|(known, ..)| *known == word) else {
                return Err(bad(format!("{property}.type"), format_args!("{word:?} is no namespace type")));
            };
            if seen & flag != 0 {
                return Err(bad(property, format_args!("the {word} namespace is listed twice")));
            }
            seen |= flag;
            match namespace.path.as_deref().filter(|path| !path.is_empty()) {
                None => plan.new |= flag,
                Some(path) if !path.starts_with('/') => {
                    return Err(bad(format!("{property}.path"), format_args!("{path:?} is not absolute")));
                }
                // What the process is in already, a user namespace even cannot be joined again.
                Some(path) if host.is_own_namespace(name, path)? && word != "mount" => {}
                Some(path) => {
                    let path = text(format_args!("{property}.path"), path)?;
                    plan.join.push(Join { index: index as u16, kind: *flag, path });
                }
            }
        }
        plan.map_ids(linux)?;
        plan.offset_clocks(linux)?;
        Ok(plan)
    }

    pub(crate) fn has_new(&self, flag: i32) -> bool {
        self.new & flag != 0
    }

    pub(crate) fn joins(&self, flag: i32) -> bool {
        self.join.iter().any(|join| join.kind == flag)
    }

    pub(crate) fn joins_user(&self) -> bool {
        self.joins(libc::CLONE_NEWUSER)
    }

    /// CLONE_NEW* flags of all that are not the host's.
    pub(crate) fn own(&self) -> i32 {
        self.join.iter().fold(self.new, |flags, join| flags | join.kind)
    }

    /// New or joined: not the host's.
    pub(crate) fn has_own(&self, flag: i32) -> bool {
        self.has_new(flag) || self.joins(flag)
    }

    fn map_ids(&mut self, linux: &spec::Linux<'_>) -> Result<()> {
        let (uid, gid) = (&linux.uid_mappings, &linux.gid_mappings);
        if uid.is_empty() && gid.is_empty() {
            return match self.has_new(libc::CLONE_NEWUSER) {
                true => Err(bad("linux.uidMappings", "a new user namespace needs id mappings")),
                false => Ok(()),
            };
        }
        let maps = IdMaps { uid: mappings("linux.uidMappings", uid)?, gid: mappings("linux.gidMappings", gid)? };
        if self.has_new(libc::CLONE_NEWUSER) {
            for (property, map) in [("linux.uidMappings", &maps.uid), ("linux.gidMappings", &maps.gid)] {
                if map.is_empty() {
                    return Err(bad(property, "a new user namespace needs id mappings"));
                }
            }
            self.ids = Some(maps);
        } else if self.joins_user() {
            self.expected_ids = Some(maps);
        } else {
            return Err(bad("linux.uidMappings", "id mappings need a user namespace"));
        }
        Ok(())
    }

    fn offset_clocks(&mut self, linux: &spec::Linux<'_>) -> Result<()> {
        let mut lines = String::new();
        for (clock, offset) in linux.time_offsets.iter() {
            let property = format!("linux.timeOffsets.{}", &**clock);
            if !matches!(&**clock, "boottime" | "monotonic") {
                return Err(bad(property, "no such clock: boottime and monotonic can be set"));
            }
            let (seconds, nanoseconds) = (offset.secs.unwrap_or(0), offset.nanosecs.unwrap_or(0));
            if nanoseconds > 999_999_999 {
                return Err(bad(property, format_args!("nanosecs {nanoseconds} is a second or more")));
            }
            lines.push_str(&format!("{} {seconds} {nanoseconds}\n", &**clock));
        }
        if lines.is_empty() {
            return Ok(());
        }
        if !self.has_new(libc::CLONE_NEWTIME) {
            return Err(bad("linux.timeOffsets", "needs a new time namespace"));
        }
        self.time_offsets = Some(lines);
        Ok(())
    }
}

pub(super) fn mappings(property: &str, list: &[spec::IdMapping]) -> Result<Vec<IdMapping>> {
    let mut result = Vec::with_capacity(list.len());
    for (index, entry) in list.iter().enumerate() {
        let missing = |name: &str| bad(format_args!("{property}[{index}].{name}"), "missing");
        let mapping = IdMapping {
            container: entry.container_id.ok_or_else(|| missing("containerID"))?,
            host: entry.host_id.ok_or_else(|| missing("hostID"))?,
            size: entry.size.ok_or_else(|| missing("size"))?,
        };
        let ends = [mapping.container, mapping.host].map(|start| start.checked_add(mapping.size));
        if mapping.size == 0 || ends.contains(&None) {
            return Err(bad(format_args!("{property}[{index}].size"), format_args!("{} does not fit", mapping.size)));
        }
        result.push(mapping);
    }
    Ok(result)
}

fn id_on_host(maps: &[IdMapping], id: u32) -> Option<u32> {
    let holds = |map: &&IdMapping| id.checked_sub(map.container).is_some_and(|offset| offset < map.size);
    maps.iter().find(holds).and_then(|map| map.host.checked_add(id - map.container))
}

impl IdMaps {
    /// The host's ids of a user and a group of the container; None: one is not mapped.
    pub(crate) fn on_host(&self, uid: u32, gid: u32) -> Option<(u32, u32)> {
        Some((id_on_host(&self.uid, uid)?, id_on_host(&self.gid, gid)?))
    }

    /// The id outside of a user inside, if it has one.
    pub(crate) fn host_uid(&self, uid: u32) -> Option<u32> {
        id_on_host(&self.uid, uid)
    }

    /// As /proc/PID/uid_map takes them.
    pub(crate) fn lines(map: &[IdMapping]) -> String {
        map.iter().map(|m| format!("{} {} {}\n", m.container, m.host, m.size)).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_the_host() {
        let map = |container, host, size| IdMapping { container, host, size };
        let uid = vec![map(0, 1000, 1), map(1, 100_000, 10)];
        let maps = IdMaps { gid: uid.clone(), uid };
        assert_eq!(maps.on_host(0, 10), Some((1000, 100_009)));
        assert_eq!(maps.on_host(0, 11), None);
    }
}
