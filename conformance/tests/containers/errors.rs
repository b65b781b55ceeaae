//! What goes wrong by the user's hand: each error has the right exit code, says
//! what it is about in one line, and leaves nothing behind.
//!
//! Not here: properties that are refused (unsupported.rs, and each topic's own).

use std::fs;
use std::os::unix::fs::PermissionsExt;

use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "R-25" => id_taken,
    "R-25" => id_malformed,
    "R-22" => id_missing,
    "R-23" => unknown_container,
    "R-31" => start_refused_unless_created,
    "R-34" => kill_refused_when_stopped,
    "R-36" => delete_refused_while_running,
    "B-1" => bundle_without_config,
    "" => bundle_that_is_not_there,
    "" => broken_json,
    "C-5" => root_file_system_that_is_not_there,
    "C-29" => program_that_is_not_there,
    "" => program_that_is_not_executable,
    "" => program_that_is_a_directory,
    "" => error_in_the_json_log,
}

fn id_taken(t: &Test<'_>) -> Done {
    let bundle = t.sleeping_bundle();
    let c = t.create(&bundle);
    let before = c.state();
    t.create_call(&bundle, &c.id).output().exits(1).says("exist");
    assert_eq!(c.state(), before, "the first container is as it was");
    c.start();
    c.assert_status("running");
    Ok(())
}

fn id_malformed(t: &Test<'_>) -> Done {
    let bundle = t.bundle();
    for id in ["a/b", "..", ".", "a b", "ü", "a\nb", "a:b", ""] {
        if t.is(Kind::Crun) && !id.contains('/') && !id.is_empty() {
            continue; // crun takes nearly any file name
        }
        let output = t.create_call(&bundle, id).output().fails();
        t.assert_clean_failure(&output);
    }
    Ok(())
}

fn id_missing(t: &Test<'_>) -> Done {
    for command in ["create", "start", "state", "kill", "delete"] {
        t.call(&[command]).output().fails();
    }
    t.assert_nothing_left();
    Ok(())
}

fn unknown_container(t: &Test<'_>) -> Done {
    for args in [&["state"][..], &["start"], &["kill"], &["delete"], &["pause"], &["resume"], &["ps"]] {
        let output = t.call(args).arg("nobody").output().fails();
        assert!(t.is(Kind::Crun) || output.code() == 1, "exit code {} of {}", output.code(), output.command);
        t.phrase(&output, &["does not exist"]);
    }
    t.call(&["delete", "--force", "nobody"]).output().exits(0);
    let exec = t.call(&["exec", "nobody", "true"]).output().fails().says("does not exist");
    assert_eq!(exec.code(), if t.is(Kind::Crun) { 1 } else { 255 });
    t.assert_nothing_left();
    Ok(())
}

fn start_refused_unless_created(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let output = c.call("start").output().exits(1);
    t.phrase(&output, &["cannot start an already running container"]);
    c.assert_status("running");
    c.murder();
    let output = c.call("start").output().exits(1);
    t.phrase(&output, &["cannot start a"]);
    c.assert_status("stopped");
    Ok(())
}

fn kill_refused_when_stopped(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    c.murder();
    let output = c.call("kill").arg("TERM").output().exits(1);
    t.phrase(&output, &["container not running"]);
    c.assert_status("stopped");
    Ok(())
}

fn delete_refused_while_running(t: &Test<'_>) -> Done {
    let c = t.sleeper();
    let output = c.call("delete").output().exits(1);
    t.phrase(&output, &["cannot delete container", "is not stopped"]);
    c.assert_status("running");
    Ok(())
}

fn bundle_without_config(t: &Test<'_>) -> Done {
    let dir = t.make_dir("empty");
    let output = t.call(&["create", "--bundle"]).arg(&dir).arg(t.id()).output().exits(1).says("config.json");
    t.assert_clean_failure(&output);
    Ok(())
}

fn bundle_that_is_not_there(t: &Test<'_>) -> Done {
    let output = t.call(&["create", "--bundle"]).arg(t.file("nowhere")).arg(t.id()).output().exits(1).says("nowhere");
    t.assert_clean_failure(&output);
    Ok(())
}

fn broken_json(t: &Test<'_>) -> Done {
    let bundle = t.bundle();
    fs::write(bundle.path.join("config.json"), "{\n  \"ociVersion\": \"1.0.2\",\n  \"process\": {,}\n}\n")
        .expect("cannot write");
    let output = t.call(&["create", "--bundle"]).arg(&bundle.path).arg(t.id()).output().exits(1);
    t.assert_clean_failure(&output);
    for text in ["config.json", "line 3", "column 15"] {
        t.proa_says(&output, text);
    }
    Ok(())
}

fn root_file_system_that_is_not_there(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.config["root"]["path"] = json!("nowhere");
    let output = t.refuses(&bundle).exits(1).says("no such file or directory");
    t.proa_says(&output, "root.path");
    t.proa_says(&output, "nowhere");
    Ok(())
}

fn program_that_is_not_there(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.args(&["nothing-so-named"]);
    let output = t.refuses(&bundle).exits(1).says("executable file");
    t.proa_says(&output, "executable file not found in $PATH");
    t.proa_says(&output, "nothing-so-named");
    bundle.args(&["/bin/nothing-so-named"]);
    let output = t.refuses(&bundle).exits(1);
    t.proa_says(&output, "no such file or directory");
    t.refuses_run(&bundle).exits(1);
    Ok(())
}

fn program_that_is_not_executable(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    fs::write(bundle.inside("/data"), "data").expect("cannot write");
    fs::set_permissions(bundle.inside("/data"), fs::Permissions::from_mode(0o644)).expect("cannot chmod");
    bundle.args(&["/data"]);
    let output = t.refuses_run(&bundle).exits(1);
    t.phrase(&output, &["permission denied"]);
    Ok(())
}

fn program_that_is_a_directory(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.args(&["/etc"]);
    let output = t.refuses_run(&bundle).exits(1);
    t.phrase(&output, &["is a directory"]);
    Ok(())
}

fn error_in_the_json_log(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    bundle.config["root"]["path"] = json!("nowhere");
    bundle.write();
    let log = t.file("log.json");
    let output = t
        .runtime
        .call(["create", "--bundle"])
        .arg(&bundle.path)
        .arg(t.id())
        .global("--log")
        .global(&log)
        .global("--log-format")
        .global("json")
        .output()
        .exits(1);
    let text = fs::read_to_string(&log).expect("no log");
    let values = serde_json::Deserializer::from_str(&text).into_iter::<serde_json::Value>();
    let entries: Vec<_> = values.map(|value| value.expect("a log that is no JSON")).collect();
    let last = entries.iter().rfind(|entry| entry["level"] == "error").expect("no error in the log");
    assert!(last["msg"].as_str().is_some_and(|msg| msg.to_lowercase().contains("no such file")), "{last}");
    assert!(last["time"].is_string(), "{last}");
    assert!(output.stderr().to_lowercase().contains("no such file"), "the error is on stderr too: {}", output.stderr());
    if t.is_proa() {
        assert_eq!((entries.len(), text.lines().count()), (1, 1), "one line for one failure: {text}");
    }
    t.assert_nothing_left();
    Ok(())
}
