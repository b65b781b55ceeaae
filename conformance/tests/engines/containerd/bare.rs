//! A shim started by hand and spoken to as containerd does: for what no client of containerd can ask, such as a task
//! that is created and not started, calls at the same time, or the order in which events leave the shim.
//!
//! Not here: containerd.

use std::fs::{self, File, OpenOptions};
use std::io::{Read, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::process::{Command, Stdio};
use std::sync::{Arc, Mutex, OnceLock};
use std::time::{Duration, Instant};

use conformance::bundle::{Bundle, Template};
use conformance::look;
use containerd_shim_protos::api;
use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult, Extension};
use containerd_shim_protos::events::task as happened;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::protobuf::{Message, MessageField};
use containerd_shim_protos::shim::oci::Options;
use containerd_shim_protos::shim_sync::{Client, Events, create_events};
use containerd_shim_protos::ttrpc::proto::{Code, Request};
use containerd_shim_protos::ttrpc::{self, Server, TtrpcContext};
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::daemon::{NAMESPACE, world};
use super::fixture::Test;
use super::oracle;

/// The service that containerd 2 asks.
pub(crate) const V3: &str = "containerd.task.v3.Task";
/// The service that containerd 1 asks: the same messages.
pub(crate) const V2: &str = "containerd.task.v2.Task";

/// How containerd tells `start` what it wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Dialect {
    /// To 2.2: options on standard input, the answer is an address or JSON.
    Legacy,
    /// From 2.3: BootstrapParams on standard input, BootstrapResult as the answer.
    Bootstrap,
    /// The same, from a containerd that takes a sandbox's namespaces by their paths.
    ByPath,
}

/// A call that the shim refused.
#[derive(Debug)]
pub(crate) struct Refused {
    pub(crate) code: Code,
    pub(crate) message: String,
}

pub(crate) type Answer<T> = Result<T, Refused>;

/// An event as it left a shim: container, and a few words as in `events`.
type Told = (String, String);

struct Sink(Mutex<Vec<Told>>);

impl Events for Sink {
    fn forward(
        &self,
        _: &TtrpcContext,
        request: containerd_shim_protos::shim::events::ForwardRequest,
    ) -> ttrpc::Result<containerd_shim_protos::types::empty::Empty> {
        let event = request.envelope.event.clone().unwrap_or_default();
        self.0.lock().expect("a lock").push(brief(&request.envelope.topic, &event.value));
        Ok(Default::default())
    }
}

fn brief(topic: &str, value: &[u8]) -> Told {
    fn read<M: Message>(value: &[u8]) -> M {
        M::parse_from_bytes(value).expect("an event of its topic")
    }
    let kind = topic.trim_start_matches("/tasks/");
    match kind {
        "exit" => {
            let exit: happened::TaskExit = read(value);
            let which = if exit.id == exit.container_id { "init" } else { &exit.id };
            let words = format!("exit {which} {}", exit.exit_status);
            (exit.container_id, words)
        }
        "exec-added" | "exec-started" => {
            // Both begin with the same two fields.
            let exec: happened::TaskExecStarted = read(value);
            (exec.container_id, format!("{kind} {}", exec.exec_id))
        }
        // The first field of all the others is the container's id, which is all that is wanted.
        _ => (read::<happened::TaskPaused>(value).container_id, kind.to_owned()),
    }
}

static SINK: OnceLock<(String, Arc<Sink>)> = OnceLock::new();

/// Where shims send their events, in this process.
fn sink() -> &'static (String, Arc<Sink>) {
    let new = || (format!("{}/events.ttrpc", world().base().display()), Arc::new(Sink(Mutex::new(Vec::new()))));
    let sink = SINK.get_or_init(new);
    if LISTENING.lock().expect("a lock").is_none() {
        serve(sink);
    }
    sink
}

fn sink_of_events() -> &'static Sink {
    &SINK.get().expect("a shim was started").1
}

/// The server while it listens.
static LISTENING: Mutex<Option<Server>> = Mutex::new(None);

