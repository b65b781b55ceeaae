//! The plan: everything create will do, decided before the first side effect.
//!
//! `Plan::new` turns the parsed config.json and the facts of the host into checked values, resolved names, C strings
//! and ordered steps. Nothing here changes the machine; what the child has to do after clone3 is all in it.

mod capabilities;
mod cgroup_mounts;
mod checks;
mod devices;
mod hooks;
mod host;
mod labels;
mod landlock;
mod layers;
mod linux;
mod mapped_ids;
mod mounts;
mod namespaces;
mod process;
mod resources;
mod seccomp;
mod sysctl;
mod systemd;

pub(crate) use cgroup_mounts::show_own_cgroups;
pub(crate) use hooks::{Hook, Hooks, hooks_of};
pub(crate) use host::{Host, is_in_user_namespace};
pub(crate) use labels::{Label, Labels};
pub(crate) use landlock::{ANNOTATION as LANDLOCK_ANNOTATION, Landlock};
pub(crate) use layers::{
    LAYERS as LAYERS_ANNOTATION, MOST_LAYERS, OPTIONS as OVERLAY_ANNOTATION, WRITABLE as WRITABLE_ANNOTATION,
};
pub(crate) use linux::intel_rdt as intel_rdt_of;
pub(crate) use linux::{IntelRdt, NetDevice};
pub(crate) use mapped_ids::{IdSource, ROOT_ANNOTATION as MAPPED_ROOT_ANNOTATION};
pub(crate) use namespaces::{IdMapping, IdMaps, NAMESPACES, Namespaces};
pub(crate) use process::{Process, ProcessOptions, memory_policy_words};
pub(crate) use resources::updated as updated_limits;
#[cfg(any(test, fuzzing))]
pub(crate) use seccomp::profile as seccomp_profile;
pub(crate) use seccomp::{Listener, Seccomp, flags as seccomp_flags, words as seccomp_words};
pub(crate) use sysctl::Sysctl;

use crate::config::spec;
use crate::error::{Result, bad};
pub(crate) use rootfs::clean;
use rootfs::plan::CText;
use serde::Serialize;
use std::path::Path;

/// What the command line says beside config.json.
#[derive(Clone, Debug, Default)]
pub(crate) struct Options {
    pub no_pivot: bool,
    pub no_new_keyring: bool,
    /// Descriptors from 3 on that the container keeps.
    pub preserve_fds: u32,
    pub cgroup_manager: CgroupManager,
    /// `--systemd-property`: what annotations may set beyond what is harmless.
    pub systemd_properties: Vec<String>,
    /// `--rootless`, unless it is left to us.
    pub rootless: Option<bool>,
    /// The directory on the host that holds the notify socket made for the container.
    pub notify: Option<CText>,
    /// Of LISTEN_FDS: environment entries to add.
    pub listen_env: Vec<String>,
}

/// The cgroup below the container's, of that name, in which its init lives, so that the container's own can hand down its
/// controllers: of use to a container that may write to its cgroup.
pub(crate) const LEAF_ANNOTATION: &str = "io.github.proa.cgroup.init";

/// `--cgroup-manager`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) enum CgroupManager {
    #[default]
    Cgroupfs,
    Systemd,
    Disabled,
}

#[derive(Debug, Serialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Plan {
    pub id: String,
    pub oci_version: String,
    pub bundle: CText,
    pub namespaces: Namespaces,
    pub cgroup: cgroup::Place,
    /// The host's user that gets the cgroup, which the container may write to.
    pub cgroup_owner: Option<u32>,
    pub cgroups_path_given: bool,
    /// Of the scope, from annotations.
    #[serde(skip)]
    pub systemd_properties: Vec<cgroup::Property>,
    /// What `--rootless` says.
    #[serde(skip)]
    pub rootless: Option<bool>,
    pub resources: cgroup::Resources,
    pub device_rules: Vec<String>,
    pub root: rootfs::plan::Plan,
    /// User namespaces whose ids mounts show.
    pub mapped_ids: Vec<IdSource>,
    pub hostname: Option<CText>,
    pub domainname: Option<CText>,
    pub sysctl: Vec<Sysctl>,
    pub net_devices: Vec<NetDevice>,
    pub intel_rdt: Option<IntelRdt>,
    pub hooks: Hooks,
    pub process: Option<Process>,
    pub preserve_fds: u32,
    pub no_new_keyring: bool,
    #[serde(skip)]
    pub annotations: Vec<(String, String)>,
    /// What the operator should know and nothing stops for.
    pub warnings: Vec<String>,
}

