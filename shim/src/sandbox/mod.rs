//! The sandbox service: a pod without a container of its own. The shim makes the pod's namespaces and keeps them.
//! Source: containerd's api/runtime/sandbox/v1/sandbox.proto; containerd issue 14106 for pods without a process.
//!
//! containerd up to 2.4 joins containers to the namespaces of a process, whose pid it is told: a pause of the shim's
//! own, the same program. A containerd that takes namespaces by path gets those, and pid 0: there is no process then, but
//! where the pod shares a pid namespace, which needs one.

mod config;
mod files;
mod holder;
pub(crate) mod pause;

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::SystemTime;

use async_trait::async_trait;
use containerd_shim_protos::sandbox_api::{
    CreateSandboxRequest, CreateSandboxResponse, PingRequest, PingResponse, PlatformRequest, PlatformResponse,
    SandboxMetricsRequest, SandboxMetricsResponse, SandboxStatusRequest, SandboxStatusResponse, ShutdownSandboxRequest,
    ShutdownSandboxResponse, StartSandboxRequest, StartSandboxResponse, StopSandboxRequest, StopSandboxResponse,
    WaitSandboxRequest, WaitSandboxResponse,
};
use containerd_shim_protos::sandbox_async::{Sandbox, create_sandbox};
use protobuf::MessageField;
use protobuf::well_known_types::any::Any;
use tokio::sync::watch;
use ttrpc::r#async::{Service, TtrpcContext};

use crate::error::{Error, Result};
use crate::events::timestamp;
use crate::reaper::Exit;
use crate::shim::Shim;
use crate::{metrics, usage};
use config::Config;
use files::Files;
use holder::Holder;

/// The first containerd that is known to join namespaces by path.
const BY_PATH_SINCE: (u32, u32) = (2, 5);

/// The service.
pub(crate) fn service(shim: &Arc<Shim>) -> HashMap<String, Service> {
    create_sandbox(Arc::new(Sandboxes { shim: shim.clone(), pods: Mutex::default() }))
}

struct Sandboxes {
    shim: Arc<Shim>,
    pods: Mutex<HashMap<String, Arc<Pod>>>,
}

/// A pod, from its creation to its shutdown.
struct Pod {
    bundle: PathBuf,
    netns: String,
    config: Config,
    state: Mutex<State>,
    end: watch::Sender<Option<Exit>>,
}

#[derive(Default)]
struct State {
    holder: Option<Holder>,
    files: Option<Files>,
    created: Option<SystemTime>,
    /// Once, however it ends.
    started: bool,
}

