//! Commands that save a running container to files and bring it back. Data only.

use super::lifecycle::{BUNDLE, CONSOLE_SOCKET, DETACH, NO_PIVOT, NO_SUBREAPER, PID_FILE};
use super::{Command, Flag};

const IMAGE_PATH: Flag = Flag::value("image-path", "DIR", "directory of CRIU's image files");
const WORK_PATH: Flag = Flag::value("work-path", "DIR", "directory of CRIU's work files and logs");
const TCP_ESTABLISHED: Flag = Flag::switch("tcp-established", "allow open TCP connections");
const EXT_UNIX_SK: Flag = Flag::switch("ext-unix-sk", "allow unix sockets to outside processes");
const SHELL_JOB: Flag = Flag::switch("shell-job", "allow processes that belong to a terminal");
const LAZY_PAGES: Flag = Flag::switch("lazy-pages", "restore memory on demand, by userfaultfd");
const FILE_LOCKS: Flag = Flag::switch("file-locks", "allow file locks");
const MANAGE_CGROUPS_MODE: Flag =
    Flag::value("manage-cgroups-mode", "soft|full|strict|ignore", "what CRIU does about cgroups (default: soft)");
const EMPTY_NS: Flag =
    Flag::value("empty-ns", "NAMESPACE", "make this namespace but restore nothing in it; may be repeated").repeated();
const AUTO_DEDUP: Flag = Flag::switch("auto-dedup", "drop memory from earlier images that a later one has");

pub(super) const CHECKPOINT: Command = Command {
    name: "checkpoint",
    about: "save a running container to files",
    details: "CRIU (https://criu.org), which must be in PATH, writes the container's processes with \
              all they have in memory, and what they have open, to files. Then it ends, and is \
              deleted, unless --leave-running or --pre-dump is given. What is in its root and its \
              volumes is not in these files.",
    flags: &[
        IMAGE_PATH,
        WORK_PATH,
        Flag::value("parent-path", "DIR", "earlier --pre-dump, relative to --image-path"),
        Flag::switch("leave-running", "let the container run on"),
        TCP_ESTABLISHED,
        Flag::switch("tcp-skip-in-flight", "skip TCP connections that are being opened"),
        Flag::switch("link-remap", "give deleted files a name again where needed"),
        EXT_UNIX_SK,
        SHELL_JOB,
        LAZY_PAGES,
        Flag::value("status-fd", "FD", "descriptor that CRIU writes to once --lazy-pages serves"),
        Flag::value("page-server", "ADDRESS:PORT", "send memory to this CRIU page server"),
        FILE_LOCKS,
        Flag::switch("pre-dump", "save memory only and let the container run on"),
        MANAGE_CGROUPS_MODE,
        EMPTY_NS,
        AUTO_DEDUP,
    ],
    ..Command::ON_CONTAINER
};

pub(super) const RESTORE: Command = Command {
    name: "restore",
    about: "bring back a container saved by checkpoint",
    details: "The bundle needs the root and the volumes as they were. Whatever the files say, the \
              container is what config.json says: where its processes would have more rights, see \
              other mounts, or be in other namespaces, nothing is restored.\n\
              Without --detach the container stays in the foreground, as with 'proa run'. Pipes \
              that were its standard streams become those of proa.",
    flags: &[
        CONSOLE_SOCKET,
        IMAGE_PATH,
        WORK_PATH,
        TCP_ESTABLISHED,
        EXT_UNIX_SK,
        SHELL_JOB,
        FILE_LOCKS,
        MANAGE_CGROUPS_MODE,
        BUNDLE,
        DETACH,
        PID_FILE,
        NO_SUBREAPER,
        NO_PIVOT,
        EMPTY_NS,
        AUTO_DEDUP,
        LAZY_PAGES,
        Flag::value("lsm-profile", "TYPE:NAME", "profile or label of the restored processes"),
        Flag::value("lsm-mount-context", "CONTEXT", "SELinux context of the restored mounts"),
    ],
    ..Command::ON_CONTAINER
};
