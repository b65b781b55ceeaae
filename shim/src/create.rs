//! A container comes into being: its root, its streams, its init, by one call of the runtime.

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex, OnceLock};

use containerd_shim_protos::api::CreateTaskRequest;
use containerd_shim_protos::events::task::{TaskCreate, TaskIO};
use protobuf::MessageField;
use tokio::sync::OnceCell;

use crate::bundle::Config;
use crate::container::{Container, Endings, read_pid, words};
use crate::error::{Error, Result};
use crate::events::Events;
use crate::mounts::Mounts;
use crate::options::Options;
use crate::process::{Phase, Process};
use crate::reaper::Reaper;
use crate::restore::{self, Restore};
use crate::runtime::{Runtime, With};
use crate::stdio::Paths;
use crate::usage::Watched;

/// The runtime writes the init's pid here, in the bundle.
pub(crate) const PID_FILE: &str = "init.pid";

impl Container {
    /// Creates what is asked for, and tells of it.
    ///
    /// # Errors
    /// A bundle, options or mounts that will not do; what the runtime says. Nothing is left then but files in the bundle.
    pub(crate) async fn create(
        request: &CreateTaskRequest,
        namespace: &str,
        reaper: &Arc<Reaper>,
        events: &Events,
    ) -> Result<Arc<Container>> {
        let bundle = Path::new(&request.bundle);
        let config = Config::read(bundle).map_err(Error::failed(format!("{}/config.json", request.bundle)))?;
        let options = Options::from_any(request.options.as_ref()).map_err(Error::Invalid)?;
        options.save(bundle).map_err(Error::failed(format!("keep options in {}", request.bundle)))?;
        let runtime = Runtime::new(&options, namespace, bundle, reaper.clone());
        // For people, and for tools that clean up.
        fs::write(bundle.join("runtime"), runtime.program().as_os_str().as_encoded_bytes())
            .map_err(Error::failed(format!("keep the runtime's name in {}", request.bundle)))?;
        let mounts = Mounts::plan(bundle, &request.rootfs)?;
        let paths = Paths {
            stdin: request.stdin.clone(),
            stdout: request.stdout.clone(),
            stderr: request.stderr.clone(),
            terminal: request.terminal,
        };
        let restored = !request.checkpoint.is_empty();
        let restore = restored.then(|| Restore { image: request.checkpoint.clone(), mounts: mounts.clone() });
        let container = Arc::new(Container {
            id: request.id.clone(),
            bundle: bundle.to_owned(),
            init: Arc::new(Process::new("", paths)),
            namespace: namespace.to_owned(),
            runtime,
            options,
            restore,
            own_pid_namespace: config.has_own_pid_namespace(),
            execs: Mutex::default(),
            endings: Mutex::new(Endings::default()),
            events: events.clone(),
            cgroup: OnceLock::new(),
            kills: Mutex::default(),
            deleted: OnceCell::new(),
        });
        if restored {
            container.tell_of_creation(request);
            return Ok(container);
        }
        let expecting = reaper.expect();
        let pid = match container.create_init(mounts).await {
            Ok(pid) => pid,
            Err(error) => {
                drop(expecting);
                // What a runtime that was killed has left, no runtime takes back.
                if error.is_cut_off() {
                    container.force().await;
                }
                return Err(error);
            }
        };
        container.cgroup.set(Watched::of(pid)).ok();
        let ended = reaper.watch(pid);
        drop(expecting);
        container.tell_of_creation(request);
        container.follow(&container.init, ended);
        container.watch_memory();
        Ok(container)
    }

    async fn create_init(self: &Arc<Self>, mounts: Option<Mounts>) -> Result<i32> {
        let pid_file = self.bundle.join(PID_FILE);
        let mut args = Vec::from(words!["create", "--bundle", &self.bundle, "--pid-file", &pid_file]);
        args.extend(restore::flags(&self.options));
        if self.options.no_new_keyring {
            args.push("--no-new-keyring".into());
        }
        let with = With { mounts, ..With::default() };
        let streams = self.run(&self.init.paths, &mut args, "init.sock", with).await;
        let created = match streams {
            Ok(streams) => read_pid(&pid_file).map(|pid| (pid, streams)),
            // The runtime has said so itself, and left nothing.
            Err(error) if !pid_file.exists() || error.is_cut_off() => return Err(error),
            Err(error) => Err(error),
        };
        match created {
            Ok((pid, streams)) => {
                self.init.exists(Phase::Created, pid, Some(streams));
                Ok(pid)
            }
            Err(error) => {
                self.force().await;
                Err(error)
            }
        }
    }

    fn tell_of_creation(&self, request: &CreateTaskRequest) {
        let paths = &self.init.paths;
        let io = TaskIO {
            stdin: paths.stdin.clone(),
            stdout: paths.stdout.clone(),
            stderr: paths.stderr.clone(),
            terminal: paths.terminal,
            ..Default::default()
        };
        self.events.publish(&TaskCreate {
            container_id: self.id.clone(),
            bundle: request.bundle.clone(),
            rootfs: request.rootfs.clone(),
            io: MessageField::some(io),
            checkpoint: request.checkpoint.clone(),
            pid: self.init.pid() as u32,
            ..Default::default()
        });
    }
}
