//! A restore with a config.json that allows less than that of the checkpoint: what is restored may not have more than the
//! new one says. proa either refuses it, naming what differs, or the process is as the new one says.

use conformance::look;
use conformance::test::{Done, Test};
use serde_json::json;

use super::subject::Subject;
use super::table::{Outcome, refused, rows};

crate::cases! {
    fewer_privileges,
    other_mounts,
    other_resources,
}

/// Restores with what `change` makes of config.json. `holds` says whether the process is as that wants it.
#[track_caller]
fn stricter(
    t: &Test<'_>,
    subject: Subject<'_>,
    words: &[&str],
    change: impl Fn(&mut Subject<'_>),
    holds: impl Fn(&Subject<'_>) -> bool,
) -> Outcome {
    let mut subject = subject.run();
    subject.counts_on(2);
    subject.checkpoint(&[]).ok();
    change(&mut subject);
    let output = subject.restore(&[]);
    if !output.status.success() {
        if t.is_proa() {
            subject.is_gone();
            t.assert_nothing_left();
        }
        return refused(t, &output, words);
    }
    if !t.is_proa() && !look::is_alive(subject.pid()) {
        return Ok("unchanged: restored, and ended at once".to_owned());
    }
    let holds = holds(&subject);
    subject.delete();
    assert!(holds || !t.is_proa(), "it was restored with what config.json does not allow");
    Ok(if holds { "applied: restored as the new config.json says" } else { "unchanged: restored with what it had" }
        .to_owned())
}

fn status(subject: &Subject<'_>, name: &str) -> String {
    look::field(&look::proc_text(subject.pid(), "status"), name).unwrap_or_default()
}

fn profile(names: &[&str]) -> serde_json::Value {
    let calls = json!([{"names": names, "action": "SCMP_ACT_ERRNO"}]);
    json!({"defaultAction": "SCMP_ACT_ALLOW", "syscalls": calls})
}

fn fewer_privileges() -> Done {
    rows(&[
        ("fewer capabilities", &|t| {
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.capabilities(&["CAP_KILL"]);
            };
            let holds = |subject: &Subject<'_>| status(subject, "CapBnd").ends_with("00000000000020");
            stricter(t, Subject::counter(t), &["capabilities", "bounding"], change, holds)
        }),
        ("fewer in the bounding set alone", &|t| {
            let mut subject = Subject::counter(t);
            let caps =
                json!({"bounding": ["CAP_KILL", "CAP_CHOWN"], "effective": ["CAP_KILL"], "permitted": ["CAP_KILL"]});
            subject.bundle.process("capabilities", caps);
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.capabilities(&["CAP_KILL"]);
            };
            let holds = |subject: &Subject<'_>| status(subject, "CapBnd").ends_with("00000000000020");
            stricter(t, subject, &["bounding"], change, holds)
        }),
        ("noNewPrivileges", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.process("noNewPrivileges", json!(false));
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.process("noNewPrivileges", json!(true));
            };
            stricter(t, subject, &["noNewPrivileges"], change, |subject| status(subject, "NoNewPrivs") == "1")
        }),
        ("seccomp where there was none", &|t| {
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.linux("seccomp", profile(&["keyctl"]));
            };
            stricter(t, Subject::counter(t), &["seccomp"], change, |subject| status(subject, "Seccomp") == "2")
        }),
        ("another seccomp profile", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.linux("seccomp", profile(&["keyctl"]));
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.linux("seccomp", profile(&["keyctl", "chroot"]));
            };
            // What it was restored with cannot be seen from outside: it is the image's, as far as is known.
            stricter(t, subject, &["seccomp"], change, |_| false)
        }),
        ("another user", &|t| {
            let user = json!({"uid": 1000, "gid": 1000});
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.process("user", user.clone());
            };
            stricter(t, Subject::counter(t), &["user", "uid"], change, |subject| {
                status(subject, "Uid").starts_with("1000")
            })
        }),
        ("fewer groups", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.process("user", json!({"uid": 0, "gid": 0, "additionalGids": [5, 6]}));
            let user = json!({"uid": 0, "gid": 0, "additionalGids": [5]});
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.process("user", user.clone());
            };
            stricter(t, subject, &["user", "additionalGids", "group"], change, |subject| {
                !status(subject, "Groups").contains('6')
            })
        }),
        ("a user namespace where there was none", &|t| {
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.user_namespace(100_000);
            };
            stricter(t, Subject::counter(t), &["user namespace", "namespaces", "user"], change, |subject| {
                look::namespace(subject.pid(), "user") != look::namespace(std::process::id() as i32, "user")
            })
        }),
        ("a network namespace where there was none", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.without_namespace("network");
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.namespace("network", None);
            };
            stricter(t, subject, &["network"], change, |subject| {
                look::namespace(subject.pid(), "net") != look::namespace(std::process::id() as i32, "net")
            })
        }),
        ("another program", &|t| {
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.args(&["/bin/sleep", "1000"]);
            };
            // No matter of privileges: the images say what is run.
            stricter(t, Subject::counter(t), &["args"], change, |_| true)
        }),
    ])
}

fn options(subject: &Subject<'_>, point: &str) -> Option<String> {
    let text = look::proc_text(subject.pid(), "mountinfo");
    let line = text.lines().rfind(|line| line.split(' ').nth(4) == Some(point))?;
    line.split(' ').nth(5).map(str::to_owned)
}

