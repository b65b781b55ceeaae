//! `hooks`: the six kinds, their order, what each is given and where it runs.
//!
//! Not here: hooks that fail (hook_failures.rs).

use std::fs;
use std::path::{Path, PathBuf};

use conformance::bundle::{Bundle, write_script};
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "R-15" => six_kinds_in_order,
    "C-54" => a_list_runs_in_order,
    "C-55" => state_on_standard_input,
    "R-7" => state_of_each_kind,
    "R-4" => state_says_creating_until_create_is_done,
    "C-53" => arguments_and_environment,
    "" => environment_left_out,
    "" => working_directory_is_the_bundle,
    "C-56" => prestart_and_create_runtime_run_outside,
    "C-58" => create_container_runs_inside_before_the_pivot,
    "C-59" => start_container_runs_inside,
    "" => hooks_may_change_the_root,
    "C-60" => poststart_runs_when_the_program_does,
    "C-61" => poststop_runs_once_at_delete,
    "" => poststop_runs_at_the_end_of_run,
    "" => descriptors_of_a_hook,
    "" => hook_that_reads_nothing,
    "" => unknown_kind_is_ignored,
}

/// The kinds that run outside of the container's file system.
const OUTSIDE: [&str; 5] = ["prestart", "createRuntime", "createContainer", "poststart", "poststop"];
const ALL: [&str; 6] = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];

/// Where hooks write: a directory that the container sees under the same path.
pub(crate) struct Log {
    pub(crate) dir: PathBuf,
}

impl Log {
    pub(crate) fn new(t: &Test<'_>, bundle: &mut Bundle) -> Self {
        let dir = t.make_dir("log");
        let path = dir.to_str().expect("UTF-8").to_owned();
        bundle.bind(&dir, &path, &["bind"]);
        Self { dir }
    }

    /// A hook that runs `script`, with $LOG, $KIND and $INPUT (what came on
    /// standard input) set, in a file named by the
    /// script's length.
    pub(crate) fn hook(&self, kind: &str, script: &str) -> Value {
        let path = self.dir.join(format!("{kind}-{}", script.len()));
        let text = format!("KIND={kind}; LOG={}; INPUT=$(cat)\n{script}", self.dir.display());
        write_script(&path, &text);
        json!({"path": path, "args": ["hook"], "env": ["PATH=/bin:/usr/bin"]})
    }

    pub(crate) fn read(&self, name: &str) -> String {
        fs::read_to_string(self.dir.join(name)).unwrap_or_default()
    }

    fn lines(&self, name: &str) -> Vec<String> {
        self.read(name).lines().map(str::to_owned).collect()
    }
}

/// A bundle in which a hook of each of these kinds runs `script`.
pub(crate) fn with_hooks(t: &Test<'_>, kinds: &[&str], script: &str) -> (Bundle, Log) {
    let mut bundle = t.sleeping_bundle();
    let log = Log::new(t, &mut bundle);
    let hooks: serde_json::Map<String, Value> =
        kinds.iter().map(|kind| ((*kind).to_owned(), json!([log.hook(kind, script)]))).collect();
    bundle.set("hooks", Value::Object(hooks));
    (bundle, log)
}

/// Runs the bundle in the foreground with a program that ends at once.
pub(crate) fn run_true(t: &Test<'_>, mut bundle: Bundle) -> conformance::runtime::Output {
    bundle.args(&["/bin/true"]);
    t.run(&bundle)
}

fn six_kinds_in_order(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "start does not wait for startContainer hooks")?;
    t.peer_differs(Kind::Runc, "runs poststart at the end of create")?;
    let (bundle, log) = with_hooks(t, &ALL, "echo $KIND >>$LOG/order");
    let c = t.create(&bundle);
    assert_eq!(log.lines("order"), ALL[..3], "after create");
    c.start();
    assert_eq!(log.lines("order"), ALL[..5], "after start");
    c.murder();
    assert_eq!(log.lines("order"), ALL[..5], "after the end");
    c.delete();
    assert_eq!(log.lines("order"), ALL, "after delete");
    Ok(())
}

