//! What runs in the host's namespaces: making a container and its later commands.

pub(crate) mod attach;
mod clone;
pub(crate) mod create;
pub(crate) mod delete;
mod describe;
pub(crate) mod exec;
mod hooks;
mod host_mounts;
pub(crate) mod id_map;
pub(crate) mod intel_rdt;
pub(crate) mod limits;
mod listener;
mod mapped_ids;
mod net_devices;
mod netlink;
pub(crate) mod notify;
pub(crate) mod rootless;
pub(crate) mod sockets;
pub(crate) mod start;
mod story;
mod undo;
pub(crate) mod writable;

pub(crate) use undo::Undo;
