//! config.json as the OCI runtime-spec 1.3 defines it, read into types that borrow from the text.
//!
//! One file per section of the spec, field names as there. Everything optional in JSON is optional here and `null`
//! counts as absent; what is required, and which values are valid, is decided by the plan. Sections of other
//! platforms are not read.

mod base;
mod hooks;
mod linux;
mod mounts;
mod process;
mod resources;
mod seccomp;

pub(crate) use base::{List, Map, Str};
pub(crate) use hooks::*;
pub(crate) use linux::*;
pub(crate) use mounts::*;
pub(crate) use process::*;
pub(crate) use resources::*;
pub(crate) use seccomp::*;

use serde::Deserialize;

base::objects!(Spec Root;);

/// The whole document (config.md).
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Spec<'a> {
    #[serde(borrow)]
    pub oci_version: Option<Str<'a>>,
    #[serde(borrow)]
    pub root: Option<Root<'a>>,
    #[serde(borrow)]
    pub mounts: List<Mount<'a>>,
    #[serde(borrow)]
    pub process: Option<Process<'a>>,
    #[serde(borrow)]
    pub hostname: Option<Str<'a>>,
    #[serde(borrow)]
    pub domainname: Option<Str<'a>>,
    #[serde(borrow)]
    pub hooks: Option<Hooks<'a>>,
    #[serde(borrow)]
    pub annotations: Map<'a, Str<'a>>,
    #[serde(borrow)]
    pub linux: Option<Linux<'a>>,
}

impl Spec<'_> {
    /// The value of an annotation.
    pub(crate) fn annotation(&self, key: &str) -> Option<&str> {
        self.annotations.iter().find(|(known, _)| &**known == key).map(|(_, value)| &**value)
    }
}

/// The container's root file system (config.md, Root).
#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Root<'a> {
    #[serde(borrow)]
    pub path: Option<Str<'a>>,
    pub readonly: Option<bool>,
}