fn a_list_runs_in_order(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let log = Log::new(t, &mut bundle);
    let list = |kind: &str| -> Value {
        ["1", "22", "333"].iter().map(|word| log.hook(kind, &format!("echo {word} >>$LOG/$KIND"))).collect()
    };
    let hooks: serde_json::Map<String, Value> = ALL.iter().map(|kind| ((*kind).to_owned(), list(kind))).collect();
    bundle.set("hooks", Value::Object(hooks));
    t.run(&bundle).ok();
    for kind in ALL {
        assert_eq!(log.lines(kind), ["1", "22", "333"], "{kind}");
    }
    Ok(())
}

fn state_on_standard_input(t: &Test<'_>) -> Done {
    let (mut bundle, log) = with_hooks(t, &ALL, "echo \"$INPUT\" >$LOG/$KIND");
    bundle.set("annotations", json!({"org.example.key": "a value"}));
    let c = t.start(&bundle);
    c.murder();
    c.delete();
    for kind in ALL {
        let text = log.read(kind);
        let state: Value = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{kind}: {error}: {text}"));
        assert_eq!(state["id"], c.id.as_str(), "{kind}");
        if !(t.is(Kind::Crun) && kind == "startContainer") {
            assert_eq!(state["bundle"].as_str().map(Path::new), Some(bundle.path.as_path()), "{kind}");
        }
        assert!(state["ociVersion"].is_string(), "{kind}");
        assert_eq!(state["annotations"], json!({"org.example.key": "a value"}), "{kind}");
    }
    Ok(())
}

/// To the hooks the environment is created; to everybody else the container is once create has returned.
fn state_says_creating_until_create_is_done(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "has no state yet")?;
    t.peer_differs(Kind::Crun, "says created")?;
    let id = t.id();
    let ask = format!("{} --root {} state {id} >$LOG/state", t.runtime.program.display(), t.runtime.root.display());
    let (bundle, log) = with_hooks(t, &["createRuntime"], &ask);
    let output = t.create_call(&bundle, &id).output().ok();
    let c = t.container(id, output);
    let state: Value = serde_json::from_str(&log.read("state")).expect("not JSON");
    assert_eq!((&state["status"], &state["pid"]), (&json!("creating"), &json!(c.pid)));
    c.assert_status("created");
    Ok(())
}

fn state_of_each_kind(t: &Test<'_>) -> Done {
    let (bundle, log) = with_hooks(t, &ALL, "echo \"$INPUT\" >$LOG/$KIND");
    let c = t.start(&bundle);
    c.murder();
    c.delete();
    let state = |kind: &str| -> Value { serde_json::from_str(&log.read(kind)).expect("not JSON") };
    for (kind, status) in ALL.into_iter().zip(["created", "created", "created", "created", "running", "stopped"]) {
        if t.is(Kind::Runc) && kind != "startContainer" && kind != "poststop" {
            continue; // says creating until create is done, and runs poststart before the start
        }
        assert_eq!(state(kind)["status"], status, "{kind}");
    }
    for kind in ["prestart", "createRuntime", "poststart"] {
        assert_eq!(state(kind)["pid"], c.pid, "{kind}: the runtime's view");
    }
    if t.is_proa() {
        for kind in ["createContainer", "startContainer"] {
            assert_eq!(state(kind)["pid"], 1, "{kind}: the container's view");
        }
    }
    Ok(())
}

fn arguments_and_environment(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let out = t.file("out");
    let script = format!(
        "cat >/dev/null; tr '\\0' '|' </proc/$$/cmdline >>{0}; tr '\\0' '|' </proc/$$/environ >>{0}",
        out.display()
    );
    let hook = json!({"path": "/bin/sh", "args": ["my-name", "-c", script, "x", "a b"], "env": ["PATH=/bin:/usr/bin", "A=1", "B="]});
    bundle.set("hooks", json!({"createRuntime": [hook]}));
    t.run_call(&bundle, &t.id()).env("SECRET", "x").output().ok();
    let text = fs::read_to_string(out).expect("the hook wrote nothing");
    assert!(text.starts_with("my-name|-c|"), "argv[0] is kept: {text}");
    assert!(text.contains("|x|a b|PATH=/bin:/usr/bin|A=1|B=|"), "{text}");
    assert!(!text.contains("SECRET"), "{text}");
    Ok(())
}

