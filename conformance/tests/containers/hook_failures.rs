//! What becomes of a container when one of its hooks fails, takes too long, or
//! cannot be run; and values of `hooks` that are refused.
//!
//! Not here: hooks that succeed (hooks.rs).

use std::time::{Duration, Instant};

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

use crate::hooks::{Log, run_true, with_hooks};

crate::cases! {
    "C-53" => timeout_ends_a_hook,
    "C-53" => path_must_be_absolute,
    "C-53" => timeout_must_be_positive,
    "" => hook_that_is_not_there,
    "R-16" => failure_at_create,
    "R-16" => failure_of_start_container,
    "R-16" => failure_of_poststart,
    "R-17" => failure_of_poststop_goes_on,
    "R-16" => poststop_runs_after_a_failure,
    "" => second_hook_is_not_run_after_a_failure,
    "" => output_of_a_failed_hook_is_told,
}

fn timeout_ends_a_hook(t: &Test<'_>) -> Done {
    let (mut bundle, _log) = with_hooks(t, &["createRuntime"], "exec sleep 100");
    bundle.config["hooks"]["createRuntime"][0]["timeout"] = json!(1);
    let begin = Instant::now();
    let output = t.refuses(&bundle);
    assert!(begin.elapsed() < Duration::from_secs(5), "took {:?}", begin.elapsed());
    t.proa_says(&output, "createRuntime");
    Ok(())
}

fn path_must_be_absolute(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes it from where it is run")?;
    let mut bundle = t.bundle();
    bundle.set("hooks", json!({"createRuntime": [{"path": "true"}]}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "hooks.createRuntime[0]");
    Ok(())
}

fn timeout_must_be_positive(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes it as none")?;
    let mut bundle = t.bundle();
    for timeout in [0, -1] {
        bundle.set("hooks", json!({"createRuntime": [{"path": "/bin/true", "timeout": timeout}]}));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "hooks.createRuntime[0]");
    }
    Ok(())
}

fn hook_that_is_not_there(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    for kind in ["prestart", "createRuntime", "createContainer"] {
        bundle.set("hooks", json!({kind: [{"path": "/no/such/hook"}]}));
        let output = t.refuses(&bundle);
        t.proa_says(&output, kind);
        t.proa_says(&output, "/no/such/hook");
    }
    Ok(())
}

fn failure_at_create(t: &Test<'_>) -> Done {
    for kind in ["prestart", "createRuntime", "createContainer"] {
        let (bundle, _log) = with_hooks(t, &[kind], "exit 3");
        let output = t.refuses(&bundle);
        t.proa_says(&output, kind);
        let output = t.refuses_run(&bundle);
        t.proa_says(&output, kind);
    }
    Ok(())
}

fn failure_of_start_container(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "start says nothing of it")?;
    t.peer_differs(Kind::Crun, "start says nothing of it")?;
    let (mut bundle, log) = with_hooks(t, &["startContainer"], "exit 3");
    bundle.sh(&format!("echo ran >{}/ran", log.dir.display()));
    let c = t.create(&bundle);
    let output = c.call("start").output().fails();
    t.proa_says(&output, "startContainer");
    look::eventually("init to end", || !look::is_alive(c.pid));
    assert_eq!(log.read("ran"), "", "the program ran all the same");
    t.call(&["delete", "--force", &c.id]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn failure_of_poststart(t: &Test<'_>) -> Done {
    let (bundle, _log) = with_hooks(t, &["poststart"], "exit 3");
    let id = t.id();
    let create = t.create_call(&bundle, &id).output();
    if create.status.success() {
        let output = t.call(&["start", &id]).output().fails();
        t.proa_says(&output, "poststart");
        let c = t.container(id.clone(), create);
        look::eventually("the container to be ended", || !look::is_alive(c.pid));
    }
    t.call(&["delete", "--force", &id]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn failure_of_poststop_goes_on(t: &Test<'_>) -> Done {
    let mut bundle = t.sleeping_bundle();
    let log = Log::new(t, &mut bundle);
    let hooks = json!({"poststop": [log.hook("poststop", "exit 3"), log.hook("poststop", "echo second >$LOG/second")]});
    bundle.set("hooks", hooks);
    let c = t.start(&bundle);
    c.murder();
    let output = c.call("delete").output();
    if !t.is(Kind::Runc) {
        assert!(output.status.success(), "{}", output.stderr());
        assert_eq!(log.read("second"), "second\n");
    }
    t.proa_says(&output, "poststop");
    t.call(&["delete", "--force", &c.id]).output().ok();
    t.assert_nothing_left();
    Ok(())
}

fn poststop_runs_after_a_failure(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "does not run poststop after a creation that failed")?;
    let mut bundle = t.bundle();
    let log = Log::new(t, &mut bundle);
    bundle.set("hooks", json!({"createRuntime": [log.hook("createRuntime", "exit 3")], "poststop": [log.hook("poststop", "echo x >>$LOG/poststop")]}));
    t.refuses(&bundle);
    assert_eq!(log.read("poststop"), "x\n");
    Ok(())
}

fn second_hook_is_not_run_after_a_failure(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let log = Log::new(t, &mut bundle);
    bundle.set(
        "hooks",
        json!({
            "prestart": [log.hook("prestart", "exit 3"), log.hook("prestart", "echo x >>$LOG/after")],
            "createRuntime": [log.hook("createRuntime", "echo x >>$LOG/after")],
        }),
    );
    t.refuses(&bundle);
    assert_eq!(log.read("after"), "");
    Ok(())
}

fn output_of_a_failed_hook_is_told(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "leaves it on its own streams")?;
    let (bundle, _log) = with_hooks(t, &["createRuntime"], "echo the reason why >&2; exit 3");
    let id = t.id();
    t.create_call(&bundle, &id).output().fails().says("the reason why");
    let (bundle, _log) = with_hooks(t, &["createRuntime"], "echo chatter; echo chatter >&2");
    let output = run_true(t, bundle).ok();
    assert!(!output.stdout().contains("chatter") && !output.stderr().contains("chatter"), "of a hook that succeeds");
    Ok(())
}
