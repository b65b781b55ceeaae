//! `mounts` (config.md, Mounts).

use super::{IdMapping, List, Str};
use serde::Deserialize;

super::base::objects!(Mount;);

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Mount<'a> {
    #[serde(borrow)]
    pub destination: Option<Str<'a>>,
    #[serde(borrow, rename = "type")]
    pub kind: Option<Str<'a>>,
    #[serde(borrow)]
    pub source: Option<Str<'a>>,
    #[serde(borrow)]
    pub options: List<Str<'a>>,
    pub uid_mappings: List<IdMapping>,
    pub gid_mappings: List<IdMapping>,
}