impl Pod {
    fn with<T>(&self, act: impl FnOnce(&mut State) -> T) -> T {
        act(&mut self.state.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pid(&self) -> u32 {
        self.with(|state| state.holder.as_ref().map_or(0, Holder::pid)) as u32
    }

    fn is_ready(&self) -> bool {
        self.with(|state| state.created.is_some()) && self.end.borrow().is_none()
    }

    /// Its namespaces go as soon as no container is in them.
    fn stop(&self) {
        let (holder, files) = self.with(|state| (state.holder.take(), state.files.take()));
        drop((holder, files));
        self.end.send_if_modified(|end| match end {
            Some(_) => false,
            None => {
                *end = Some(Exit::now(0));
                true
            }
        });
    }
}

/// Whether containerd takes the namespaces of a pod by their paths.
fn by_path(version: &str) -> bool {
    let mut numbers = version.trim_start_matches('v').split('.').map_while(|part| part.parse().ok());
    let (Some(major), Some(minor)) = (numbers.next(), numbers.next()) else { return false };
    (major, minor) >= BY_PATH_SINCE
}

impl Sandboxes {
    fn with<T>(&self, act: impl FnOnce(&mut HashMap<String, Arc<Pod>>) -> T) -> T {
        act(&mut self.pods.lock().unwrap_or_else(PoisonError::into_inner))
    }

    fn pod(&self, id: &str) -> Result<Arc<Pod>> {
        let missing = || Error::NotFound(format!("sandbox {id} does not exist"));
        self.with(|pods| pods.get(id).cloned()).ok_or_else(missing)
    }

    fn create(&self, request: CreateSandboxRequest) -> Result<()> {
        let config = Config::parse(request.options.as_ref())?;
        let pod = Pod {
            bundle: request.bundle_path.into(),
            netns: request.netns_path,
            config,
            state: Mutex::default(),
            end: watch::Sender::new(None),
        };
        self.with(|pods| match pods.contains_key(&request.sandbox_id) {
            true => Err(Error::AlreadyExists(format!("sandbox {} exists", request.sandbox_id))),
            false => {
                self.shim.hold()?;
                pods.insert(request.sandbox_id, Arc::new(pod));
                Ok(())
            }
        })
    }

    async fn start(&self, id: &str) -> Result<StartSandboxResponse> {
        let pod = self.pod(id)?;
        if pod.with(|state| std::mem::replace(&mut state.started, true)) {
            return Err(Error::Precondition(format!("sandbox {id} was started before")));
        }
        let version = std::env::var("CONTAINERD_VERSION").unwrap_or_default();
        // A containerd that goes by the process finds the host's pid namespace with one that has none of its own.
        let own_pids = pod.config.shares_pids || !(pod.config.host_pids || by_path(&version));
        let mut holder = Holder::start(&pod.config, own_pids, &pod.netns, &self.shim.reaper).await?;
        let files = Files::make(&pod.bundle, &pod.config)?;
        let mut spec = MessageField::none();
        if by_path(&version) {
            if !pod.config.shares_pids {
                holder.end_process().await;
            }
            spec = MessageField::some(as_spec(&holder, &pod, &files));
        } else {
            // It does not ask for them either.
            self.shim.set_mounts(files.mounts());
        }
        pod.with(|state| state.files = Some(files));
        let created = SystemTime::now();
        let ended = holder.ended();
        pod.with(|state| (state.holder, state.created) = (Some(holder), Some(created)));
        if let Some(ended) = ended {
            let pod = pod.clone();
            tokio::spawn(async move {
                let exit = ended.await.unwrap_or_else(|_| Exit::now(255));
                pod.end.send_if_modified(|end| end.is_none().then(|| *end = Some(exit)).is_some());
            });
        }
        Ok(StartSandboxResponse { pid: pod.pid(), created_at: timestamp(created), spec, ..Default::default() })
    }
}

/// What containers of the pod have in common, as the specification has it: namespaces, mounts, sysctls.
fn as_spec(holder: &Holder, pod: &Pod, files: &Files) -> Any {
    let spec = serde_json::json!({
        "ociVersion": "1.2.0",
        "hostname": pod.config.hostname,
        "mounts": files.mounts(),
        "linux": { "namespaces": holder.namespaces(&pod.netns), "sysctl": pod.config.sysctls },
    });
    let type_url = "types.containerd.io/opencontainers/runtime-spec/1/Spec".to_owned();
    Any { type_url, value: spec.to_string().into_bytes(), ..Default::default() }
}

#[async_trait]
impl Sandbox for Sandboxes {
    async fn create_sandbox(
        &self,
        _: &TtrpcContext,
        request: CreateSandboxRequest,
    ) -> ttrpc::Result<CreateSandboxResponse> {
        Ok(self.create(request).map(|()| CreateSandboxResponse::new())?)
    }

    async fn start_sandbox(
        &self,
        _: &TtrpcContext,
        request: StartSandboxRequest,
    ) -> ttrpc::Result<StartSandboxResponse> {
        Ok(self.start(&request.sandbox_id).await?)
    }

    async fn platform(&self, _: &TtrpcContext, _: PlatformRequest) -> ttrpc::Result<PlatformResponse> {
        let architecture = match std::env::consts::ARCH {
            "x86_64" => "amd64",
            "aarch64" => "arm64",
            other => other,
        };
        let mut response = PlatformResponse::new();
        let platform = response.platform.mut_or_insert_default();
        (platform.os, platform.architecture) = ("linux".to_owned(), architecture.to_owned());
        Ok(response)
    }

    async fn stop_sandbox(&self, _: &TtrpcContext, request: StopSandboxRequest) -> ttrpc::Result<StopSandboxResponse> {
        self.pod(&request.sandbox_id)?.stop();
        Ok(StopSandboxResponse::new())
    }

    async fn wait_sandbox(&self, _: &TtrpcContext, request: WaitSandboxRequest) -> ttrpc::Result<WaitSandboxResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        let mut end = pod.end.subscribe();
        let exit = end.wait_for(Option::is_some).await.ok().and_then(|exit| *exit).unwrap_or_else(|| Exit::now(255));
        Ok(WaitSandboxResponse { exit_status: exit.status, exited_at: timestamp(exit.at), ..Default::default() })
    }

    async fn sandbox_status(
        &self,
        _: &TtrpcContext,
        request: SandboxStatusRequest,
    ) -> ttrpc::Result<SandboxStatusResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        let time = |time: Option<SystemTime>| time.map_or_else(MessageField::none, timestamp);
        Ok(SandboxStatusResponse {
            pid: pod.pid(),
            state: if pod.is_ready() { "SANDBOX_READY" } else { "SANDBOX_NOTREADY" }.to_owned(),
            created_at: time(pod.with(|state| state.created)),
            exited_at: time((*pod.end.borrow()).map(|exit| exit.at)),
            sandbox_id: request.sandbox_id,
            ..Default::default()
        })
    }

    async fn ping_sandbox(&self, _: &TtrpcContext, request: PingRequest) -> ttrpc::Result<PingResponse> {
        Ok(self.pod(&request.sandbox_id).map(|_| PingResponse::new())?)
    }

    async fn shutdown_sandbox(
        &self,
        _: &TtrpcContext,
        request: ShutdownSandboxRequest,
    ) -> ttrpc::Result<ShutdownSandboxResponse> {
        if let Some(pod) = self.with(|pods| pods.remove(&request.sandbox_id)) {
            pod.stop();
            self.shim.release();
        }
        self.shim.shutdown();
        Ok(ShutdownSandboxResponse::new())
    }

    async fn sandbox_metrics(
        &self,
        _: &TtrpcContext,
        request: SandboxMetricsRequest,
    ) -> ttrpc::Result<SandboxMetricsResponse> {
        let pod = self.pod(&request.sandbox_id)?;
        let usage = usage::of_path(Path::new(&pod.config.cgroup_parent))?;
        let mut response = SandboxMetricsResponse::new();
        let metrics = response.metrics.mut_or_insert_default();
        metrics.timestamp = timestamp(SystemTime::now());
        metrics.id = request.sandbox_id;
        metrics.data = MessageField::some(metrics::of(&usage)?);
        Ok(response)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_takes_paths() {
        assert!(by_path("v2.5.0") && by_path("3.0.1") && by_path("2.10.3-rc.1"));
        assert!(!by_path("2.4.9") && !by_path("1.7.20") && !by_path("") && !by_path("dev"));
    }
}
