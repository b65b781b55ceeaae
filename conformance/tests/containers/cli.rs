//! The command line as such: forms of flags, help, version, exit codes of
//! misuse, log options; and the commands that need no container: spec,
//! plan, completion.

use std::fs;

use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "" => version_text,
    "" => help_of_every_command,
    "" => unknown_command_and_flag,
    "" => long_flags_with_one_dash,
    "" => flags_with_an_equals_sign,
    "" => flags_after_the_id,
    "" => exec_takes_no_flags_after_the_id,
    "" => log_to_a_file_is_appended,
    "" => log_format_must_be_known,
    "" => debug_logs_more,
    "" => rootless_takes_three_words,
    "" => default_root_is_refused_as_slash,
    "" => console_flags_are_checked,
    "" => spec_writes_a_config_once,
    "" => spec_runs_as_it_is,
    "" => spec_for_rootless_maps_the_user,
    "" => plan_shows_and_does_nothing,
    "C-69" => plan_lists_unknown_properties,
    "" => plan_refuses_what_create_refuses,
    "" => completion_and_man_pages,
    "" => checkpoint_needs_criu,
}

const COMMANDS: &[&str] = &[
    "create",
    "start",
    "run",
    "exec",
    "state",
    "kill",
    "delete",
    "list",
    "ps",
    "pause",
    "resume",
    "update",
    "events",
    "spec",
    "features",
    "checkpoint",
    "restore",
];

fn version_text(t: &Test<'_>) -> Done {
    for flag in ["--version", "-v"] {
        let text = t.call(&[flag]).default_root().output().ok().stdout();
        let first = text.lines().next().unwrap_or_default();
        assert!(first.contains("version "), "engines look for the word in the first line: {text}");
        assert!(text.lines().any(|line| line.starts_with("commit: ")), "{text}");
        assert!(text.lines().any(|line| line.starts_with("spec: 1.")), "{text}");
        if t.is_proa() {
            assert!(first.starts_with("proa version "), "{text}");
        }
    }
    Ok(())
}

fn help_of_every_command(t: &Test<'_>) -> Done {
    t.call(&["--help"]).output().ok();
    if !t.is(Kind::Crun) {
        t.call(&["-h"]).default_root().output().ok();
    }
    for command in COMMANDS {
        if *command == "events" && t.is(Kind::Crun) {
            continue;
        }
        let text = t.call(&[command, "--help"]).output().ok().stdout();
        assert!(text.contains(command), "{command}: {text}");
    }
    t.assert_nothing_left();
    Ok(())
}

fn unknown_command_and_flag(t: &Test<'_>) -> Done {
    let unknown = t.call(&["nosuch"]).output().fails();
    let flag = t.call(&["create", "--nosuch", "x"]).output().fails();
    let arguments = t.call(&["delete", "a", "b"]).output().fails();
    if !t.is(Kind::Crun) {
        assert_eq!((unknown.code(), flag.code(), arguments.code()), (3, 1, 1));
    }
    t.proa_says(&unknown, "nosuch");
    t.proa_says(&flag, "--nosuch");
    Ok(())
}

fn long_flags_with_one_dash(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "does not take long flags with one dash")?;
    let bundle = t.sleeping_bundle();
    bundle.write();
    let id = t.id();
    let path = bundle.path.as_os_str();
    let pid_file = t.pid_file(&id);
    let options = ["-bundle".as_ref(), path, "-pid-file".as_ref(), pid_file.as_os_str()];
    let output = t.call(&["create", &id]).options(&options).output().ok();
    t.container(id.clone(), output);
    t.call(&["delete", "-force", &id]).output().ok();
    t.call(&["restore", "-no-subreaper", "--help"]).output().ok();
    Ok(())
}

