//! `proa state`: the state of runtime.md with runc's additions.

use super::{App, pretty, print, with_record};
use crate::config::spec::Map;
use crate::config::spec::Str;
use crate::error::Result;
use crate::state::{Record, StateDir, glance};
use serde::Serialize;

/// In runc's order.
#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
pub(super) struct State<'a> {
    oci_version: &'a str,
    pub(super) id: &'a str,
    /// 0 once it has stopped.
    pub(super) pid: i32,
    pub(super) status: &'static str,
    pub(super) bundle: &'a str,
    rootfs: &'a str,
    pub(super) created: &'a str,
    #[serde(skip_serializing_if = "is_empty")]
    annotations: &'a Map<'a, Str<'a>>,
    /// Only `list` says it.
    pub(super) owner: String,
}

fn is_empty(map: &Map<'_, Str<'_>>) -> bool {
    map.0.is_empty()
}

impl<'a> State<'a> {
    pub(super) fn new<'d>(dir: impl FnOnce() -> Result<&'d StateDir>, record: &'a Record<'a>) -> Result<State<'a>> {
        let (status, pid) = glance(dir, record)?;
        Ok(State {
            oci_version: &record.oci_version,
            id: &record.id,
            pid,
            status: status.word(),
            bundle: &record.bundle,
            rootfs: &record.rootfs,
            created: &record.created,
            annotations: &record.annotations,
            owner: String::new(),
        })
    }
}

pub(super) fn command(app: &App<'_>) -> Result<()> {
    with_record(app, |_, dir, record| print(&pretty(&State::new(|| Ok(dir), record)?, "  ")?))
}
