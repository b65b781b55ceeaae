//! `process.apparmorProfile`, `process.selinuxLabel` and `linux.mountLabel`, if the host has what gives them a meaning.

use super::{Host, text};
use crate::config::spec;
use crate::error::{Result, bad};
use rootfs::plan::{CText, Mount, Parameter, What};
use serde::Serialize;

/// What the kernel's security modules are told of a process.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Labels {
    pub apparmor: Option<Label>,
    pub selinux: Option<Label>,
}

/// One of them.
#[derive(Debug, Serialize)]
pub(crate) struct Label {
    /// As it is written to the process's attribute (proc_pid_attr(5)).
    pub text: CText,
    /// For messages.
    #[serde(skip)]
    pub property: &'static str,
}

impl Labels {
    /// Confinement that was asked for and cannot be had is an error.
    pub(crate) fn new(process: &spec::Process<'_>, host: &Host) -> Result<Labels> {
        let given =
            |value: &Option<spec::Str<'_>>| value.as_deref().filter(|value| !value.is_empty()).map(str::to_owned);
        let mut labels = Labels::default();
        if let Some(profile) = given(&process.apparmor_profile) {
            let property = "process.apparmorProfile";
            match host.has_apparmor() {
                true => labels.apparmor = Some(label(property, &profile, &format!("exec {profile}"))?),
                // What every process is without AppArmor.
                false if profile == "unconfined" => {}
                false => return Err(bad(property, format_args!("{profile:?}: AppArmor is not enabled on this host"))),
            }
        }
        if let Some(context) = given(&process.selinux_label) {
            let property = "process.selinuxLabel";
            if !host.has_selinux() {
                return Err(bad(property, format_args!("{context:?}: SELinux is not enabled on this host")));
            }
            labels.selinux = Some(label(property, &context, &context)?);
        }
        Ok(labels)
    }
}

fn label(property: &'static str, given: &str, written: &str) -> Result<Label> {
    if given.contains(['\n', '\0']) {
        return Err(bad(property, format_args!("{given:?} is no label")));
    }
    Ok(Label { text: text(property, written)?, property })
}

/// The label of file systems made for the container. Without SELinux no file has one and nobody looks: the mounts are
/// what they would be with it.
pub(crate) fn mounts(
    linux: Option<&spec::Linux<'_>>,
    mounts: &mut [Mount],
    host: &Host,
    warnings: &mut Vec<String>,
) -> Result<()> {
    let Some(context) = linux.and_then(|linux| linux.mount_label.as_deref()).filter(|label| !label.is_empty()) else {
        return Ok(());
    };
    let property = "linux.mountLabel";
    if context.contains(['\n', '\0', '"']) {
        return Err(bad(property, format_args!("{context:?} is no label")));
    }
    if !host.has_selinux() {
        warnings.push(format!("{property}: {context:?} has no effect: SELinux is not enabled on this host"));
        return Ok(());
    }
    for mount in mounts {
        let What::Filesystem(filesystem) = &mut mount.what else { continue };
        // The kernel labels these itself.
        if matches!(filesystem.kind.to_bytes(), b"proc" | b"sysfs" | b"mqueue") {
            continue;
        }
        let has_own =
            |p: &Parameter| matches!(p.name.to_bytes(), b"context" | b"fscontext" | b"defcontext" | b"rootcontext");
        if !filesystem.parameters.iter().any(has_own) {
            let value = Some(text(property, context)?);
            filesystem.parameters.push(Parameter { name: text(property, "context")?, value });
        }
    }
    Ok(())
}
