//! Commands on volumes. Data only.

use super::bundle::STORE;
use super::inspect::FORMAT;
use super::{ANY, Command, Flag};

const SIZE: Flag = Flag::switch("size", "count what each takes on disk").short(b's');

pub(super) const CREATE: Command = Command {
    name: "volume create",
    args: "[name]",
    about: "make a volume",
    details: "Its name is printed; without one it gets 64 random hexadecimal digits. 'bundle create' makes the volumes \
              that it is given itself. A name has letters, digits, '_', '.' and '-', and begins with a letter or digit.",
    flags: &[Flag::value("label", "KEY=VALUE", "say something of it; may be repeated").short(b'l').repeated(), STORE],
    min_args: 0,
    max_args: 1,
    ..Command::ON_CONTAINER
};

pub(super) const LS: Command = Command {
    name: "volume ls",
    args: "",
    about: "list the volumes of the store",
    flags: &[FORMAT, Flag::switch("quiet", "print names only").short(b'q'), SIZE, STORE],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const INSPECT: Command = Command {
    name: "volume inspect",
    args: "<name>...",
    about: "print what is known of volumes as JSON",
    flags: &[SIZE, STORE],
    max_args: ANY,
    ..Command::ON_CONTAINER
};

pub(super) const RM: Command = Command {
    name: "volume rm",
    args: "<name>...",
    about: "remove volumes, with all that is in them",
    details: "A volume that a bundle mounts is not removed, and is an error; the others are removed all the same.",
    flags: &[STORE],
    max_args: ANY,
    ..Command::ON_CONTAINER
};

pub(super) const PRUNE: Command = Command {
    name: "volume prune",
    args: "",
    about: "remove volumes without a name that no bundle mounts",
    details: "Also what removals that were interrupted have left. A bundle whose config.json is gone counts as gone, also \
              one that was moved.",
    flags: &[
        Flag::switch("all", "those with a name, too").short(b'a'),
        Flag::switch("quiet", "do not say what was removed").short(b'q'),
        STORE,
    ],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};