fn flags_with_an_equals_sign(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    bundle.write();
    let id = t.id();
    let options = [format!("--bundle={}", bundle.path.display()), format!("--pid-file={}", t.pid_file(&id).display())];
    let output = t.call(&["create", &id]).options(&options).output().ok();
    let c = t.container(id, output);
    let force = if t.is(Kind::Crun) { "--force" } else { "--force=true" };
    c.call("delete").options(&[force]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn flags_after_the_id(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes flags before the id alone")?;
    let bundle = t.sleeping_bundle();
    bundle.write();
    let id = t.id();
    t.call(&["create", &id, "--bundle"]).arg(&bundle.path).output().ok();
    t.call(&["delete", &id, "--force"]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn exec_takes_no_flags_after_the_id(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let output = c.exec(&["echo", "--cwd", "-t", "--", "-e"]).output().ok();
    assert_eq!(output.stdout(), "--cwd -t -- -e\n");
    Ok(())
}

fn log_to_a_file_is_appended(t: &Test<'_>) -> Done {
    let log = t.make_file("log", "before\n");
    for _ in 0..2 {
        t.call(&["start", "nobody"]).global("--log").global(&log).output().exits(1).says("does not exist");
    }
    let text = fs::read_to_string(&log).expect("no log");
    assert!(text.starts_with("before\n"), "the log was cut: {text}");
    assert_eq!(text.matches("does not exist").count(), 2, "{text}");
    Ok(())
}

fn log_format_must_be_known(t: &Test<'_>) -> Done {
    t.call(&["list"]).global("--log-format").global("yaml").output().exits(1).says("yaml");
    Ok(())
}

fn debug_logs_more(t: &Test<'_>) -> Done {
    let log = t.file("log");
    let bundle = t.bundle();
    let call = t.run_call(&bundle, &t.id()).global("--debug");
    call.global("--log").global(&log).global("--log-format").global("json").output().ok();
    let text = fs::read_to_string(&log).expect("no log");
    let mut entries = serde_json::Deserializer::from_str(&text).into_iter::<Value>().filter_map(Result::ok);
    assert!(entries.any(|entry| entry["level"] == "debug"), "{text}");
    Ok(())
}

fn rootless_takes_three_words(t: &Test<'_>) -> Done {
    for word in ["true", "false", "auto"] {
        t.run_call(&t.bundle(), &t.id()).global("--rootless").global(word).output().ok();
    }
    if !t.is(Kind::Crun) {
        t.run_call(&t.bundle(), &t.id()).global("--rootless").global("perhaps").output().fails();
    }
    Ok(())
}

fn default_root_is_refused_as_slash(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes / for its state")?;
    t.call(&["--root", "/", "list"]).default_root().output().fails().says("root");
    Ok(())
}

fn console_flags_are_checked(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.process("terminal", json!(true));
    // A terminal and nobody to hand it to.
    t.refuses(&bundle);
    let output = t.run_call(&bundle, &t.id()).options(&["--detach"]).output().fails();
    t.assert_clean_failure(&output);
    if !t.is(Kind::Crun) {
        bundle.process("terminal", json!(false));
        let id = t.id();
        let output = t.create_call(&bundle, &id).options(&["--console-socket", "/nowhere"]).output().fails();
        t.assert_clean_failure(&output);
    }
    Ok(())
}

fn spec_writes_a_config_once(t: &Test<'_>) -> Done {
    let dir = t.make_dir("spec");
    t.call(&["spec"]).cwd(&dir).output().ok();
    let text = fs::read_to_string(dir.join("config.json")).expect("spec wrote nothing");
    let config: Value = serde_json::from_str(&text).expect("not JSON");
    assert_eq!(config["root"]["path"], "rootfs");
    assert_eq!(config["process"]["args"], json!(["sh"]));
    assert_eq!(config["process"]["terminal"], true);
    t.call(&["spec"]).cwd(&dir).output().exits(1).says("exist");
    assert_eq!(
        fs::read_to_string(dir.join("config.json")).ok(),
        Some(text),
        "spec changed a config.json that was there"
    );
    let other = t.make_dir("other");
    t.call(&["spec", "--bundle"]).arg(&other).output().ok();
    assert!(other.join("config.json").exists());
    Ok(())
}

fn spec_runs_as_it_is(t: &Test<'_>) -> Done {
    let bundle = t.bundle();
    t.call(&["spec"]).cwd(&bundle.path).output().ok();
    let (mut master, slave) = conformance::console::Master::open();
    let running = t.call(&["run", &t.id()]).cwd(&bundle.path).terminal(slave).spawn();
    master.expect("# ");
    master.write("echo pid $$; touch /file; exit 5\n");
    running.wait(&t.runtime).exits(5);
    let text = master.text();
    assert!(text.contains("pid 1\r\n") && text.contains("Read-only file system"), "{text}");
    Ok(())
}

fn spec_for_rootless_maps_the_user(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "writes no id mappings")?;
    let dir = t.make_dir("spec");
    t.call(&["spec", "--rootless"]).cwd(&dir).output().ok();
    let text = fs::read_to_string(dir.join("config.json")).expect("spec wrote nothing");
    let config: Value = serde_json::from_str(&text).expect("not JSON");
    let namespaces = config["linux"]["namespaces"].as_array().expect("namespaces");
    assert!(namespaces.iter().any(|entry| entry["type"] == "user"), "{text}");
    assert!(!namespaces.iter().any(|entry| entry["type"] == "network"), "{text}");
    assert_eq!(config["linux"]["uidMappings"], json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    assert_eq!(config["linux"]["gidMappings"], json!([{"containerID": 0, "hostID": 0, "size": 1}]));
    Ok(())
}

fn plan_shows_and_does_nothing(t: &Test<'_>) -> Done {
    t.proa_only("plan")?;
    let mut bundle = t.bundle();
    bundle.mount("/data", "tmpfs", "tmpfs", &["nosuid", "size=1m"]);
    bundle.write();
    let before = fs::read_dir(bundle.rootfs()).expect("a root file system").count();
    let output = t.call(&["plan", "--bundle"]).arg(&bundle.path).output().ok();
    let plan = output.json();
    assert!(plan.is_object(), "{plan}");
    assert!(output.stdout().contains("/data"), "the plan does not show a mount: {plan}");
    assert_eq!(
        fs::read_dir(bundle.rootfs()).expect("a root file system").count(),
        before,
        "plan changed the root file system"
    );
    assert!(!t.runtime.root.exists(), "plan made a state directory");
    t.assert_nothing_left();
    Ok(())
}

fn plan_lists_unknown_properties(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.set("hostnam", json!("x"));
    bundle.process("noNewPrivilege", json!(true)).linux("maskedPath", json!([]));
    bundle.config["mounts"][1]["option"] = json!(["ro"]);
    // Every runtime runs it: unknown properties are no error.
    t.run(&bundle).ok();
    t.proa_only("plan")?;
    let plan = t.call(&["plan", "--bundle"]).arg(&bundle.path).output().ok().stdout();
    for name in ["hostnam", "process.noNewPrivilege", "linux.maskedPath", "mounts[1].option"] {
        assert!(plan.contains(&format!("\"{name}\"")), "plan does not list {name}: {plan}");
    }
    Ok(())
}

fn plan_refuses_what_create_refuses(t: &Test<'_>) -> Done {
    t.proa_only("plan")?;
    let mut bundle = t.bundle();
    bundle.process("cwd", json!("relative"));
    bundle.write();
    let output = t.call(&["plan", "--bundle"]).arg(&bundle.path).output().exits(1).says("process.cwd");
    t.assert_clean_failure(&output);
    Ok(())
}

fn completion_and_man_pages(t: &Test<'_>) -> Done {
    t.proa_only("completion")?;
    for shell in ["bash", "zsh", "fish"] {
        let text = t.call(&["completion", shell]).output().ok().stdout();
        for command in COMMANDS {
            assert!(text.contains(command), "{shell} completion lacks {command}");
        }
    }
    Ok(())
}

fn checkpoint_needs_criu(t: &Test<'_>) -> Done {
    t.proa_only("the words")?;
    let c = t.sleeper();
    let image = t.file("image");
    let words = ["checkpoint", "--image-path", image.to_str().expect("text"), &c.id];
    let output = t.call(&words).env("PATH", "/nowhere").output().fails();
    assert!(output.stderr().contains("no program criu in PATH (/nowhere)"), "{}", output.stderr());
    c.assert_status("running");
    let output = t.call(&["restore", "--image-path", "/nowhere", "--bundle", "/nowhere", "other"]).output().fails();
    assert!(output.stderr().contains("/nowhere"), "{}", output.stderr());
    Ok(())
}
