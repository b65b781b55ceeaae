//! Landlock for the container by the annotation `io.github.proa.landlock`.

use std::path::Path;

use conformance::bundle::Bundle;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "" => what_no_rule_allows_is_denied,
    "" => only_the_rights_that_are_handled,
    "" => exec_is_under_it_too,
    "" => beside_a_seccomp_filter,
    "" => in_a_user_namespace,
    "" => a_path_that_is_not_there,
    "" => faults_in_the_annotation,
    "" => rights_that_the_kernel_may_not_know,
}

fn needs_landlock(t: &Test<'_>) -> Done {
    t.proa_only("an annotation of proa's")?;
    let lists = std::fs::read_to_string("/sys/kernel/security/lsm").unwrap_or_default();
    let there = lists.contains("landlock") || (lists.is_empty() && Path::new("/proc/sys/kernel/landlock").exists());
    // Where securityfs is not mounted, the version of the kernel has to do.
    let release = nix::sys::utsname::uname().expect("no kernel").release().to_string_lossy().into_owned();
    let recent = release.split('.').next().and_then(|major| major.parse::<u32>().ok()).is_some_and(|major| major >= 6);
    t.needs(there || (lists.is_empty() && recent), "Landlock")
}

fn annotate(bundle: &mut Bundle, value: &Value) {
    bundle
        .process("noNewPrivileges", json!(true))
        .set("annotations", json!({"io.github.proa.landlock": value.to_string()}));
}

/// Programs can be executed and read, and /tmp be written.
fn rules() -> Value {
    json!({"rules": [
        {"paths": ["/bin"], "allow": ["read", "execute"]},
        {"paths": ["/proc", "/dev/null"], "allow": ["read", "write_file"]},
        {"paths": ["/tmp"], "allow": ["read", "write"]}
    ]})
}

const TRY: &str = "cat /etc/passwd >/dev/null 2>&1 || echo unreadable; \
    echo x >/tmp/file && cat /tmp/file; mkdir /tmp/dir; \
    touch /new 2>/dev/null || echo unwritable; \
    cp /bin/busybox /tmp/program && { /tmp/program true 2>/dev/null || echo not executed; }";

fn what_no_rule_allows_is_denied(t: &Test<'_>) -> Done {
    needs_landlock(t)?;
    let mut bundle = t.bundle();
    annotate(&mut bundle, &rules());
    assert_eq!(t.sh(&mut bundle, TRY), "unreadable\nx\nunwritable\nnot executed\n");
    Ok(())
}

fn only_the_rights_that_are_handled(t: &Test<'_>) -> Done {
    needs_landlock(t)?;
    let mut bundle = t.bundle();
    annotate(&mut bundle, &json!({"handled": ["make_dir"], "rules": []}));
    let text = t.sh(&mut bundle, "mkdir /tmp/dir 2>/dev/null || echo denied; touch /tmp/file && echo made");
    assert_eq!(text, "denied\nmade\n");
    Ok(())
}

fn exec_is_under_it_too(t: &Test<'_>) -> Done {
    needs_landlock(t)?;
    let mut bundle = t.sleeping_bundle();
    annotate(&mut bundle, &rules());
    let c = t.start(&bundle);
    assert_eq!(c.sh(TRY), "unreadable\nx\nunwritable\nnot executed\n");
    Ok(())
}

fn beside_a_seccomp_filter(t: &Test<'_>) -> Done {
    needs_landlock(t)?;
    let mut bundle = t.bundle();
    annotate(&mut bundle, &rules());
    // A profile that does not know the calls.
    let calls = ["landlock_create_ruleset", "landlock_add_rule", "landlock_restrict_self"];
    bundle.linux(
        "seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": calls, "action": "SCMP_ACT_KILL_PROCESS"}]}),
    );
    assert_eq!(t.sh(&mut bundle, TRY), "unreadable\nx\nunwritable\nnot executed\n");
    Ok(())
}

fn in_a_user_namespace(t: &Test<'_>) -> Done {
    needs_landlock(t)?;
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000);
    annotate(&mut bundle, &rules());
    assert_eq!(t.sh(&mut bundle, TRY), "unreadable\nx\nunwritable\nnot executed\n");
    Ok(())
}

fn a_path_that_is_not_there(t: &Test<'_>) -> Done {
    needs_landlock(t)?;
    let mut bundle = t.bundle();
    annotate(&mut bundle, &json!({"rules": [{"paths": ["/nowhere"], "allow": ["read"]}]}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "landlock \"/nowhere\": open: no such file or directory");
    Ok(())
}

fn faults_in_the_annotation(t: &Test<'_>) -> Done {
    needs_landlock(t)?;
    for (value, said) in [
        (json!({"rules": [{"paths": ["/"], "allow": ["fly"]}]}), "\"fly\" is no right"),
        (json!({"rules": [{"paths": ["tmp"], "allow": ["read"]}]}), "path \"tmp\" is not absolute"),
        (json!({"rules": [], "handled": []}), "handled has no right in it"),
        (json!({"rules": [], "other": 1}), "unknown field `other`"),
        (json!(7), "invalid type"),
    ] {
        let mut bundle = t.bundle();
        annotate(&mut bundle, &value);
        let output = t.refuses(&bundle);
        t.proa_says(&output, "annotations[\"io.github.proa.landlock\"]");
        t.proa_says(&output, said);
    }
    let mut bundle = t.bundle();
    annotate(&mut bundle, &rules());
    bundle.process("noNewPrivileges", json!(false));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "needs process.noNewPrivileges");
    Ok(())
}

fn rights_that_the_kernel_may_not_know(t: &Test<'_>) -> Done {
    needs_landlock(t)?;
    let mut bundle = t.bundle();
    annotate(&mut bundle, &json!({"handled": ["make_dir", "ioctl_dev"], "rules": [], "bestEffort": true}));
    assert_eq!(t.sh(&mut bundle, "mkdir /tmp/dir 2>/dev/null || echo denied"), "denied\n");
    Ok(())
}
