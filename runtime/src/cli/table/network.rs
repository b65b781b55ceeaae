//! Commands on networks of containers that are run by hand. Data only.

use super::inspect::FORMAT;
use super::{Command, Flag};

const CONFIG_DIR: Flag = Flag::value(
    "cni-config-dir",
    "DIR",
    "directory of the networks' configurations (default: $NETCONFPATH, /etc/cni/net.d)",
);
const PLUGIN_PATH: Flag = Flag::value(
    "cni-path",
    "DIR[:DIR...]",
    "directories of plugins (default: $CNI_PATH, /opt/cni/bin:/usr/lib/cni:/usr/libexec/cni)",
);
const CACHE_DIR: Flag = Flag::value(
    "cache-dir",
    "DIR",
    "directory for what is known of containers on networks (default: /var/lib/proa/networks)",
);
const PUBLISH: Flag =
    Flag::value("publish", "PORT:PORT", "a port of the host for one of the container; may be repeated")
        .short(b'p')
        .repeated();

pub(super) const LS: Command = Command {
    name: "network ls",
    args: "",
    about: "list the CNI networks of this machine, with the containers on them",
    flags: &[FORMAT, CONFIG_DIR, CACHE_DIR],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const PRUNE: Command = Command {
    name: "network prune",
    args: "",
    about: "take containers off their networks that have ended without being deleted",
    details: "After a crash or a reboot, say: interfaces, addresses, firewall rules and leases that plugins have made \
              are given back. Prints the ids of the containers.",
    flags: &[CACHE_DIR],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const HOOKS: Command = Command {
    name: "network hooks",
    args: "<network>",
    about: "print what a config.json needs to put its container on a network",
    details: "A JSON object with the namespace and the hooks, to be merged into a config.json by hand. The container \
              may then be run by any OCI runtime.",
    flags: &[PUBLISH, CONFIG_DIR, PLUGIN_PATH, CACHE_DIR],
    ..Command::ON_CONTAINER
};

/// What the hooks call.
pub(super) const CNI: Command = Command {
    name: "cni",
    args: "<add|del>",
    about: "add the container whose state is on standard input to a network, or delete it from there",
    flags: &[Flag::value("network", "NAME", "the network"), PUBLISH, CONFIG_DIR, PLUGIN_PATH, CACHE_DIR],
    hidden: true,
    ..Command::ON_CONTAINER
};