fn environment_left_out(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "hands its own environment on")?;
    let mut bundle = t.bundle();
    let out = t.file("out");
    let script = format!("/bin/cat >/dev/null; /bin/cat /proc/$$/environ >{}", out.display());
    bundle.set("hooks", json!({"createRuntime": [{"path": "/bin/sh", "args": ["sh", "-c", script]}]}));
    t.run_call(&bundle, &t.id()).env("SECRET", "x").output().ok();
    let text = fs::read_to_string(&out).expect("the hook wrote nothing");
    if !t.is(Kind::Crun) {
        assert_eq!(text, "", "no environment but what is listed");
    }
    // startContainer has the process's.
    let log = Log::new(t, &mut bundle);
    let path = log.dir.join("start");
    write_script(&path, &format!("echo $MARK >{}/mark", log.dir.display()));
    bundle.process("env", json!(["PATH=/bin", "MARK=of the process"]));
    bundle.set("hooks", json!({"startContainer": [{"path": path}]}));
    t.run(&bundle).ok();
    if !t.is(Kind::Crun) {
        assert_eq!(log.read("mark"), "of the process\n");
    }
    Ok(())
}

fn working_directory_is_the_bundle(t: &Test<'_>) -> Done {
    let (bundle, log) = with_hooks(t, &["prestart", "createRuntime", "poststart", "poststop"], "pwd >$LOG/$KIND");
    let elsewhere = t.make_dir("elsewhere");
    let mut bundle = bundle;
    bundle.args(&["/bin/true"]);
    t.run_call(&bundle, &t.id()).cwd(&elsewhere).output().ok();
    if t.is_proa() {
        for kind in ["prestart", "createRuntime", "poststart", "poststop"] {
            assert_eq!(log.read(kind).trim(), bundle.path.to_str().expect("UTF-8"), "{kind}");
        }
    }
    Ok(())
}

const NAMESPACES: &str = "for n in mnt net uts pid; do readlink /proc/self/ns/$n; done >$LOG/$KIND; ls /mark-of-the-container >>$LOG/$KIND 2>/dev/null || :";

fn own_namespaces() -> Vec<String> {
    ["mnt", "net", "uts", "pid"]
        .iter()
        .map(|name| {
            fs::read_link(format!("/proc/self/ns/{name}")).expect("no namespace").to_string_lossy().into_owned()
        })
        .collect()
}

fn prestart_and_create_runtime_run_outside(t: &Test<'_>) -> Done {
    let kinds = ["prestart", "createRuntime", "poststart", "poststop"];
    let (bundle, log) = with_hooks(t, &kinds, NAMESPACES);
    fs::write(bundle.inside("/mark-of-the-container"), "").expect("cannot write");
    let c = t.start(&bundle);
    c.murder();
    c.delete();
    for kind in kinds {
        assert_eq!(log.lines(kind), own_namespaces(), "{kind}");
    }
    Ok(())
}

fn create_container_runs_inside_before_the_pivot(t: &Test<'_>) -> Done {
    let (bundle, log) = with_hooks(t, &["createContainer"], NAMESPACES);
    fs::write(bundle.inside("/mark-of-the-container"), "").expect("cannot write");
    let c = t.create(&bundle);
    let lines = log.lines("createContainer");
    for (index, name) in ["mnt", "net", "uts"].iter().enumerate() {
        assert!(lines[index].contains(&look::namespace(c.pid, name).to_string()), "{name}: {lines:?}");
    }
    assert_eq!(lines.len(), 4, "the root was the container's already: {lines:?}");
    Ok(())
}

fn start_container_runs_inside(t: &Test<'_>) -> Done {
    let (bundle, log) = with_hooks(t, &["startContainer"], NAMESPACES);
    fs::write(bundle.inside("/mark-of-the-container"), "").expect("cannot write");
    let c = t.create(&bundle);
    assert_eq!(log.read("startContainer"), "", "not before start");
    c.start();
    let lines = log.lines("startContainer");
    for (index, name) in ["mnt", "net", "uts", "pid"].iter().enumerate() {
        assert!(lines[index].contains(&look::namespace(c.pid, name).to_string()), "{name}: {lines:?}");
    }
    assert_eq!(lines.get(4).map(String::as_str), Some("/mark-of-the-container"));
    Ok(())
}

