//! The task service: containerd's calls, each to the container that it is about.
//! Source: containerd's api/runtime/task/v3/shim.proto; version 2 has the same messages under another name.

use std::collections::HashMap;
use std::future::Future;
use std::sync::Arc;

use async_trait::async_trait;
use containerd_shim_protos::api::{
    CheckpointTaskRequest, CloseIORequest, ConnectRequest, ConnectResponse, CreateTaskRequest, CreateTaskResponse,
    DeleteRequest, DeleteResponse, Empty, ExecProcessRequest, KillRequest, PauseRequest, PidsRequest, PidsResponse,
    ProcessInfo, ResizePtyRequest, ResumeRequest, ShutdownRequest, StartRequest, StartResponse, StateRequest,
    StateResponse, StatsRequest, StatsResponse, UpdateTaskRequest, WaitRequest, WaitResponse,
};
use containerd_shim_protos::shim::oci::ProcessDetails;
use containerd_shim_protos::shim_async::{Task, create_task};
use protobuf::well_known_types::any::Any;
use protobuf::{EnumOrUnknown, Message, MessageField};
use ttrpc::r#async::{Service, TtrpcContext};

use crate::error::{Error, Result};
use crate::events::timestamp;
use crate::metrics;
use crate::restore;
use crate::shim::Shim;
use crate::stdio::Paths;

/// The service under both of its names.
pub(crate) fn services(shim: &Arc<Shim>) -> HashMap<String, Service> {
    let service = || create_task(Arc::new(Tasks(shim.clone())));
    let older = service().into_iter().map(|(name, service)| (name.replace(".v3.", ".v2."), service));
    service().into_iter().chain(older).collect()
}

struct Tasks(Arc<Shim>);

/// Goes on when the caller does not wait any more, or its connection has ended: nothing is left half done.
async fn whole<T, F>(act: F) -> ttrpc::Result<T>
where
    T: Send + 'static,
    F: Future<Output = Result<T>> + Send + 'static,
{
    match tokio::spawn(act).await {
        Ok(done) => done.map_err(ttrpc::Error::from),
        Err(error) => Err(Error::Failed(error.to_string()).into()),
    }
}

#[async_trait]
impl Task for Tasks {
    async fn state(&self, _: &TtrpcContext, request: StateRequest) -> ttrpc::Result<StateResponse> {
        let container = self.0.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        let exit = process.exit();
        Ok(StateResponse {
            id: request.id,
            bundle: container.bundle.display().to_string(),
            pid: process.pid() as u32,
            status: EnumOrUnknown::new(process.status()),
            stdin: process.paths.stdin.clone(),
            stdout: process.paths.stdout.clone(),
            stderr: process.paths.stderr.clone(),
            terminal: process.paths.terminal,
            exit_status: exit.map_or(0, |exit| exit.status),
            exited_at: exit.map_or_else(MessageField::none, |exit| timestamp(exit.at)),
            exec_id: request.exec_id,
            ..Default::default()
        })
    }

    async fn create(&self, _: &TtrpcContext, request: CreateTaskRequest) -> ttrpc::Result<CreateTaskResponse> {
        let shim = self.0.clone();
        whole(async move {
            let pid = shim.create(&request).await? as u32;
            Ok(CreateTaskResponse { pid, ..Default::default() })
        })
        .await
    }

    async fn start(&self, _: &TtrpcContext, request: StartRequest) -> ttrpc::Result<StartResponse> {
        let container = self.0.container(&request.id)?;
        whole(async move {
            let pid = match request.exec_id.as_str() {
                "" => container.start().await?,
                exec_id => container.start_exec(&container.process(exec_id)?).await?,
            };
            Ok(StartResponse { pid: pid as u32, ..Default::default() })
        })
        .await
    }

    async fn delete(&self, _: &TtrpcContext, request: DeleteRequest) -> ttrpc::Result<DeleteResponse> {
        let shim = self.0.clone();
        whole(async move {
            let deleted = match request.exec_id.as_str() {
                "" => shim.delete(&request.id).await?,
                exec_id => shim.container(&request.id)?.delete_exec(exec_id).await?,
            };
            Ok(DeleteResponse {
                pid: deleted.pid as u32,
                exit_status: deleted.exit.status,
                exited_at: timestamp(deleted.exit.at),
                ..Default::default()
            })
        })
        .await
    }

    async fn pids(&self, _: &TtrpcContext, request: PidsRequest) -> ttrpc::Result<PidsResponse> {
        let container = self.0.container(&request.id)?;
        let cgroup = container.cgroup.get().ok_or_else(|| Error::NotFound("the container has no cgroup".into()))?;
        let execs: HashMap<i32, String> =
            container.with_execs(|execs| execs.values().map(|exec| (exec.pid(), exec.exec_id.clone())).collect());
        let processes = cgroup.processes()?.into_iter().map(|pid| {
            let details = execs.get(&pid).map(|id| ProcessDetails { exec_id: id.clone(), ..Default::default() });
            let info = details.and_then(|details| {
                let type_url = "containerd.runc.v1.ProcessDetails".to_owned();
                Some(Any { type_url, value: details.write_to_bytes().ok()?, ..Default::default() })
            });
            ProcessInfo { pid: pid as u32, info: info.into(), ..Default::default() }
        });
        Ok(PidsResponse { processes: processes.collect(), ..Default::default() })
    }

