//! Containers that begin from a checkpoint: what `create` keeps until `start`.

use std::fs;
use std::sync::Arc;

use containerd_shim_protos::api::CheckpointTaskRequest;
use containerd_shim_protos::shim::oci::CheckpointOptions;
use protobuf::Message;
use std::ffi::OsString;

use crate::container::{Container, read_pid, words};
use crate::create::PID_FILE;
use crate::error::{Error, Result};
use crate::mounts::Mounts;
use crate::options::Options;
use crate::process::Phase;
use crate::runtime::With;
use crate::usage::Watched;

/// See the module.
#[derive(Debug)]
pub(crate) struct Restore {
    /// The directory of the checkpoint.
    pub(crate) image: String,
    /// The root of the container.
    pub(crate) mounts: Option<Mounts>,
}

impl Container {
    /// Restores the init, which was not created.
    ///
    /// # Errors
    /// The runtime says no.
    pub(crate) async fn restore(self: &Arc<Self>, restore: &Restore) -> Result<()> {
        let pid_file = self.bundle.join(PID_FILE);
        let mut args =
            Vec::from(words!["restore", "--detach", "--pid-file", &pid_file, "--image-path", &restore.image]);
        let work = if self.options.criu_work_path.is_empty() {
            self.bundle.join("criu-work")
        } else {
            self.options.criu_work_path.clone().into()
        };
        args.extend(words!["--work-path", work, "--bundle", &self.bundle]);
        args.extend(flags(&self.options));
        let with = With { mounts: restore.mounts.clone(), ..With::default() };
        let expecting = self.runtime.reaper().expect();
        let restored = self.run(&self.init.paths, &mut args, "init.sock", with).await;
        match restored.and_then(|streams| Ok((read_pid(&pid_file)?, streams))) {
            Ok((pid, streams)) => {
                self.init.exists(Phase::Starting, pid, Some(streams));
                self.cgroup.set(Watched::of(pid)).ok();
                self.follow(&self.init, self.runtime.reaper().watch(pid));
                drop(expecting);
                self.watch_memory();
                Ok(())
            }
            Err(error) => {
                drop(expecting);
                self.force().await;
                Err(error)
            }
        }
    }
}

/// Of creation and restoration alike.
pub(crate) fn flags(options: &Options) -> Vec<OsString> {
    let mut flags = Vec::new();
    if options.no_pivot_root {
        flags.push("--no-pivot".into());
    }
    flags
}

/// The directory and the flags of a checkpoint that is asked for.
///
/// # Errors
/// Options that are none of a checkpoint.
pub(crate) fn checkpoint(request: &CheckpointTaskRequest, options: &Options) -> Result<(String, Vec<OsString>)> {
    let wanted = match request.options.as_ref().filter(|any| !any.value.is_empty()) {
        Some(any) => CheckpointOptions::parse_from_bytes(&any.value)
            .map_err(|error| Error::Invalid(format!("options of a checkpoint: {error}")))?,
        None => CheckpointOptions::default(),
    };
    let path = [&request.path, &wanted.image_path, &options.criu_image_path].into_iter().find(|path| !path.is_empty());
    let path = path.ok_or_else(|| Error::Invalid("a checkpoint without a path".into()))?;
    fs::create_dir_all(path).map_err(Error::failed(format!("mkdir {path}")))?;
    let mut flags = Vec::new();
    let switches = [
        (!wanted.exit, "--leave-running"),
        (wanted.open_tcp, "--tcp-established"),
        (wanted.external_unix_sockets, "--ext-unix-sk"),
        (wanted.terminal, "--shell-job"),
        (wanted.file_locks, "--file-locks"),
    ];
    flags.extend(switches.iter().filter(|(wanted, _)| *wanted).map(|(_, flag)| (*flag).into()));
    for namespace in &wanted.empty_namespaces {
        flags.extend(words!["--empty-ns", namespace]);
    }
    for (name, value) in [("--manage-cgroups-mode", &wanted.cgroups_mode), ("--work-path", &wanted.work_path)] {
        if !value.is_empty() {
            flags.extend(words![name, value]);
        }
    }
    Ok((path.clone(), flags))
}
