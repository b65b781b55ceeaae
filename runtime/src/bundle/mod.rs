//! Bundles made from images: config.json from what the image and the caller say, a root of shared layers, one directory
//! for what the container writes.
//!
//! Such a bundle has no root directory: annotations name the layers ([`crate::plan`]), and a runtime that does not know
//! them refuses it.

mod config;
mod create;
mod owners;
mod users;

pub(crate) use config::Wishes;
pub(crate) use create::{Request, create, marks, remove, source};
pub(crate) use owners::{Owners, with_owners};

/// What the writable layer is called in the bundle.
pub(crate) const WRITABLE: &str = "writable";
