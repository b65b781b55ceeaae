//! What containers of a pod share beside namespaces: /etc/hostname, hosts, resolv.conf and /dev/shm, in the bundle.

use std::fs;
use std::path::{Path, PathBuf};

use nix::mount::{MntFlags, MsFlags, mount, umount2};
use serde_json::{Value, json};

use super::config::Config;
use crate::error::{Error, Result};

/// See the module. The tmpfs goes when this is dropped; the bundle is containerd's to remove.
pub(crate) struct Files {
    bundle: PathBuf,
    host_ipc: bool,
}

impl Files {
    /// Makes them.
    ///
    /// # Errors
    /// One that cannot be made.
    pub(crate) fn make(bundle: &Path, config: &Config) -> Result<Files> {
        let files = Files { bundle: bundle.to_owned(), host_ipc: config.host_ipc };
        let host = |path: &str| fs::read_to_string(path).unwrap_or_default();
        let name = if config.hostname.is_empty() { host("/etc/hostname") } else { format!("{}\n", config.hostname) };
        let resolv = match config.resolv_conf.as_slice() {
            [] => host("/etc/resolv.conf"),
            lines => lines.join("\n") + "\n",
        };
        for (file, text) in [("hostname", name), ("hosts", host("/etc/hosts")), ("resolv.conf", resolv)] {
            fs::write(bundle.join(file), text).map_err(Error::failed(format!("{file} of the sandbox")))?;
        }
        if !files.host_ipc {
            let shm = bundle.join("shm");
            fs::create_dir_all(&shm).map_err(Error::failed("mkdir shm of the sandbox"))?;
            let flags = MsFlags::MS_NOEXEC | MsFlags::MS_NOSUID | MsFlags::MS_NODEV;
            mount(Some("shm"), &shm, Some("tmpfs"), flags, Some("mode=1777,size=64m"))
                .map_err(|errno| Error::Failed(format!("mount shm of the sandbox: {errno}")))?;
        }
        Ok(files)
    }

    /// As mounts of the specification.
    pub(crate) fn mounts(&self) -> Vec<Value> {
        let bind = |target: &str, source: PathBuf| json!({ "destination": target, "type": "bind", "source": source, "options": ["rbind", "rprivate", "rw"] });
        let mut shm = bind("/dev/shm", if self.host_ipc { "/dev/shm".into() } else { self.bundle.join("shm") });
        if !self.host_ipc {
            // A bind has what is written here, not what its source has.
            shm["options"] = json!(["rbind", "rprivate", "rw", "nosuid", "nodev", "noexec"]);
        }
        vec![
            bind("/etc/hostname", self.bundle.join("hostname")),
            bind("/etc/hosts", self.bundle.join("hosts")),
            bind("/etc/resolv.conf", self.bundle.join("resolv.conf")),
            shm,
        ]
    }
}

impl Drop for Files {
    fn drop(&mut self) {
        if !self.host_ipc
            && let Err(errno) = umount2(&self.bundle.join("shm"), MntFlags::MNT_DETACH)
        {
            log::warn!("umount shm of the sandbox: {errno}");
        }
    }
}