    async fn pause(&self, _: &TtrpcContext, request: PauseRequest) -> ttrpc::Result<Empty> {
        let container = self.0.container(&request.id)?;
        whole(async move { container.pause().await.map(|()| Empty::new()) }).await
    }

    async fn resume(&self, _: &TtrpcContext, request: ResumeRequest) -> ttrpc::Result<Empty> {
        let container = self.0.container(&request.id)?;
        whole(async move { container.resume().await.map(|()| Empty::new()) }).await
    }

    async fn checkpoint(&self, _: &TtrpcContext, request: CheckpointTaskRequest) -> ttrpc::Result<Empty> {
        let container = self.0.container(&request.id)?;
        whole(async move {
            let (path, flags) = restore::checkpoint(&request, &container.options)?;
            container.checkpoint(&path, flags).await.map(|()| Empty::new())
        })
        .await
    }

    async fn kill(&self, _: &TtrpcContext, request: KillRequest) -> ttrpc::Result<Empty> {
        let container = self.0.container(&request.id)?;
        let process = container.process(&request.exec_id)?;
        if !process.is_init() {
            return Ok(process.signal(request.signal).map(|()| Empty::new())?);
        }
        if process.exit().is_some() && !request.all {
            return Err(Error::NotFound(format!("container {} has ended: process already finished", request.id)).into());
        }
        whole(async move { container.kill_by_runtime(request.signal, request.all).await.map(|()| Empty::new()) }).await
    }

    async fn exec(&self, _: &TtrpcContext, request: ExecProcessRequest) -> ttrpc::Result<Empty> {
        let paths =
            Paths { stdin: request.stdin, stdout: request.stdout, stderr: request.stderr, terminal: request.terminal };
        let spec = request.spec.as_ref().map(|any| any.value.as_slice()).unwrap_or_default();
        self.0.container(&request.id)?.add(&request.exec_id, paths, spec)?;
        Ok(Empty::new())
    }

    async fn resize_pty(&self, _: &TtrpcContext, request: ResizePtyRequest) -> ttrpc::Result<Empty> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        let (width, height) = (request.width.min(u16::MAX.into()) as u16, request.height.min(u16::MAX.into()) as u16);
        match process.with_streams(|streams| streams.resize(width, height)) {
            Some(Err(error)) => Err(Error::failed("resize the terminal")(error).into()),
            // One that has ended has no size.
            Some(Ok(())) | None => Ok(Empty::new()),
        }
    }

    async fn close_io(&self, _: &TtrpcContext, request: CloseIORequest) -> ttrpc::Result<Empty> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        if request.stdin {
            process.close_input();
        }
        Ok(Empty::new())
    }

    async fn update(&self, _: &TtrpcContext, request: UpdateTaskRequest) -> ttrpc::Result<Empty> {
        let container = self.0.container(&request.id)?;
        let resources = request.resources.into_option().map(|any| any.value).unwrap_or_default();
        whole(async move { container.update(&resources).await.map(|()| Empty::new()) }).await
    }

    async fn wait(&self, _: &TtrpcContext, request: WaitRequest) -> ttrpc::Result<WaitResponse> {
        let process = self.0.container(&request.id)?.process(&request.exec_id)?;
        let exit = process.ended().await;
        Ok(WaitResponse { exit_status: exit.status, exited_at: timestamp(exit.at), ..Default::default() })
    }

    async fn stats(&self, _: &TtrpcContext, request: StatsRequest) -> ttrpc::Result<StatsResponse> {
        let container = self.0.container(&request.id)?;
        let cgroup = container.cgroup.get().ok_or_else(|| Error::NotFound("the container has no cgroup".into()))?;
        let stats = metrics::of(&cgroup.usage()?)?;
        Ok(StatsResponse { stats: MessageField::some(stats), ..Default::default() })
    }

    async fn connect(&self, _: &TtrpcContext, request: ConnectRequest) -> ttrpc::Result<ConnectResponse> {
        // Asked of a shim that is there, whether its container is or not.
        let task_pid = self.0.container(&request.id).map_or(0, |container| container.init.pid());
        Ok(ConnectResponse { shim_pid: std::process::id(), task_pid: task_pid as u32, ..Default::default() })
    }

    async fn shutdown(&self, _: &TtrpcContext, _: ShutdownRequest) -> ttrpc::Result<Empty> {
        self.0.shutdown();
        Ok(Empty::new())
    }
}
