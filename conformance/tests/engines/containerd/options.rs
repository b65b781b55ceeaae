//! What a user can set for the shim: the options of runc's shim, in the form that this one is sent; and other names
//! under which the shim is found.

use std::fs;
use std::os::unix::fs::{MetadataExt, symlink};
use std::path::Path;

use conformance::bundle::Bundle;
use conformance::look;
use conformance::test::{Done, Skip};
use containerd_shim_protos::protobuf::Message;
use containerd_shim_protos::protobuf::well_known_types::any::Any;
use containerd_shim_protos::shim::oci::Options;
use nix::sys::stat::Mode;
use nix::unistd::mkfifo;

use super::bare::{self, Dialect, Shim};
use super::ctr::ctr;
use super::daemon::{NAMESPACE, world};
use super::fake::Fake;
use super::fixture::{Test, runtime_options, task_status};
use super::task::Stdio;

crate::cases![
    binary_name_names_the_runtime,
    root_is_where_the_runtime_keeps_its_state,
    no_pivot_root_and_no_new_keyring_are_passed_on,
    io_uid_and_io_gid_own_the_pipes,
    shim_cgroup_is_where_the_shim_is,
    systemd_cgroup,
    an_option_that_is_not_known_is_no_end,
    options_in_a_file_are_read,
    bad_options_are_refused,
    an_absolute_path_names_the_shim,
    the_shim_goes_by_runc_s_name,
];

/// Options of the form that only runc's shim is sent by containerd itself; any shim may be sent them by others.
fn typed(options: &Options) -> Any {
    bare::any("containerd.runc.v1.Options", options.write_to_bytes().expect("a message"))
}

/// Runs `check` once for each form in which this shim can be sent the same options.
fn in_each_form(options: &Options, toml: &str, check: impl Fn(Any)) {
    check(typed(options));
    if !world().is_control() {
        check(bare::generic_options(toml));
    }
}

fn started(bundle: &Bundle, id: &str, options: Any) -> Shim {
    let shim = Shim::start_with(bundle, id, Dialect::Legacy, options);
    shim.task(id).create(&bundle.path).expect("Create");
    shim.task(id).start("").expect("Start");
    shim
}

fn ended(shim: Shim, id: &str) {
    shim.task(id).finish();
    shim.shutdown(id);
}

fn runtime() -> String {
    world().runtime.display().to_string()
}

fn binary_name_names_the_runtime() -> Done {
    let t = Test::begin();
    let fake = Fake::new(&t);
    t.container().runtime(&fake.program).rm(&["true"]).ok();
    for command in ["create", "start", "delete"] {
        fake.call(command);
    }
    // One that is not there is named in the error.
    t.container().runtime(Path::new("/no/such/runtime")).rm(&["true"]).run().fails("/no/such/runtime");
    t.end()
}

fn root_is_where_the_runtime_keeps_its_state() -> Done {
    let t = Test::begin();
    let root = t.path("root");
    let options = Options { binary_name: runtime(), root: root.clone(), ..Default::default() };
    let toml = format!("BinaryName = '{}'\nRoot = '{root}'\n", runtime());
    in_each_form(&options, &toml, |options| {
        let id = t.id();
        let bundle = bare::bundle(&t, &id);
        let shim = started(&bundle, &id, options);
        // The shim adds the namespace, so that two namespaces may use the same id.
        assert!(Path::new(&root).join(NAMESPACE).join(&id).exists(), "nothing below {root}");
        ended(shim, &id);
        assert!(!Path::new(&root).join(NAMESPACE).join(&id).exists());
    });
    t.end()
}

fn no_pivot_root_and_no_new_keyring_are_passed_on() -> Done {
    let t = Test::begin();
    let fake = Fake::new(&t);
    let binary = fake.program.display().to_string();
    let options =
        Options { binary_name: binary.clone(), no_pivot_root: true, no_new_keyring: true, ..Default::default() };
    let toml = format!("BinaryName = '{binary}'\nNoPivotRoot = true\nNoNewKeyring = true\n");
    in_each_form(&options, &toml, |options| {
        let id = t.id();
        let bundle = bare::bundle(&t, &id);
        let shim = started(&bundle, &id, options);
        let call = fake.call("create");
        assert!(call.contains("--no-pivot") && call.contains("--no-new-keyring"), "{call}");
        ended(shim, &id);
    });
    t.end()
}

fn io_uid_and_io_gid_own_the_pipes() -> Done {
    let t = Test::begin();
    let options = Options { binary_name: runtime(), io_uid: 1234, io_gid: 2345, ..Default::default() };
    let toml = format!("BinaryName = '{}'\nIoUid = 1234\nIoGid = 2345\n", runtime());
    in_each_form(&options, &toml, |options| {
        let id = t.id();
        let bundle = bare::bundle(&t, &id);
        bundle.write();
        let shim = Shim::start_with(&bundle, &id, Dialect::Legacy, options);
        let fifo = t.path(&format!("{id}-out"));
        mkfifo(Path::new(&fifo), Mode::S_IRWXU).expect("cannot make a FIFO");
        let _reader = fs::File::options().read(true).write(true).open(&fifo).expect("cannot open a FIFO");
        let task = shim.task(&id);
        let pid = task
            .create_io(&bundle.path, &Stdio { stdout: fifo.clone(), stderr: fifo, ..Stdio::default() })
            .expect("Create");
        task.start("").expect("Start");
        // A user in the container can open /dev/stdout again only if the pipe is its own.
        let pipe = fs::metadata(format!("/proc/{pid}/fd/1")).expect("its standard output");
        assert_eq!(pipe.gid(), 2345);
        // runc gives it to the container's user, which is root here.
        assert!(pipe.uid() == 1234 || world().is_control(), "{}", pipe.uid());
        ended(shim, &id);
    });
    t.end()
}

