//! The sandbox service: a pod without a pause process (`sandboxer = "shim"`).

use std::time::Duration;

use conformance::test::{Done, Skip};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::sandbox_api as sandbox;
use containerd_shim_protos::ttrpc::proto::Code;

use super::bare::{self, Answer, Shim, bundle};
use super::fixture::Test;

crate::cases![a_sandbox_lives_and_ends, a_container_runs_in_a_sandbox, an_unknown_sandbox_is_not_found];

const SERVICE: &str = "containerd.runtime.sandbox.v1.Sandbox";

fn ask<Q: Message, A: Message>(shim: &Shim, method: &str, request: &Q) -> Answer<A> {
    shim.call_on(SERVICE, method, request, Duration::from_secs(10))
}

/// A shim with a sandbox that has started; nothing where the shim does not serve any.
fn started(t: &Test, id: &str) -> Result<Shim, Skip> {
    let bundle = bundle(t, id);
    let shim = Shim::start(&bundle, id);
    let request = sandbox::CreateSandboxRequest {
        sandbox_id: id.to_owned(),
        bundle_path: bundle.path.display().to_string(),
        ..Default::default()
    };
    let created: Answer<sandbox::CreateSandboxResponse> = ask(&shim, "CreateSandbox", &request);
    if let Err(refused) = created {
        // An answer that says that there is no such service, in the words of whoever wrote the server.
        let none = refused.code == Code::UNIMPLEMENTED || refused.message.contains("service");
        assert!(none, "CreateSandbox: {refused:?}");
        shim.shutdown(id);
        return Err(Skip("this shim serves no sandboxes".into()));
    }
    let request = sandbox::StartSandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
    let answer: sandbox::StartSandboxResponse = ask(&shim, "StartSandbox", &request).expect("StartSandbox");
    assert!(answer.created_at.seconds > 0, "{answer}");
    Ok(shim)
}

fn status(shim: &Shim, id: &str) -> sandbox::SandboxStatusResponse {
    let request = sandbox::SandboxStatusRequest { sandbox_id: id.to_owned(), ..Default::default() };
    ask(shim, "SandboxStatus", &request).expect("SandboxStatus")
}

fn ended(shim: Shim, id: &str) {
    let request = sandbox::StopSandboxRequest { sandbox_id: id.to_owned(), timeout_secs: 5, ..Default::default() };
    std::thread::scope(|scope| {
        let waiting = scope.spawn(|| -> Answer<sandbox::WaitSandboxResponse> {
            ask(&shim, "WaitSandbox", &sandbox::WaitSandboxRequest { sandbox_id: id.to_owned(), ..Default::default() })
        });
        std::thread::sleep(Duration::from_millis(100));
        assert!(!waiting.is_finished(), "WaitSandbox returns though it runs");
        let _stopped: sandbox::StopSandboxResponse = ask(&shim, "StopSandbox", &request).expect("StopSandbox");
        waiting.join().expect("no panic").expect("WaitSandbox");
    });
    let state = status(&shim, id).state;
    assert!(state.to_uppercase().contains("NOTREADY") || state.to_uppercase().contains("NOT_READY"), "{state}");
    // Again: it may be asked twice.
    let _stopped: sandbox::StopSandboxResponse = ask(&shim, "StopSandbox", &request).expect("StopSandbox");
    let request = sandbox::ShutdownSandboxRequest { sandbox_id: id.to_owned(), ..Default::default() };
    let pid = super::oracle::shims_of(id)[0];
    // The connection may end before the answer.
    ask(&shim, "ShutdownSandbox", &request).map(|_: sandbox::ShutdownSandboxResponse| ()).ok();
    conformance::look::eventually("the end of the shim", || !conformance::look::is_alive(pid));
}

fn a_sandbox_lives_and_ends() -> Done {
    let t = Test::begin();
    let id = t.id();
    let shim = started(&t, &id)?;
    let ping = sandbox::PingRequest { sandbox_id: id.clone(), ..Default::default() };
    let _pong: sandbox::PingResponse = ask(&shim, "PingSandbox", &ping).expect("PingSandbox");
    let platform = sandbox::PlatformRequest { sandbox_id: id.clone(), ..Default::default() };
    let answer: sandbox::PlatformResponse = ask(&shim, "Platform", &platform).expect("Platform");
    assert_eq!(answer.platform.os, "linux");
    let status = status(&shim, &id);
    assert_eq!(status.sandbox_id, id);
    assert!(status.state.to_uppercase().ends_with("READY"), "{status}");
    ended(shim, &id);
    t.end()
}

fn a_container_runs_in_a_sandbox() -> Done {
    let t = Test::begin();
    let id = t.id();
    let shim = started(&t, &id)?;
    let inner = t.id();
    let inner_bundle = bare::bundle(&t, &inner);
    inner_bundle.write();
    let task = shim.task(&inner);
    task.create(&inner_bundle.path).expect("Create");
    task.start("").expect("Start");
    // The end of the last container is not the end of the sandbox.
    task.finish();
    shim.ask_shutdown(&inner, false).ok();
    std::thread::sleep(Duration::from_millis(300));
    assert!(status(&shim, &id).state.to_uppercase().ends_with("READY"));
    ended(shim, &id);
    t.end()
}

fn an_unknown_sandbox_is_not_found() -> Done {
    let t = Test::begin();
    let id = t.id();
    let shim = started(&t, &id)?;
    let request = sandbox::SandboxStatusRequest { sandbox_id: "none".to_owned(), ..Default::default() };
    let answer: Answer<sandbox::SandboxStatusResponse> = ask(&shim, "SandboxStatus", &request);
    assert_eq!(answer.expect_err("there is none").code, Code::NOT_FOUND);
    ended(shim, &id);
    t.end()
}