fn serve((address, sink): &(String, Arc<Sink>)) {
    fs::remove_file(address).ok();
    let server = Server::new().bind(&format!("unix://{address}")).expect("cannot listen");
    let mut server = server.register_service(create_events(sink.clone()));
    server.start().expect("cannot serve events");
    *LISTENING.lock().expect("a lock") = Some(server);
}

/// Hears events no more, as a containerd that has ended.
pub(crate) fn stop_listening() {
    if let Some(server) = LISTENING.lock().expect("a lock").take() {
        server.shutdown();
    }
    fs::remove_file(format!("{}/events.ttrpc", world().base().display())).expect("the socket");
}

/// Hears events again.
pub(crate) fn listen() {
    sink();
}

/// All events that left the shim of a container, in order.
pub(crate) fn story(id: &str) -> Vec<String> {
    // While nobody listens, what was heard before is still there.
    let told = sink_of_events().0.lock().expect("a lock");
    told.iter().filter(|(container, _)| container == id).map(|(_, words)| words.clone()).collect()
}

/// Waits for an event whose words begin with `start`.
#[track_caller]
pub(crate) fn wait_for(id: &str, start: &str) {
    let came = look::eventually_within(Duration::from_secs(15), || story(id).iter().any(|e| e.starts_with(start)));
    assert!(came, "no event {start:?} of {id}: {:?}", story(id));
}

/// Options of this shim, as its containerd would send them.
pub(crate) fn options(toml: &str) -> Any {
    if world().is_control() {
        let mut options = Options { binary_name: world().runtime.display().to_string(), ..Default::default() };
        if let Some(binary) = toml.strip_prefix("BinaryName = '") {
            binary.trim_end().trim_end_matches('\'').clone_into(&mut options.binary_name);
        }
        return any("containerd.runc.v1.Options", options.write_to_bytes().expect("a message"));
    }
    generic_options(toml)
}

/// `runtimeoptions.v1.Options` with TOML in `config_body`: what any shim but runc's is sent for a CRI handler.
pub(crate) fn generic_options(toml: &str) -> Any {
    // The message is in no crate: field 3, bytes.
    let mut value = vec![3 << 3 | 2];
    let mut left = toml.len();
    while left >= 0x80 {
        value.push(left as u8 | 0x80);
        left >>= 7;
    }
    value.push(left as u8);
    value.extend(toml.as_bytes());
    any("runtimeoptions.v1.Options", value)
}

pub(crate) fn any(type_url: &str, value: Vec<u8>) -> Any {
    Any { type_url: type_url.to_owned(), value, ..Default::default() }
}

/// A bundle of the test's.
pub(crate) fn bundle(t: &Test, id: &str) -> Bundle {
    static TEMPLATE: OnceLock<Template> = OnceLock::new();
    let template = TEMPLATE.get_or_init(|| Template::prepare(world().base()));
    let mut bundle = Bundle::new(t.dir.join(id), template);
    bundle.linux("cgroupsPath", serde_json::json!(format!("/{NAMESPACE}/{id}")));
    bundle.args(&["sleep", "1000"]);
    bundle
}

/// The command `start` of a shim, to be run; its bundle is the working directory.
pub(crate) fn command(bundle: &Bundle, id: &str, action: &str) -> Command {
    let grpc = format!("{}/bare.sock", world().base().display());
    let mut command = Command::new(world().shim_binary());
    let path = format!("{}/bin:{}", world().base().display(), std::env::var("PATH").unwrap_or_default());
    command
        .args(["-namespace", NAMESPACE, "-address", &grpc, "-publish-binary", "/usr/bin/containerd", "-id", id])
        .args(["-bundle", bundle.path.to_str().expect("UTF-8"), action])
        .current_dir(&bundle.path)
        .env("PATH", path)
        .env("TTRPC_ADDRESS", &sink().0)
        .env("GRPC_ADDRESS", &grpc)
        .env("NAMESPACE", NAMESPACE)
        .env("MAX_SHIM_VERSION", "3")
        .env("GOMAXPROCS", "4");
    command
}

