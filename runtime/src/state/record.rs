//! `state.json`: what later commands need to know of a container.

use crate::config::spec::{Map, Str};
use serde::{Deserialize, Serialize};

/// The name of the start socket: while the container is being created, and when it waits for start.
pub(crate) struct SocketName;

impl SocketName {
    pub(crate) const CREATING: &'static str = "start.sock.new";
    pub(crate) const CREATED: &'static str = "start.sock";
}

/// Written before anything is acquired, and again with the init process as soon as that exists.
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Record<'a> {
    /// Of this format.
    pub version: u32,
    #[serde(borrow)]
    pub oci_version: Str<'a>,
    #[serde(borrow)]
    pub id: Str<'a>,
    #[serde(borrow)]
    pub bundle: Str<'a>,
    #[serde(borrow)]
    pub rootfs: Str<'a>,
    /// RFC 3339.
    #[serde(borrow)]
    pub created: Str<'a>,
    #[serde(borrow)]
    pub boot_id: Str<'a>,
    /// Who created it: the effective uid.
    pub owner: u32,
    pub cgroup: cgroup::Place,
    /// In proa's pid namespace; with its start time in clock ticks since boot.
    pub init: Option<Init>,
    /// CLONE_NEW* flags of the namespaces that are not the host's, as they were when it was made: a path in config.json
    /// may lead elsewhere by now.
    pub namespaces: i32,
    /// The pid namespace is another's, as in a pod: it goes on when the init ends.
    #[serde(default)]
    pub joined_pid_namespace: bool,
    /// `--no-new-keyring`: exec stays without one as well.
    pub no_new_keyring: bool,
    /// Which kinds of hook later commands have to run.
    pub poststart: bool,
    pub poststop: bool,
    /// The control and monitoring groups of resctrl that delete removes.
    #[serde(default)]
    pub resctrl: Vec<String>,
    /// What is mounted on the host for a container that has no mount namespace.
    #[serde(default)]
    pub host_mounts: Option<HostMounts>,
    /// It comes out of a checkpoint.
    #[serde(default)]
    pub restore: Option<Restore>,
    #[serde(borrow)]
    pub annotations: Map<'a, Str<'a>>,
}

/// How far a container has come that is brought back by CRIU, whose processes never execute a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) enum Restore {
    /// CRIU is at work, in the container's cgroup, as are what will be the container's processes.
    UnderWay,
    Done,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Init {
    pub pid: i32,
    pub start_time: u64,
}

/// Where the container's root has mounts in the mount namespace that proa ran in.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct HostMounts {
    /// That namespace, by its inode number.
    pub namespace: u64,
    /// The mount that the root was on before, by its id.
    pub below: u64,
    /// The root's own mount, once it is there.
    pub own: Option<u64>,
}

impl Record<'_> {
    /// Else killing the init does not end its companions.
    pub(crate) fn own_pid_namespace(&self) -> bool {
        self.restore != Some(Restore::UnderWay)
            && self.namespaces & libc::CLONE_NEWPID != 0
            && !self.joined_pid_namespace
    }

    /// Of another boot only files are left.
    pub(crate) fn is_of_this_boot(&self) -> crate::error::Result<bool> {
        Ok(*super::boot_id()? == *self.boot_id)
    }

    pub(crate) const VERSION: u32 = 1;

    /// Reads state.json; else what is wrong with it.
    pub(crate) fn parse(text: &str) -> Result<Record<'_>, String> {
        let record: Record<'_> = serde_json::from_str(text).map_err(|error| format!("state.json: {error}"))?;
        match record.version {
            Record::VERSION => Ok(record),
            other => Err(format!("state.json has version {other}, this proa reads {}", Record::VERSION)),
        }
    }
}
