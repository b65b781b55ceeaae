//! `linux.sysctl`: only what belongs to a namespace of the container, never the machine's.

use super::{Host, Namespaces, text};
use crate::config::spec::Linux;
use crate::error::{Error, Result, bad};
use rootfs::plan::CText;
use serde::Serialize;

#[derive(Debug, Serialize)]
pub(crate) struct Sysctl {
    /// As config.json has it.
    pub name: String,
    /// Below the root of a proc file system: `sys/net/...`.
    pub path: CText,
    pub value: CText,
}

const IPC: [&str; 8] = [
    "kernel/msgmax",
    "kernel/msgmnb",
    "kernel/msgmni",
    "kernel/sem",
    "kernel/shmall",
    "kernel/shmmax",
    "kernel/shmmni",
    "kernel/shm_rmid_forced",
];

pub(crate) fn plan(linux: Option<&Linux<'_>>, namespaces: &Namespaces, host: &Host) -> Result<Vec<Sysctl>> {
    let Some(linux) = linux else { return Ok(Vec::new()) };
    linux.sysctl.iter().map(|(name, value)| one(linux, name, value, namespaces, host)).collect()
}

fn one(linux: &Linux<'_>, name: &str, value: &str, namespaces: &Namespaces, host: &Host) -> Result<Sysctl> {
    let property = format!("linux.sysctl {name:?}");
    let path = path(name).ok_or_else(|| bad(&property, "is no sysctl name"))?;
    owned(linux, &property, &path, namespaces, host)?;
    Ok(Sysctl { name: name.to_owned(), path: text(&property, &format!("sys/{path}"))?, value: text(&property, value)? })
}

/// As sysctl(8): the separator that comes first is the separator, the other one is part of names.
fn path(name: &str) -> Option<String> {
    let slashes = name.find(['.', '/']).is_some_and(|at| name.as_bytes()[at] == b'/');
    let path: String = name
        .chars()
        .map(|c| match c {
            '.' if !slashes => '/',
            '/' if !slashes => '.',
            c => c,
        })
        .collect();
    let good = path.split('/').all(|part| !part.is_empty() && part != "." && part != "..") && !path.contains('\0');
    good.then_some(path)
}

/// Refuses what is not the container's own.
fn owned(linux: &Linux<'_>, property: &str, path: &str, namespaces: &Namespaces, host: &Host) -> Result<()> {
    let need = |flag: i32, kind: &str| match namespaces.has_own(flag) {
        true => Ok(()),
        false => Err(bad(property, format_args!("needs the container's own {kind} namespace"))),
    };
    if IPC.contains(&path) || path.starts_with("fs/mqueue/") {
        return need(libc::CLONE_NEWIPC, "ipc");
    }
    if path == "kernel/domainname" {
        return need(libc::CLONE_NEWUTS, "uts");
    }
    if path == "kernel/hostname" {
        return Err(bad(property, "is set by the property hostname"));
    }
    if path.starts_with("user/") {
        return need(libc::CLONE_NEWUSER, "user");
    }
    if path.starts_with("net/") {
        need(libc::CLONE_NEWNET, "network")?;
        return not_the_hosts_network(linux, property, host);
    }
    Err(bad(property, "is not in a namespace of the container"))
}

/// A network namespace may be joined that turns out to be the host's.
fn not_the_hosts_network(linux: &Linux<'_>, property: &str, host: &Host) -> Result<()> {
    let network = linux.namespaces.iter().find(|namespace| namespace.kind.as_deref() == Some("network"));
    match network.and_then(|namespace| namespace.path.as_deref()).filter(|path| !path.is_empty()) {
        Some(path) if host.is_own_namespace("net", path)? => {
            let error: Error = bad(property, "the container's network namespace is the host's");
            Err(error)
        }
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::path;

    #[test]
    fn both_spellings() {
        assert_eq!(path("net.ipv4.ip_forward").as_deref(), Some("net/ipv4/ip_forward"));
        assert_eq!(path("net/ipv4/conf/eth0.1/forwarding").as_deref(), Some("net/ipv4/conf/eth0.1/forwarding"));
        assert_eq!(path("net.ipv4.conf.eth0/1.forwarding").as_deref(), Some("net/ipv4/conf/eth0.1/forwarding"));
        for bad in ["", "net/../kernel/core_pattern", "net..x", "/net", "net/", "a/\0"] {
            assert_eq!(path(bad), None, "{bad:?}");
        }
    }
}
