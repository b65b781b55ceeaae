//! Commands that show things and change no container. Data only.

use super::lifecycle::{BUNDLE, CREATE_FLAGS};
use super::{ANY, Command, Flag};

pub(super) const FORMAT: Flag = Flag::value("format", "table|json", "how to print it (default: table)").short(b'f');

pub(super) const STATE: Command =
    Command { name: "state", about: "print the state of a container as JSON", ..Command::ON_CONTAINER };

pub(super) const LIST: Command = Command {
    name: "list",
    args: "",
    about: "list the containers below the directory --root",
    flags: &[FORMAT, Flag::switch("quiet", "print ids only").short(b'q')],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const PS: Command = Command {
    name: "ps",
    args: "<container-id> [ps-options]...",
    about: "show the processes of a container",
    details: "The table is that of ps(1), called with the options given (default: -ef), which \
              must make it print a column PID.",
    flags: &[FORMAT],
    max_args: ANY,
    stop_at_first: true,
    ..Command::ON_CONTAINER
};

pub(super) const EVENTS: Command = Command {
    name: "events",
    about: "print what a container uses and when it runs out of memory",
    details: "One JSON object a line, until the container ends: figures every interval, and at once when the kernel \
              kills a process for want of memory.",
    flags: &[
        Flag::value("interval", "DURATION", "time between two lines, such as 500ms (default: 5s)"),
        Flag::switch("stats", "print the figures once and end"),
    ],
    ..Command::ON_CONTAINER
};

pub(super) const SPEC: Command = Command {
    name: "spec",
    args: "",
    about: "write a config.json to start from",
    details: "The container it describes runs sh in ./rootfs. A config.json that is there already \
              is left alone, and is an error.",
    flags: &[BUNDLE, Flag::switch("rootless", "for a container run without root's privileges")],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const FEATURES: Command = Command {
    name: "features",
    args: "",
    about: "print what this runtime supports as JSON",
    details: "The format is that of features.md in the OCI runtime specification.",
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const PLAN: Command = Command {
    name: "plan",
    args: "[container-id]",
    about: "print what create would do as JSON, and do nothing",
    details: "Takes the flags of 'proa create'. The steps come in their order, with ids, flags \
              and paths resolved, after all the checks that create makes; properties of \
              config.json that the specification does not know are listed. The id is \"plan\" if \
              none is given.",
    flags: CREATE_FLAGS,
    min_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const COMPLETION: Command = Command {
    name: "completion",
    args: "<bash|zsh|fish>",
    about: "print a completion script for a shell",
    details: "For bash: 'source <(proa completion bash)'. For zsh save it as _proa in a directory \
              of $fpath, for fish as proa.fish in ~/.config/fish/completions.",
    ..Command::ON_CONTAINER
};

pub(super) const MAN: Command = Command {
    name: "man",
    args: "[command]...",
    max_args: ANY,
    about: "print the man page of proa or of a command",
    details: "To read it: 'proa man create | man -l -'. To install it save it as proa-create.1.",
    min_args: 0,
    ..Command::ON_CONTAINER
};
