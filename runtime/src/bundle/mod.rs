//! Bundles made from images: config.json from what the image and the caller say, a root of shared layers, one directory
//! for what the container writes.
//!
//! Such a bundle has no root directory: annotations name the layers ([`crate::plan`]), and a runtime that does not know
//! them refuses it.

mod config;
mod create;
mod mountpoints;
mod owners;
mod users;
mod volumes;

pub(crate) use config::Wishes;
pub(crate) use create::{Request, create, platform, remove, source, unpack};
pub(crate) use owners::{Owners, with_owners};
pub(crate) use volumes::uses;

/// What the writable layer is called in the bundle.
pub(crate) const WRITABLE: &str = "writable";
/// The container's name servers, mounted on the image's file.
const RESOLV_CONF: &str = "resolv.conf";
/// The layer of directories to mount something on, of a bundle without a writable one.
pub(crate) const MOUNTPOINTS: &str = "mountpoints";
