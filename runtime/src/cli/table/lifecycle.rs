//! Commands that make, run and end containers, and the flags they share. Data only.

use super::{ANY, Command, Flag};

pub(super) const BUNDLE: Flag =
    Flag::value("bundle", "DIR", "directory of the bundle (default: the current one)").short(b'b');
pub(super) const CONSOLE_SOCKET: Flag =
    Flag::value("console-socket", "SOCKET", "unix socket that is sent the master end of the container's terminal");
pub(super) const DETACH: Flag = Flag::switch("detach", "do not wait for the process to end").short(b'd');
pub(super) const NO_PIVOT: Flag =
    Flag::switch("no-pivot", "use chroot, not pivot_root, as a root on a ramdisk needs; less safe");
pub(super) const NO_SUBREAPER: Flag =
    Flag::switch("no-subreaper", "do not reap processes the container's init leaves behind");
pub(super) const PID_FILE: Flag =
    Flag::value("pid-file", "FILE", "write the process id, as the host sees it, to this file");
const CONFIG: Flag = Flag::value("config", "FILE", "read this file in place of the bundle's config.json").short(b'f');
const PIDFD_SOCKET: Flag = Flag::value("pidfd-socket", "SOCKET", "unix socket that is sent a pidfd of the process");
const NO_NEW_KEYRING: Flag = Flag::switch("no-new-keyring", "keep the caller's session keyring, do not make a new one");
const PRESERVE_FDS: Flag = Flag::value(
    "preserve-fds",
    "N",
    "pass on N file descriptors after standard error and those of $LISTEN_FDS (default: 0)",
);

/// The flags of `create`, which `plan` takes too: its command line differs in one word.
pub(super) const CREATE_FLAGS: &[Flag] = &[
    BUNDLE,
    CONFIG,
    CONSOLE_SOCKET,
    PIDFD_SOCKET,
    PID_FILE,
    NO_PIVOT,
    NO_NEW_KEYRING,
    PRESERVE_FDS,
    // crun takes it here too. It asks for nothing: create is gone before there is aught to reap.
    NO_SUBREAPER.hidden(),
];

pub(super) const CREATE: Command = Command {
    name: "create",
    about: "make a container, ready to start",
    details: "Everything about the container is set up, down to the program to run, which waits \
              for 'proa start'. The id is yours to choose, of letters, digits and the characters \
              _ + - . and must not be in use.",
    flags: CREATE_FLAGS,
    ..Command::ON_CONTAINER
};

pub(super) const START: Command =
    Command { name: "start", about: "start the program of a created container", ..Command::ON_CONTAINER };

pub(super) const RUN: Command = Command {
    name: "run",
    about: "create, start and, once it ends, delete a container",
    details: "In the foreground, which is the default, signals and the size of the terminal are \
              passed on, and proa ends with the status of the program, or with 128 plus the \
              number of the signal that killed it.\n\
              With --detach proa ends once the program runs. The container must then be deleted \
              with 'proa delete'.",
    flags: &[
        BUNDLE,
        CONFIG,
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        PID_FILE,
        DETACH,
        Flag::switch("keep", "do not delete the container when it ends"),
        NO_SUBREAPER,
        NO_PIVOT,
        NO_NEW_KEYRING,
        PRESERVE_FDS,
    ],
    ..Command::ON_CONTAINER
};

pub(super) const EXEC: Command = Command {
    name: "exec",
    args: "<container-id> [command] [args]...",
    about: "run another process inside a container",
    details: "The process is described by the command and the flags, or as a whole by --process \
              and a file. What follows the container id is the command, flags of its own \
              included.\n\
              In the foreground proa ends with the status of the process, or with 128 plus the \
              number of the signal that killed it, and with 255 if it could not be run.",
    flags: &[
        CONSOLE_SOCKET,
        PIDFD_SOCKET,
        Flag::value("cwd", "DIR", "working directory inside the container"),
        Flag::value("env", "NAME=VALUE", "set a variable of the environment; may be repeated").short(b'e').repeated(),
        Flag::switch("tty", "give the process a terminal").short(b't'),
        Flag::value("user", "UID[:GID]", "numbers of the user and group to run as").short(b'u'),
        Flag::value("additional-gids", "GID", "a further group to be in; may be repeated").short(b'g').repeated(),
        Flag::value("process", "FILE", "read the process, as in config.json, from this file").short(b'p'),
        DETACH,
        PID_FILE,
        Flag::value("process-label", "LABEL", "SELinux label of the process"),
        Flag::value("apparmor", "PROFILE", "AppArmor profile of the process"),
        Flag::switch("no-new-privs", "let the process gain no privileges by execve"),
        Flag::value("cap", "CAP", "a further capability of the process; may be repeated").short(b'c').repeated(),
        PRESERVE_FDS,
        Flag::value(
            "cgroup",
            "[CONTROLLER[,CONTROLLER...]:]PATH",
            "run in this cgroup, which must exist, below the container's; may be repeated",
        )
        .repeated(),
        Flag::switch("ignore-paused", "go ahead in a paused container, and wait for its resume"),
    ],
    max_args: ANY,
    stop_at_first: true,
    ..Command::ON_CONTAINER
};

pub(super) const KILL: Command = Command {
    name: "kill",
    args: "<container-id> [signal]",
    about: "send a signal to a container's init process",
    details: "The signal is a number or a name, with or without SIG, in any case; without it \
              SIGTERM is sent.",
    flags: &[Flag::switch("all", "send it to every process of the container").short(b'a')],
    max_args: 2,
    ..Command::ON_CONTAINER
};

pub(super) const DELETE: Command = Command {
    name: "delete",
    args: "<container-id>...",
    about: "delete containers and all that belongs to them",
    details: "A container must have stopped, or never been started, unless --force is given. To \
              delete with --force what does not exist is no error.",
    flags: &[Flag::switch("force", "kill the container first if it is running").short(b'f')],
    max_args: ANY,
    ..Command::ON_CONTAINER
};
