//! Commands that change what a running container may use. Data only.

use super::{Command, Flag};

pub(super) const PAUSE: Command =
    Command { name: "pause", about: "suspend all processes of a container", ..Command::ON_CONTAINER };

pub(super) const RESUME: Command =
    Command { name: "resume", about: "resume all processes of a paused container", ..Command::ON_CONTAINER };

pub(super) const UPDATE: Command = Command {
    name: "update",
    about: "change the resource limits of a container",
    details: "Only what is given changes; limits come into force one after the other, so that after an error those \
              before it are in force. Sizes are in bytes or take a suffix k, m or g; -1 is no limit. With --resources \
              the limits are those of a file, in the form of linux.resources in config.json, and the flags for \
              the same are ignored; devices in it are.",
    flags: &[
        Flag::value("resources", "FILE", "read the limits from this file, - for standard input").short(b'r'),
        Flag::value("blkio-weight", "WEIGHT", "share of block IO, 10 to 1000"),
        Flag::value("cpu-period", "USEC", "period of the CPU quota, in microseconds"),
        Flag::value("cpu-quota", "USEC", "CPU time per period, in microseconds"),
        Flag::value("cpu-burst", "USEC", "unused CPU time to keep for later, in microseconds"),
        Flag::value("cpu-share", "SHARES", "share of CPU time, relative to other containers"),
        Flag::value("cpu-rt-period", "USEC", "period of the real-time quota, in microseconds"),
        Flag::value("cpu-rt-runtime", "USEC", "real-time CPU time per period, in microseconds"),
        Flag::value("cpuset-cpus", "LIST", "CPUs to run on, such as 0-2,4"),
        Flag::value("cpuset-mems", "LIST", "memory nodes to use, such as 0,1"),
        Flag::value("memory", "SIZE", "memory limit"),
        Flag::value("memory-reservation", "SIZE", "memory to go back to when it is scarce"),
        Flag::value("memory-swap", "SIZE", "limit of memory and swap together"),
        Flag::value("cpu-idle", "0|1", "1 to run only when a CPU is idle"),
        Flag::value("pids-limit", "N", "number of processes and threads"),
        Flag::value("l3-cache-schema", "SCHEMA", "Intel RDT schema of the L3 cache"),
        Flag::value("mem-bw-schema", "SCHEMA", "Intel RDT schema of memory bandwidth"),
        // The kernel has no such limits any more, yet old callers set them.
        Flag::value("kernel-memory", "SIZE", "obsolete: has no effect but a warning").hidden(),
        Flag::value("kernel-memory-tcp", "SIZE", "obsolete: has no effect but a warning").hidden(),
    ],
    ..Command::ON_CONTAINER
};
