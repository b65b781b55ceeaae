//! Commands on bundles that are made from images. Data only.

use super::inspect::FORMAT;
use super::{ANY, Command, Flag};

pub(super) const STORE: Flag = Flag::value(
    "store",
    "DIR",
    "directory of layers, images and volumes \
     (default: $PROA_STORE, /var/lib/proa, ~/.local/share/proa if not root)",
);
pub(super) const QUIET: Flag = Flag::switch("quiet", "do not say how far it has got").short(b'q');

pub(super) const PLATFORM: Flag =
    Flag::value("platform", "OS/ARCH", "which image of an index (default: this machine's)");
pub(super) const MAX_SIZE: Flag = Flag::value("max-size", "BYTES", "how much the image may unpack to (default: 64G)");

pub(super) const CREATE: Command = Command {
    name: "bundle create",
    args: "<dir> [command]...",
    about: "make a bundle from an image",
    details: "The image is an OCI image layout, a directory or a tar archive, or an archive of 'docker save'. Its layers \
              are unpacked into the store, once for all bundles; what the container writes goes to the bundle. With a \
              command the image's own is not used.",
    flags: &[
        Flag::value("image", "PATH[:REF]", "the image, or the id or name of one in the store"),
        PLATFORM,
        Flag::value(
            "volume",
            "SOURCE:DIR[:OPTIONS]",
            "a named volume or a path of the host, mounted at DIR; may be repeated",
        )
        .short(b'v')
        .repeated(),
        Flag::value("network", "NAME", "a CNI network, none or host (default: none)"),
        Flag::value("publish", "PORT:PORT", "a port of the host for one of the container; may be repeated")
            .short(b'p')
            .repeated(),
        Flag::value("env", "NAME=VALUE", "add to the environment; may be repeated").short(b'e').repeated(),
        Flag::value("user", "USER[:GROUP]", "run as this user, not the image's").short(b'u'),
        Flag::value("workdir", "DIR", "start in this directory, not the image's").short(b'w'),
        Flag::value("entrypoint", "PROGRAM", "run this program, not the image's; an empty one is none"),
        Flag::value("hostname", "NAME", "name of the container's host"),
        Flag::switch("tty", "give it a terminal").short(b't'),
        Flag::switch("read-only", "let the container not write to its root"),
        Flag::value("size", "BYTES", "how much the container may write, such as 10G"),
        Flag::switch("volatile", "do not keep what the container writes over a crash of the machine, and be faster"),
        Flag::value("userns", "UID[:COUNT]", "a user namespace, whose ids are those of the host from UID on"),
        MAX_SIZE,
        STORE,
        QUIET,
    ],
    max_args: ANY,
    stop_at_first: true,
    ..Command::ON_CONTAINER
};

pub(super) const LS: Command = Command {
    name: "bundle ls",
    args: "",
    about: "list the bundles that were made from images",
    flags: &[FORMAT, STORE],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const RM: Command = Command {
    name: "bundle rm",
    args: "<dir>...",
    about: "remove bundles, with what their containers wrote",
    details: "Volumes stay, but those without a name of their own.",
    flags: &[STORE],
    max_args: ANY,
    ..Command::ON_CONTAINER
};
