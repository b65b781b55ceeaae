//! The calls of the task service, one function each, on a shim started by hand.

use std::time::Duration;

use conformance::look;
use containerd_shim_protos::api;
use containerd_shim_protos::protobuf::MessageField;
use serde_json::{Value, json};

use super::bare::{Answer, Shim, any};

/// FIFOs or URIs of a process; empty for none.
#[derive(Debug, Clone, Default)]
pub(crate) struct Stdio {
    pub(crate) terminal: bool,
    pub(crate) stdin: String,
    pub(crate) stdout: String,
    pub(crate) stderr: String,
}

/// A container of a shim, named by its id.
#[derive(Clone, Copy)]
pub(crate) struct Task<'s> {
    pub(crate) shim: &'s Shim,
    pub(crate) id: &'s str,
}

impl Shim {
    pub(crate) fn task<'s>(&'s self, id: &'s str) -> Task<'s> {
        Task { shim: self, id }
    }
}

impl Task<'_> {
    pub(crate) fn create_request(&self, bundle: &std::path::Path, io: &Stdio) -> api::CreateTaskRequest {
        api::CreateTaskRequest {
            id: self.id.to_owned(),
            bundle: bundle.display().to_string(),
            terminal: io.terminal,
            stdin: io.stdin.clone(),
            stdout: io.stdout.clone(),
            stderr: io.stderr.clone(),
            options: self.shim.options(),
            ..Default::default()
        }
    }

    pub(crate) fn create(&self, bundle: &std::path::Path) -> Answer<i32> {
        self.create_io(bundle, &Stdio::default())
    }

    pub(crate) fn create_io(&self, bundle: &std::path::Path, io: &Stdio) -> Answer<i32> {
        let answer: Answer<api::CreateTaskResponse> = self.shim.call("Create", &self.create_request(bundle, io));
        answer.map(|created| created.pid as i32)
    }

    /// `exec` is empty for the first process.
    pub(crate) fn start(&self, exec: &str) -> Answer<i32> {
        let request = api::StartRequest { id: self.id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        self.shim.call("Start", &request).map(|started: api::StartResponse| started.pid as i32)
    }

    pub(crate) fn exec(&self, name: &str, words: &[&str]) -> Answer<()> {
        self.exec_io(name, words, &Stdio::default())
    }

    pub(crate) fn exec_io(&self, name: &str, words: &[&str], io: &Stdio) -> Answer<()> {
        let process = json!({
            "terminal": io.terminal, "user": {"uid": 0, "gid": 0}, "args": words, "cwd": "/",
            "env": ["PATH=/bin", "TERM=xterm"],
        });
        let spec = any("types.containerd.io/opencontainers/runtime-spec/1/Process", process.to_string().into_bytes());
        let request = api::ExecProcessRequest {
            id: self.id.to_owned(),
            exec_id: name.to_owned(),
            terminal: io.terminal,
            stdin: io.stdin.clone(),
            stdout: io.stdout.clone(),
            stderr: io.stderr.clone(),
            spec: MessageField::some(spec),
            ..Default::default()
        };
        self.shim.call("Exec", &request).map(|_: api::Empty| ())
    }

    pub(crate) fn kill(&self, exec: &str, signal: u32) -> Answer<()> {
        let (id, exec_id) = (self.id.to_owned(), exec.to_owned());
        let request = api::KillRequest { id, exec_id, signal, ..Default::default() };
        self.shim.call("Kill", &request).map(|_: api::Empty| ())
    }

    pub(crate) fn state(&self, exec: &str) -> Answer<api::StateResponse> {
        // The time that containerd allows, times `slowness`.
        self.state_within(exec, Duration::from_secs(2) * look::slowness())
    }

    pub(crate) fn state_within(&self, exec: &str, limit: Duration) -> Answer<api::StateResponse> {
        let request = api::StateRequest { id: self.id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        let service = if self.shim.version >= 3 { super::bare::V3 } else { super::bare::V2 };
        self.shim.call_on(service, "State", &request, limit)
    }

    /// `CREATED`, `RUNNING`...
    #[track_caller]
    pub(crate) fn status(&self) -> String {
        let state = self.state("").expect("State");
        format!("{:?}", state.status.enum_value().expect("a known status"))
    }

    pub(crate) fn wait(&self, exec: &str) -> Answer<u32> {
        let request = api::WaitRequest { id: self.id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        self.shim.call("Wait", &request).map(|ended: api::WaitResponse| ended.exit_status)
    }

    pub(crate) fn delete(&self, exec: &str) -> Answer<api::DeleteResponse> {
        let request = api::DeleteRequest { id: self.id.to_owned(), exec_id: exec.to_owned(), ..Default::default() };
        self.shim.call("Delete", &request)
    }

    pub(crate) fn pids(&self) -> Answer<Vec<i32>> {
        let answer: Answer<api::PidsResponse> =
            self.shim.call("Pids", &api::PidsRequest { id: self.id.to_owned(), ..Default::default() });
        answer.map(|pids| pids.processes.iter().map(|process| process.pid as i32).collect())
    }

    pub(crate) fn pause(&self) -> Answer<()> {
        let request = api::PauseRequest { id: self.id.to_owned(), ..Default::default() };
        self.shim.call("Pause", &request).map(|_: api::Empty| ())
    }

    pub(crate) fn resume(&self) -> Answer<()> {
        let request = api::ResumeRequest { id: self.id.to_owned(), ..Default::default() };
        self.shim.call("Resume", &request).map(|_: api::Empty| ())
    }

    pub(crate) fn resize(&self, exec: &str, width: u32, height: u32) -> Answer<()> {
        let (id, exec_id) = (self.id.to_owned(), exec.to_owned());
        let request = api::ResizePtyRequest { id, exec_id, width, height, ..Default::default() };
        self.shim.call("ResizePty", &request).map(|_: api::Empty| ())
    }

    pub(crate) fn close_stdin(&self, exec: &str) -> Answer<()> {
        let (id, exec_id) = (self.id.to_owned(), exec.to_owned());
        let request = api::CloseIORequest { id, exec_id, stdin: true, ..Default::default() };
        self.shim.call("CloseIO", &request).map(|_: api::Empty| ())
    }

    pub(crate) fn update(&self, resources: &Value) -> Answer<()> {
        let url = "types.containerd.io/opencontainers/runtime-spec/1/LinuxResources";
        let resources = MessageField::some(any(url, resources.to_string().into_bytes()));
        let request = api::UpdateTaskRequest { id: self.id.to_owned(), resources, ..Default::default() };
        self.shim.call("Update", &request).map(|_: api::Empty| ())
    }

    /// Kills it, waits, and deletes it.
    #[track_caller]
    pub(crate) fn finish(&self) {
        self.kill("", 9).expect("Kill");
        self.wait("").expect("Wait");
        self.delete("").expect("Delete");
    }
}