fn hooks_may_change_the_root(t: &Test<'_>) -> Done {
    // What device plugins do: files and mounts made in the container's /dev and
    // root after all else is mounted, before it is the root.
    let mut bundle = t.sh_bundle("cat /dev/by-runtime /dev/by-container; ls /data");
    let data = t.make_dir("data");
    fs::write(data.join("file"), "").expect("cannot write");
    let root = bundle.rootfs();
    let script = t.file("runtime-hook");
    let text = format!(
        "pid=$(sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); exec nsenter -t $pid -m sh -c 'echo runtime >{0}/dev/by-runtime; mkdir {0}/data; mount --bind {1} {0}/data'",
        root.display(),
        data.display()
    );
    write_script(&script, &text);
    let container = t.file("container-hook");
    write_script(&container, &format!("echo container >{}/dev/by-container", root.display()));
    let env = json!(["PATH=/usr/sbin:/usr/bin:/sbin:/bin"]);
    bundle.set(
        "hooks",
        json!({
            "createRuntime": [{"path": script, "env": env}],
            "createContainer": [{"path": container, "env": env}],
        }),
    );
    assert_eq!(t.prints(&bundle), "runtime\ncontainer\nfile\n");
    Ok(())
}

fn poststart_runs_when_the_program_does(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "runs poststart at the end of create")?;
    t.peer_differs(Kind::Crun, "does not wait for the program")?;
    let (bundle, log) = with_hooks(
        t,
        &["poststart"],
        "pid=$(echo \"$INPUT\" | sed -n 's/.*\"pid\": *\\([0-9]*\\).*/\\1/p'); tr '\\0' ' ' </proc/$pid/cmdline >$LOG/cmdline",
    );
    let c = t.create(&bundle);
    assert_eq!(log.read("cmdline"), "");
    c.start();
    assert_eq!(log.read("cmdline"), "/bin/sleep 1000 ");
    Ok(())
}

fn poststop_runs_once_at_delete(t: &Test<'_>) -> Done {
    let (bundle, log) = with_hooks(t, &["poststop"], "echo x >>$LOG/count");
    let c = t.start(&bundle);
    c.call("delete").options(&["--force"]).output().ok();
    c.call("delete").options(&["--force"]).output().ok();
    assert_eq!(log.read("count"), "x\n");
    Ok(())
}

fn poststop_runs_at_the_end_of_run(t: &Test<'_>) -> Done {
    let (bundle, log) = with_hooks(t, &OUTSIDE, "echo $KIND >>$LOG/order");
    run_true(t, bundle).ok();
    assert_eq!(log.lines("order"), OUTSIDE);
    Ok(())
}

fn descriptors_of_a_hook(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "leaves createContainer some of its own")?;
    let (bundle, log) =
        with_hooks(t, &ALL, "ls -l /proc/self/fd | grep -v -e /proc/ -e /$KIND -e total >$LOG/$KIND || :");
    let mut bundle = bundle;
    bundle.args(&["/bin/true"]);
    let mut call = t.run_call(&bundle, &t.id());
    for number in 3..8 {
        call = call.fd(fs::File::open("/").expect("cannot open /"), number);
    }
    call.output().ok();
    for kind in ALL {
        let extra: Vec<_> = log
            .lines(kind)
            .into_iter()
            .filter(|line| {
                let number = line
                    .split(" -> ")
                    .next()
                    .and_then(|head| head.rsplit(' ').next())
                    .and_then(|word| word.parse::<i32>().ok());
                // What ls(1) itself has opened is gone when it looks.
                line.contains(" -> ") && number.is_some_and(|number| number > 2)
            })
            .collect();
        assert!(extra.is_empty(), "{kind}: {extra:?}");
    }
    Ok(())
}

fn hook_that_reads_nothing(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "may die of SIGPIPE")?;
    let mut bundle = t.bundle();
    let hook = json!([{"path": "/bin/sh", "args": ["sh", "-c", "exec <&-"]}]);
    bundle.set(
        "hooks",
        json!({"prestart": hook, "createRuntime": hook, "createContainer": hook, "poststart": hook, "poststop": hook}),
    );
    // A state too big for a pipe, so that a writer would wait or be told.
    bundle.set("annotations", json!({"org.example.long": "x".repeat(100_000)}));
    t.run(&bundle).ok();
    Ok(())
}

fn unknown_kind_is_ignored(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.set("hooks", json!({"prestop": [{"path": "/no/such/hook"}]}));
    t.run(&bundle).ok();
    bundle.set("hooks", json!({"createRuntime": []}));
    t.run(&bundle).ok();
    Ok(())
}
