//! `linux.seccomp` (config-linux.md, Seccomp).

use super::{List, Str};
use serde::Deserialize;

super::base::objects!(Seccomp Syscall SyscallArg;);

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Seccomp<'a> {
    #[serde(borrow)]
    pub default_action: Option<Str<'a>>,
    pub default_errno_ret: Option<u32>,
    #[serde(borrow)]
    pub architectures: List<Str<'a>>,
    #[serde(borrow)]
    pub flags: Option<List<Str<'a>>>,
    #[serde(borrow)]
    pub listener_path: Option<Str<'a>>,
    #[serde(borrow)]
    pub listener_metadata: Option<Str<'a>>,
    #[serde(borrow)]
    pub syscalls: List<Syscall<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct Syscall<'a> {
    #[serde(borrow)]
    pub names: List<Str<'a>>,
    #[serde(borrow)]
    pub action: Option<Str<'a>>,
    pub errno_ret: Option<u32>,
    #[serde(borrow)]
    pub args: List<SyscallArg<'a>>,
}

#[derive(Debug, Default, Deserialize)]
#[cfg_attr(test, derive(serde::Serialize))]
#[serde(remote = "Self", default, rename_all = "camelCase")]
pub(crate) struct SyscallArg<'a> {
    pub index: Option<u32>,
    pub value: Option<u64>,
    pub value_two: Option<u64>,
    #[serde(borrow)]
    pub op: Option<Str<'a>>,
}