impl Plan {
    /// Reads facts of the host through `host`; otherwise pure.
    pub(crate) fn new(spec: &spec::Spec<'_>, bundle: &Path, id: &str, options: &Options, host: &Host) -> Result<Plan> {
        checks::run(spec)?;
        let mut warnings = Vec::new();
        let namespaces = Namespaces::new(spec, host)?;
        // A path may have led to the host's own, which is not to be renamed.
        let name =
            |property: &str, value: &Option<spec::Str<'_>>| match value.as_deref().filter(|name| !name.is_empty()) {
                Some(_) if !namespaces.has_own(libc::CLONE_NEWUTS) => {
                    Err(bad(property, "needs a uts namespace that is not the host's"))
                }
                name => name.map(|name| text(property, name)).transpose(),
            };
        let (hostname, domainname) = (name("hostname", &spec.hostname)?, name("domainname", &spec.domainname)?);
        let linux = spec.linux.as_ref();
        let cgroups_path = linux.and_then(|linux| linux.cgroups_path.as_deref()).filter(|path| !path.is_empty());
        let place = match options.cgroup_manager {
            CgroupManager::Cgroupfs => host.cgroups()?.place(cgroups_path, id)?,
            CgroupManager::Systemd => host.cgroups()?.scope(cgroups_path, id)?,
            CgroupManager::Disabled => cgroup::Place::disabled(),
        };
        let place = match spec.annotation(LEAF_ANNOTATION) {
            Some(name) => place.with_leaf(name).map_err(|problem| {
                bad(format_args!("annotations[{LEAF_ANNOTATION:?}]"), format_args!("{name:?}: {problem}"))
            })?,
            None => place,
        };
        let systemd_properties = match options.cgroup_manager {
            CgroupManager::Systemd => systemd::properties(spec, options)?,
            _ => Vec::new(),
        };
        let process_options = ProcessOptions {
            new_user_namespace: namespaces.ids.is_some() || namespaces.joins_user(),
            keyring: (!options.no_new_keyring).then(|| format!("_ses.{id}")),
            extra_env: &options.listen_env,
            notify: options.notify.is_some(),
            landlock: spec.annotation(LANDLOCK_ANNOTATION),
            exec: false,
        };
        let process = match &spec.process {
            Some(process) => Some(Process::new(process, linux, &process_options, host, &mut warnings)?),
            None => None,
        };
        let mut root = mounts::root(spec, bundle, options, &namespaces, &place, host, &mut warnings)?;
        let mapped_ids = mapped_ids::apply(spec, &namespaces, &mut root)?;
        let (devices, device_rules) = devices::rules(linux)?;
        let mut resources = resources::limits(linux, host, &mut warnings)?;
        resources::check(&mut resources, options.cgroup_manager == CgroupManager::Disabled, host, &mut warnings)?;
        resources.devices = devices;
        Ok(Plan {
            id: id.to_owned(),
            oci_version: spec.oci_version.as_deref().unwrap_or_default().to_owned(),
            bundle: path_text("--bundle", bundle)?,
            sysctl: sysctl::plan(linux, &namespaces, host)?,
            net_devices: linux::net_devices(linux, &namespaces)?,
            intel_rdt: linux::intel_rdt(linux, id)?,
            hooks: Hooks::new(spec)?,
            hostname,
            domainname,
            annotations: spec.annotations.iter().map(|(key, value)| (key.to_string(), value.to_string())).collect(),
            cgroup: place,
            systemd_properties,
            cgroup_owner: cgroup_mounts::cgroup_owner(
                &root,
                &namespaces,
                process.as_ref().map_or(0, |process| process.uid),
            ),
            cgroups_path_given: cgroups_path.is_some(),
            rootless: options.rootless,
            resources,
            device_rules,
            preserve_fds: options.preserve_fds,
            no_new_keyring: options.no_new_keyring,
            namespaces,
            root,
            mapped_ids,
            process,
            warnings,
        })
    }
}

/// A C string, or an error that names the property.
pub(crate) fn text(property: impl std::fmt::Display, value: &str) -> Result<CText> {
    CText::new(value).ok_or_else(|| bad(property, format_args!("{value:?} contains a NUL byte")))
}

pub(crate) fn path_text(property: &str, path: &Path) -> Result<CText> {
    use std::os::unix::ffi::OsStrExt;
    CText::new(path.as_os_str().as_bytes()).ok_or_else(|| bad(property, "contains a NUL byte"))
}