fn is_readonly(subject: &Subject<'_>, point: &str) -> bool {
    options(subject, point).is_some_and(|options| options.split(',').any(|option| option == "ro"))
}

fn other_mounts() -> Done {
    rows(&[
        ("a bind that is now read-only", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.bind(&t.make_dir("volume"), "/volume", &["bind", "rw"]);
            let change =
                |subject: &mut Subject<'_>| subject.bundle.mount_at("/volume")["options"] = json!(["bind", "ro"]);
            stricter(t, subject, &["/volume", "mounts"], change, |subject| is_readonly(subject, "/volume"))
        }),
        ("a bind that is now nosuid, nodev, noexec", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.bind(&t.make_dir("volume"), "/volume", &["bind", "rw"]);
            let more = json!(["bind", "nosuid", "nodev", "noexec"]);
            let change = |subject: &mut Subject<'_>| subject.bundle.mount_at("/volume")["options"] = more.clone();
            stricter(t, subject, &["/volume", "mounts"], change, |subject| {
                options(subject, "/volume")
                    .is_some_and(|options| ["nosuid", "nodev", "noexec"].iter().all(|it| options.contains(it)))
            })
        }),
        ("a root that is now read-only", &|t| {
            let root = json!({"path": "rootfs", "readonly": true});
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.set("root", root.clone());
            };
            stricter(t, Subject::counter(t), &["root"], change, |subject| is_readonly(subject, "/"))
        }),
        ("one more masked path", &|t| {
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.push("/linux/maskedPaths", json!("/etc/group"));
            };
            stricter(t, Subject::counter(t), &["/etc/group", "maskedPaths"], change, |subject| {
                options(subject, "/etc/group").is_some()
            })
        }),
        ("one more read-only path", &|t| {
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.push("/linux/readonlyPaths", json!("/etc"));
            };
            stricter(t, Subject::counter(t), &["/etc", "readonlyPaths"], change, |subject| is_readonly(subject, "/etc"))
        }),
        ("a mount that is no longer there", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.bind(&t.make_dir("volume"), "/volume", &["bind", "rw"]);
            let change = |subject: &mut Subject<'_>| {
                let list = subject.bundle.config["mounts"].as_array_mut().expect("a list");
                list.retain(|mount| mount["destination"] != "/volume");
            };
            stricter(t, subject, &["/volume"], change, |subject| options(subject, "/volume").is_none())
        }),
        ("a tmpfs that is no longer there", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.mount("/scratch", "tmpfs", "tmpfs", &["nosuid"]);
            let change = |subject: &mut Subject<'_>| {
                let list = subject.bundle.config["mounts"].as_array_mut().expect("a list");
                list.retain(|mount| mount["destination"] != "/scratch");
            };
            stricter(t, subject, &["/scratch"], change, |subject| options(subject, "/scratch").is_none())
        }),
        ("one more mount", &|t| {
            let volume = t.make_dir("volume");
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.bind(&volume, "/volume", &["bind", "ro"]);
            };
            stricter(t, Subject::counter(t), &["/volume"], change, |subject| is_readonly(subject, "/volume"))
        }),
        ("a bind of another source", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.bind(&t.make_dir("volume"), "/volume", &["bind", "rw"]);
            let other = t.make_dir("other");
            let change = |subject: &mut Subject<'_>| subject.bundle.mount_at("/volume")["source"] = json!(other);
            stricter(t, subject, &["/volume"], change, |subject| {
                let text = look::proc_text(subject.pid(), "mountinfo");
                text.lines().any(|line| line.contains("/other /volume "))
            })
        }),
    ])
}

fn other_resources() -> Done {
    rows(&[
        ("a limit of pids that is now lower", &|t| {
            let mut subject = Subject::counter(t);
            subject.bundle.config["linux"]["resources"]["pids"] = json!({"limit": 100});
            let change =
                |subject: &mut Subject<'_>| subject.bundle.config["linux"]["resources"]["pids"]["limit"] = json!(50);
            stricter(t, subject, &["pids"], change, |subject| {
                look::controller(subject.pid(), "pids").is_none_or(|pids| pids.read("pids.max") == "50")
            })
        }),
        ("a limit of open files that is now lower", &|t| {
            let limits = json!([{"type": "RLIMIT_NOFILE", "hard": 100, "soft": 100}]);
            let change = |subject: &mut Subject<'_>| {
                subject.bundle.process("rlimits", limits.clone());
            };
            stricter(t, Subject::counter(t), &["rlimits", "RLIMIT_NOFILE"], change, |subject| {
                let text = look::proc_text(subject.pid(), "limits");
                text.lines().any(|line| line.starts_with("Max open files") && line.contains(" 100 "))
            })
        }),
        ("a device that is no longer allowed", &|t| {
            let mut subject = Subject::counter(t);
            let all = json!([{"allow": true, "access": "rwm"}]);
            subject.bundle.config["linux"]["resources"]["devices"] = all;
            subject.bundle.capabilities(&["CAP_MKNOD", "CAP_KILL"]);
            let none = json!([{"allow": false, "access": "rwm"}]);
            let change =
                |subject: &mut Subject<'_>| subject.bundle.config["linux"]["resources"]["devices"] = none.clone();
            stricter(t, subject, &["devices"], change, |subject| {
                // /dev/kmsg.
                subject.sh("mknod /tmp/k c 1 11 && head -c1 /tmp/k >/dev/null 2>&1 && echo read || echo refused")
                    == "refused"
            })
        }),
    ])
}