/// Runs a command of the shim with bytes on its standard input; both its outputs together, as containerd reads them.
#[track_caller]
pub(crate) fn ask(mut command: Command, input: &[u8]) -> (i32, Vec<u8>) {
    let mut output = tempfile::tempfile().expect("no temporary file");
    let copy = || output.try_clone().expect("cannot duplicate a descriptor");
    command.stdin(Stdio::piped()).stdout(copy()).stderr(copy());
    let mut child = command.spawn().expect("cannot start the shim");
    // It may not read what it does not want.
    child.stdin.take().expect("a pipe").write_all(input).ok();
    let end = Instant::now() + Duration::from_secs(20) * look::slowness();
    let status = loop {
        if let Some(status) = child.try_wait().expect("cannot wait") {
            break status.code().unwrap_or(-1);
        }
        if Instant::now() > end {
            child.kill().ok();
            child.wait().ok();
            panic!("{command:?} does not end");
        }
        std::thread::sleep(Duration::from_millis(1));
    };
    std::io::Seek::rewind(&mut output).expect("cannot seek");
    let mut answer = Vec::new();
    output.read_to_end(&mut answer).expect("cannot read");
    (status, answer)
}

/// A shim that runs.
pub(crate) struct Shim {
    client: Client,
    /// `unix://...`
    pub(crate) address: String,
    /// The version of the task API that it says.
    pub(crate) version: i32,
    options: Any,
    log: File,
}

impl Shim {
    /// Starts a shim for a bundle, in the dialect that any shim knows.
    #[track_caller]
    pub(crate) fn start(bundle: &Bundle, id: &str) -> Self {
        Self::start_with(bundle, id, Dialect::Legacy, options(""))
    }

    /// Starts a shim that has another runtime below it.
    #[track_caller]
    pub(crate) fn start_on(bundle: &Bundle, id: &str, runtime: &std::path::Path) -> Self {
        Self::start_with(bundle, id, Dialect::Legacy, options(&format!("BinaryName = '{}'\n", runtime.display())))
    }

    #[track_caller]
    pub(crate) fn start_with(bundle: &Bundle, id: &str, dialect: Dialect, options: Any) -> Self {
        Self::start_by(command(bundle, id, "start"), bundle, id, dialect, options)
    }

    /// Starts a shim by a command that was prepared.
    #[track_caller]
    pub(crate) fn start_by(start: Command, bundle: &Bundle, id: &str, dialect: Dialect, options: Any) -> Self {
        bundle.write();
        let log = open_log(bundle);
        let input = match dialect {
            Dialect::Legacy => options.write_to_bytes().expect("a message"),
            Dialect::Bootstrap => bootstrap(id, &options).write_to_bytes().expect("a message"),
            Dialect::ByPath => {
                let params = BootstrapParams { containerd_version: "v2.5.0".into(), ..bootstrap(id, &options) };
                params.write_to_bytes().expect("a message")
            }
        };
        let (status, answer) = ask(start, &input);
        let text = String::from_utf8_lossy(&answer).into_owned();
        assert_eq!(status, 0, "start fails: {text}");
        let (version, address) = match dialect {
            Dialect::Bootstrap | Dialect::ByPath => {
                let result =
                    BootstrapResult::parse_from_bytes(&answer).unwrap_or_else(|error| panic!("{error}: {text}"));
                assert_eq!(result.protocol, "ttrpc");
                (result.version, result.address)
            }
            // From 1.7 on: JSON; before that an address and nothing else.
            Dialect::Legacy => match serde_json::from_str::<serde_json::Value>(&text) {
                Ok(json) => {
                    assert_eq!(json["protocol"], "ttrpc", "{text}");
                    (json["version"].as_i64().unwrap_or(0) as i32, json["address"].as_str().unwrap_or("").to_owned())
                }
                Err(_) => (2, text.trim().to_owned()),
            },
        };
        assert!(address.starts_with("unix:///"), "no address: {text:?}");
        let client = Client::connect(&address).unwrap_or_else(|error| panic!("cannot connect to {address}: {error}"));
        Self { client, address, version, options, log }
    }

    /// Another connection to the same shim.
    pub(crate) fn again(&self) -> Client {
        Client::connect(&self.address).expect("cannot connect again")
    }

