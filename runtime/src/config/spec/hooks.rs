//! `hooks` (config.md, POSIX-platform Hooks).

use super::{List, Str};
use serde::Deserialize;

super::base::objects!(Hooks Hook;);

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Hooks<'a> {
    #[serde(borrow)]
    pub prestart: List<Hook<'a>>,
    #[serde(borrow)]
    pub create_runtime: List<Hook<'a>>,
    #[serde(borrow)]
    pub create_container: List<Hook<'a>>,
    #[serde(borrow)]
    pub start_container: List<Hook<'a>>,
    #[serde(borrow)]
    pub poststart: List<Hook<'a>>,
    #[serde(borrow)]
    pub poststop: List<Hook<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default)]
pub(crate) struct Hook<'a> {
    #[serde(borrow)]
    pub path: Option<Str<'a>>,
    #[serde(borrow)]
    pub args: List<Str<'a>>,
    #[serde(borrow)]
    pub env: List<Str<'a>>,
    /// Seconds.
    pub timeout: Option<i64>,
}
