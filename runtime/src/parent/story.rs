//! What is written down of a container while it is made, for other commands and for hooks.

use super::hooks::HookDocument;
use super::undo::Undo;
use crate::config::spec::{Map, Str};
use crate::error::{Error, Result};
use crate::plan::Plan;
use crate::state::{self, Record, Restore, StateDir};
use std::borrow::Cow;

/// What of the record stays the same while the container is made.
pub(crate) struct Story {
    boot_id: &'static str,
    /// RFC 3339.
    created: String,
    pub(super) owner: u32,
    /// Of one that comes out of a checkpoint.
    pub restore: Option<Restore>,
}

impl Story {
    /// Of a container whose making begins now.
    pub(crate) fn begin() -> Result<Story> {
        let owner = rustix::process::geteuid().as_raw();
        Ok(Story { boot_id: state::boot_id()?, created: crate::time::now(), owner, restore: None })
    }

    /// Writes the record, with what there is by now.
    pub(crate) fn write(
        &self,
        plan: &Plan,
        undo: &Undo<'_>,
        place: &cgroup::Place,
        init: Option<state::Init>,
    ) -> Result<()> {
        let dir: &StateDir = undo.dir.as_ref().ok_or_else(|| Error::NoContainer(plan.id.clone()))?;
        let text = |text: &str| Str(Cow::Owned(text.to_owned()));
        let annotations = plan.annotations.iter().map(|(key, value)| (text(key), text(value))).collect();
        dir.write(&Record {
            version: Record::VERSION,
            oci_version: text(&plan.oci_version),
            id: text(&plan.id),
            bundle: text(&plan.bundle.to_string()),
            rootfs: text(&plan.root.path.to_string()),
            created: text(&self.created),
            boot_id: text(self.boot_id),
            owner: self.owner,
            cgroup: place.clone(),
            init,
            namespaces: plan.namespaces.own(),
            joined_pid_namespace: plan.namespaces.joins(libc::CLONE_NEWPID),
            no_new_keyring: plan.no_new_keyring,
            poststart: !plan.hooks.poststart.is_empty(),
            poststop: !plan.hooks.poststop.is_empty(),
            resctrl: undo.resctrl.clone(),
            host_mounts: undo.host_mounts.as_ref().map(|(_, mounts)| *mounts),
            restore: self.restore,
            annotations: Map(annotations),
        })
    }
}

/// The state that hooks and agents are told, but for the status and the pid.
pub(crate) fn document(plan: &Plan) -> HookDocument<'_> {
    HookDocument {
        oci_version: &plan.oci_version,
        id: &plan.id,
        bundle: plan.bundle.to_str().unwrap_or_default(),
        annotations: plan.annotations.iter().map(|(key, value)| (key.as_str(), value.as_str())).collect(),
    }
}