fn shim_cgroup_is_where_the_shim_is() -> Done {
    let t = Test::begin();
    let hierarchies: Vec<_> = match look::cgroups() {
        look::Cgroups::Unified => vec!["/sys/fs/cgroup/shims".to_owned()],
        look::Cgroups::Hybrid => ["cpu", "cpuacct", "memory", "pids", "devices", "freezer", "blkio"]
            .map(|name| format!("/sys/fs/cgroup/{name}/shims"))
            .to_vec(),
    };
    for dir in &hierarchies {
        fs::create_dir(dir).expect("cannot make a cgroup");
    }
    let options = Options { binary_name: runtime(), shim_cgroup: "/shims".to_owned(), ..Default::default() };
    let toml = format!("BinaryName = '{}'\nShimCgroup = '/shims'\n", runtime());
    in_each_form(&options, &toml, |options| {
        let id = t.id();
        let bundle = bare::bundle(&t, &id);
        let shim = started(&bundle, &id, options);
        let paths = look::cgroup_paths(shim.pid(&id));
        let inside = paths.values().filter(|path| path.ends_with("/shims")).count();
        assert!(inside > 0, "{paths:?}");
        ended(shim, &id);
    });
    // Those that the shim made in other hierarchies are the administrator's too.
    for dir in look::cgroup_dirs().iter().filter(|dir| dir.ends_with("shims")) {
        look::eventually("an empty cgroup", || fs::remove_dir(dir).is_ok());
    }
    t.end()
}

fn systemd_cgroup() -> Done {
    if !look::has_systemd() {
        return Err(Skip("systemd does not run here".into()));
    }
    let t = Test::begin();
    let options = Options { binary_name: runtime(), systemd_cgroup: true, ..Default::default() };
    in_each_form(&options, &format!("BinaryName = '{}'\nSystemdCgroup = true\n", runtime()), |options| {
        let id = t.id();
        let mut bundle = bare::bundle(&t, &id);
        bundle.linux("cgroupsPath", serde_json::json!(format!("system.slice:suite:{id}")));
        let shim = started(&bundle, &id, options);
        let pid = shim.task(&id).pids().expect("Pids")[0];
        let paths = look::cgroup_paths(pid);
        assert!(paths.values().any(|path| path.contains(&format!("suite-{id}.scope"))), "{paths:?}");
        ended(shim, &id);
    });
    t.end()
}

fn an_option_that_is_not_known_is_no_end() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim is sent no TOML".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let bundle = bare::bundle(&t, &id);
    // Tables that CRI's handlers carry along, and options of later versions.
    let toml = format!("BinaryName = '{}'\nFuture = 1\n[Other]\nx = 'y'\n", runtime());
    let shim = started(&bundle, &id, bare::generic_options(&toml));
    ended(shim, &id);
    t.end()
}

fn options_in_a_file_are_read() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim reads no file".into()));
    }
    let t = Test::begin();
    let fake = Fake::new(&t);
    // What `ctr --runtime-config-path` sends is the path of the file.
    let root = t.path("root");
    let options = runtime_options(&t.dir, Some(&fake.program), &format!("Root = '{root}'\n"));
    let id = t.id();
    let call = ctr(&["run", "-d", "--null-io"]).words(&options);
    call.words(&[conformance::image::BUSYBOX, &id, "sleep", "1000"]).ok();
    assert!(Path::new(&root).join(NAMESPACE).join(&id).exists(), "nothing below {root}");
    fake.call("create");
    t.end()
}

fn bad_options_are_refused() -> Done {
    if world().is_control() {
        return Err(Skip("containerd's own shim is sent no TOML".into()));
    }
    let t = Test::begin();
    let options = runtime_options(&t.dir, None, "BinaryName = \n");
    let id = t.id();
    let call = ctr(&["run", "-d", "--null-io"]).words(&options);
    call.words(&[conformance::image::BUSYBOX, &id, "sleep", "1000"]).run().fails("");
    assert_eq!(task_status(&id), None);
    t.end()
}

fn an_absolute_path_names_the_shim() -> Done {
    let t = Test::begin();
    let id = t.id();
    let path = world().shim_binary().display().to_string();
    let call = ctr(&["run", "--rm", "--runtime", &path, conformance::image::BUSYBOX, &id, "sh", "-c", "exit 11"]);
    call.run().exits(11);
    t.end()
}

fn the_shim_goes_by_runc_s_name() -> Done {
    if world().is_control() {
        return Err(Skip("this one has that name".into()));
    }
    let t = Test::begin();
    let dir = t.dir.join("bin");
    fs::create_dir(&dir).expect("cannot make a directory");
    symlink(world().shim_binary(), dir.join("containerd-shim-runc-v2")).expect("cannot link the shim");
    symlink(&world().runtime, dir.join("runc")).expect("cannot link the runtime");
    world().end();
    world().start_with_path(&dir);
    let run = |options: &[&str], code: i32| {
        let id = t.id();
        let call = ctr(&["run", "--rm", "--runtime", "io.containerd.runc.v2"]).words(options);
        call.words(&[conformance::image::BUSYBOX, &id, "sh", "-c", &format!("exit {code}")]).run().exits(code);
    };
    run(&[], 12);
    // Under this name containerd sends it the options of runc's shim.
    let fake = Fake::new(&t);
    run(&["--runc-binary", fake.program.to_str().expect("UTF-8"), "--runc-root", &t.path("root")], 13);
    let call = fake.call("create");
    assert!(call.contains(&t.path("root")), "{call}");
    world().end();
    world().start();
    t.end()
}