    /// The shim's process: the one that listens.
    #[track_caller]
    pub(crate) fn pid(&self, id: &str) -> i32 {
        let answer: api::ConnectResponse =
            self.call("Connect", &api::ConnectRequest { id: id.to_owned(), ..Default::default() }).expect("Connect");
        answer.shim_pid as i32
    }

    /// A method of the task service, with twenty seconds for it, times `slowness`.
    pub(crate) fn call<Q: Message, A: Message>(&self, method: &str, request: &Q) -> Answer<A> {
        let limit = Duration::from_secs(20) * look::slowness();
        self.call_on(if self.version >= 3 { V3 } else { V2 }, method, request, limit)
    }

    pub(crate) fn call_on<Q: Message, A: Message>(
        &self,
        service: &str,
        method: &str,
        request: &Q,
        limit: Duration,
    ) -> Answer<A> {
        // A full log would stop the shim.
        let mut waste = [0; 4096];
        while matches!((&self.log).read(&mut waste), Ok(count) if count > 0) {}
        call(&self.client, service, method, request, limit)
    }

    /// Options for `Create`, the same that `start` was given.
    pub(crate) fn options(&self) -> MessageField<Any> {
        MessageField::some(self.options.clone())
    }

    /// Only asks.
    pub(crate) fn ask_shutdown(&self, id: &str, now: bool) -> Answer<api::Empty> {
        self.call("Shutdown", &api::ShutdownRequest { id: id.to_owned(), now, ..Default::default() })
    }

    /// Ends a shim that has no task any more, as containerd does; it must go by itself.
    #[track_caller]
    pub(crate) fn shutdown(self, id: &str) {
        let pids = oracle::shims_of(id);
        // The connection may end before the answer.
        self.ask_shutdown(id, false).ok();
        look::eventually("the end of the shim", || !pids.iter().any(|pid| look::is_alive(*pid)));
        let socket = PathBuf::from(self.address.trim_start_matches("unix://"));
        assert!(!socket.exists(), "the socket is left: {}", socket.display());
    }
}

/// Calls a method of a service and waits for the answer.
pub(crate) fn call<Q: Message, A: Message>(
    client: &Client,
    service: &str,
    method: &str,
    request: &Q,
    limit: Duration,
) -> Answer<A> {
    let mut asked = Request::new();
    asked.set_service(service.to_owned());
    asked.set_method(method.to_owned());
    asked.set_timeout_nano(limit.as_nanos() as i64);
    asked.payload = request.write_to_bytes().expect("a message");
    match client.request(asked) {
        Ok(answer) => Ok(A::parse_from_bytes(&answer.payload).expect("the method's answer")),
        Err(ttrpc::Error::RpcStatus(status)) => {
            Err(Refused { code: status.code(), message: status.message().to_owned() })
        }
        Err(error) => Err(Refused { code: Code::UNKNOWN, message: error.to_string() }),
    }
}

/// What containerd 2.3 writes to `start`.
pub(crate) fn bootstrap(id: &str, options: &Any) -> BootstrapParams {
    let extension = Extension { value: MessageField::some(options.clone()), ..Default::default() };
    BootstrapParams {
        instance_id: id.to_owned(),
        namespace: NAMESPACE.to_owned(),
        containerd_version: "2.3.0".to_owned(),
        containerd_ttrpc_address: sink().0.clone(),
        containerd_grpc_address: format!("{}/bare.sock", world().base().display()),
        containerd_binary: "/usr/bin/containerd".to_owned(),
        extensions: vec![extension],
        ..Default::default()
    }
}

/// The FIFO on which a shim logs, held open as containerd does.
pub(crate) fn open_log(bundle: &Bundle) -> File {
    let path = bundle.path.join("log");
    if !path.exists() {
        mkfifo(&path, Mode::S_IRWXU).expect("cannot make a FIFO");
    }
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_NONBLOCK).open(&path).expect("cannot open the log")
}

/// Whether a file is gone or was never there.
pub(crate) fn absent(path: &std::path::Path) -> bool {
    fs::symlink_metadata(path).is_err()
}
