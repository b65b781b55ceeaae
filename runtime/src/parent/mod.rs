//! What runs in the host's namespaces: making a container and its later commands.

pub(crate) mod attach;
pub(crate) mod clone;
pub(crate) mod create;
pub(crate) mod delete;
pub(crate) mod describe;
pub(crate) mod exec;
pub(crate) mod hooks;
mod host_mounts;
pub(crate) mod id_map;
pub(crate) mod intel_rdt;
pub(crate) mod limits;
mod listener;
pub(crate) mod mapped_ids;
pub(crate) mod net_devices;
mod netlink;
pub(crate) mod notify;
pub(crate) mod rootless;
pub(crate) mod sockets;
pub(crate) mod start;
pub(crate) mod story;
mod undo;
pub(crate) mod writable;

pub(crate) use undo::Undo;
