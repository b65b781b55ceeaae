//! `features` (features.md): what it lists is there, what is missing is not claimed.

use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "F-3" => features_has_versions,
    "F-5" => features_lists_the_hooks,
    "F-6" => features_lists_the_mount_options,
    "F-11" => features_lists_what_linux_has,
    "F-13" => features_lists_the_words_of_seccomp,
    "" => features_tells_of_checkpoints,
}

fn features(t: &Test<'_>) -> Value {
    t.call(&["features"]).output().ok().json()
}

#[track_caller]
fn strings(value: &Value) -> Vec<&str> {
    value.as_array().unwrap_or_else(|| panic!("not an array: {value}")).iter().filter_map(Value::as_str).collect()
}

#[track_caller]
fn assert_has(all: &[&str], wanted: &[&str]) {
    let missing: Vec<_> = wanted.iter().filter(|word| !all.contains(word)).collect();
    assert!(missing.is_empty(), "features lacks {missing:?}");
}

fn features_has_versions(t: &Test<'_>) -> Done {
    let features = features(t);
    assert_eq!(features["ociVersionMin"], "1.0.0");
    let max = features["ociVersionMax"].as_str().expect("ociVersionMax");
    assert!(max.starts_with("1."), "{max}");
    for version in ["1.0.0", max] {
        let mut bundle = t.bundle();
        bundle.set("ociVersion", json!(version));
        t.run(&bundle).ok();
    }
    Ok(())
}

fn features_lists_the_hooks(t: &Test<'_>) -> Done {
    let features = features(t);
    let kinds = ["prestart", "createRuntime", "createContainer", "startContainer", "poststart", "poststop"];
    assert_eq!(strings(&features["hooks"]), kinds);
    Ok(())
}

fn features_lists_the_mount_options(t: &Test<'_>) -> Done {
    let features = features(t);
    let words = strings(&features["mountOptions"]);
    let common = "async atime bind defaults dev diratime dirsync exec noatime nodev nodiratime noexec norelatime \
        nostrictatime nosuid private rbind relatime remount ro rprivate rshared rslave runbindable rw shared slave \
        strictatime suid sync unbindable rro rrw rnosuid rsuid rdev rnodev rnoexec rexec rnodiratime rdiratime \
        rnoatime ratime rrelatime rnorelatime rstrictatime rnostrictatime";
    assert_has(&words, &common.split_whitespace().collect::<Vec<_>>());
    if !t.is(Kind::Crun) {
        let more = [
            "iversion",
            "noiversion",
            "lazytime",
            "nolazytime",
            "loud",
            "silent",
            "nosymfollow",
            "symfollow",
            "rnosymfollow",
            "rsymfollow",
        ];
        assert_has(&words, &more);
    }
    Ok(())
}

fn features_lists_what_linux_has(t: &Test<'_>) -> Done {
    let features = features(t);
    let linux = &features["linux"];
    assert_has(&strings(&linux["namespaces"]), &["cgroup", "ipc", "mount", "network", "pid", "user", "uts"]);
    assert!(t.is(Kind::Crun) || strings(&linux["namespaces"]).contains(&"time"));
    let capabilities = strings(&linux["capabilities"]);
    assert_eq!(capabilities.len(), 41, "{capabilities:?}");
    assert_has(&capabilities, &["CAP_CHOWN", "CAP_BPF", "CAP_CHECKPOINT_RESTORE"]);
    assert!(linux["cgroup"]["v1"].is_boolean() && linux["cgroup"]["v2"] == true, "{linux}");
    if t.is_proa() {
        assert_eq!(linux["netDevices"]["enabled"], true);
        assert_eq!(linux["intelRdt"]["enabled"], true);
        let modes = "MPOL_DEFAULT MPOL_BIND MPOL_INTERLEAVE MPOL_WEIGHTED_INTERLEAVE MPOL_PREFERRED MPOL_PREFERRED_MANY MPOL_LOCAL";
        assert_has(&strings(&linux["memoryPolicy"]["modes"]), &modes.split_whitespace().collect::<Vec<_>>());
        assert_eq!(strings(&linux["memoryPolicy"]["flags"]).len(), 3);
    }
    Ok(())
}

/// Each word is taken, and one more is not.
fn features_lists_the_words_of_seccomp(t: &Test<'_>) -> Done {
    let features = features(t);
    let seccomp = &features["linux"]["seccomp"];
    let check = |words: Vec<&str>, other: &str, section: &dyn Fn(&str) -> Value| {
        assert!(!words.is_empty());
        for word in words {
            let mut bundle = t.bundle();
            bundle.args(&["/bin/true"]).linux("seccomp", section(word));
            t.run(&bundle).ok();
        }
        let mut bundle = t.bundle();
        bundle.linux("seccomp", section(other));
        t.refuses(&bundle);
    };
    // Notices need a listener: seccomp.rs has them.
    let mut actions = strings(&seccomp["actions"]);
    actions.retain(|action| *action != "SCMP_ACT_NOTIFY");
    check(
        actions,
        "SCMP_ACT_OTHER",
        &|action| json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["acct"], "action": action}]}),
    );
    check(strings(&seccomp["operators"]), "SCMP_CMP_OTHER", &|op| {
        let args = json!([{"index": 0, "value": 1, "valueTwo": 1, "op": op}]);
        let entry = json!({"names": ["acct"], "action": "SCMP_ACT_ERRNO", "args": args});
        json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [entry]})
    });
    check(
        strings(&seccomp["supportedFlags"]),
        "SECCOMP_FILTER_FLAG_OTHER",
        &|flag| json!({"defaultAction": "SCMP_ACT_ALLOW", "flags": [flag], "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    check(
        strings(&seccomp["archs"]),
        "SCMP_ARCH_OTHER",
        &|arch| json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": [arch], "syscalls": [{"names": ["acct"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    let known = strings(&seccomp["knownFlags"]);
    assert!(strings(&seccomp["supportedFlags"]).iter().all(|flag| known.contains(flag)), "{seccomp}");
    Ok(())
}

fn features_tells_of_checkpoints(t: &Test<'_>) -> Done {
    let features = features(t);
    assert_eq!(features["annotations"]["org.opencontainers.runc.checkpoint.enabled"], "true");
    Ok(())
}
