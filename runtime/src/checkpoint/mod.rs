//! Saves a running container to files and brings it back, by CRIU (<https://criu.org>).
//!
//! CRIU does what only it can: it takes processes apart and puts them together again. All that decides where something
//! of a container lies on the host, and what it may do there, stays here. The files of a checkpoint may come from
//! anywhere: no name in them is a path of the host, and before a restored process runs on it is compared with
//! config.json (`verify`).

mod cgroup_images;
mod cgroup_mounts;
mod dump;
mod image_file;
mod images;
mod mount_images;
mod mounts;
mod options;
mod pages;
mod restore;
mod rpc;
mod swrk;
mod verify;

pub(crate) use dump::{Dump, dump};
pub(crate) use options::{CgroupMode, Flags, PageServerAddress};
pub(crate) use restore::{Request, Restored, restore};
