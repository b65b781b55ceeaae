//! Commands on the images in the store. Data only.

use super::bundle::{MAX_SIZE, PLATFORM, QUIET, STORE};
use super::inspect::FORMAT;
use super::{ANY, Command, Flag};

pub(super) const IMPORT: Command = Command {
    name: "image import",
    args: "<path[:ref]>",
    about: "put an image into the store",
    details: "The image is an OCI image layout, a directory or a tar archive, or an archive of 'docker save'. Of several \
              images in it the reference names one, all of its name or only the tag. Layers that are in the store already are \
              not unpacked again. The image's id is printed.",
    flags: &[PLATFORM, MAX_SIZE, STORE, QUIET],
    ..Command::ON_CONTAINER
};

pub(super) const LS: Command = Command {
    name: "image ls",
    args: "",
    about: "list the images in the store",
    details: "SIZE is what the image's layers take on disk; SHARED what other images have too; RECLAIMABLE what removing \
              it would free.",
    flags: &[FORMAT, STORE, Flag::switch("quiet", "print ids only").short(b'q')],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};

pub(super) const RM: Command = Command {
    name: "image rm",
    args: "<image>...",
    about: "remove images from the store, by name or id",
    details: "By one of several names an image loses that name only, by its id it is removed with all of them. Layers \
              that another image or a bundle uses stay until nothing does.",
    flags: &[STORE, QUIET],
    max_args: ANY,
    ..Command::ON_CONTAINER
};

pub(super) const PRUNE: Command = Command {
    name: "image prune",
    args: "",
    about: "remove what nothing in the store uses",
    details: "That is: images whose name another has taken over, layers without an image and without a bundle, and what \
              commands that were killed have left. A bundle whose config.json is gone counts as gone.",
    flags: &[Flag::switch("all", "images that no bundle uses, too").short(b'a'), STORE, QUIET],
    min_args: 0,
    max_args: 0,
    ..Command::ON_CONTAINER
};
