//! Kernels that lack a system call: with it denied, by ENOSYS and by EPERM, the
//! same container comes out as with it.

use conformance::bundle::Bundle;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::json;

crate::cases! {
    "" => without_clone3,
    "" => without_openat2,
    "" => without_the_new_mount_calls,
    "" => without_mount_setattr,
    "" => without_close_range,
    "" => without_execveat,
    "" => without_memfd,
    "" => without_any_of_them,
}

/// A container that uses much of what there is, and tells what it has become.
fn telling(t: &Test<'_>) -> Bundle {
    let mut bundle = t.bundle();
    bundle.config["root"]["readonly"] = json!(true);
    bundle.namespace("cgroup", None).namespace("time", None);
    bundle.linux("timeOffsets", json!({"boottime": {"secs": 777}}));
    bundle.linux("devices", json!([{"path": "/dev/extra", "type": "c", "major": 1, "minor": 5, "fileMode": 0o640}]));
    bundle.linux("sysctl", json!({"net.ipv4.ip_forward": "1"}));
    bundle.mount("/data/deep", "tmpfs", "tmpfs", &["nosuid", "noexec", "size=1m", "mode=750"]);
    let dir = t.base().join("fallback-data");
    std::fs::create_dir_all(&dir).expect("cannot make a directory");
    std::fs::create_dir_all(bundle.inside("/bound")).expect("cannot make a directory");
    bundle.bind(&dir, "/bound", &["rbind", "ro", "nodev"]);
    bundle.process("user", json!({"uid": 1000, "gid": 1000, "additionalGids": [5, 6], "umask": 0o27}));
    bundle.process("cwd", json!("/tmp"));
    // Mount ids, device numbers and random names differ from run to run.
    bundle.sh(
        "sed -E 's/^[0-9]+ [0-9]+ [0-9]+:[0-9]+ //; s/(shared|master):[0-9]+/\\1/; s/ - ([^ ]+ [^ ]+) r[ow]/ - \\1/; s#/bundle[0-9]+/#/B/#; s#/[0-9]+/B/#/N/B/#; \
         s#/cf[0-9]+-[0-9]+-[0-9]+#/ID#' /proc/self/mountinfo; \
         grep -E '^(Uid|Gid|Groups|Cap|NoNew|Umask|Sig(Blk|Ign|Cgt))' /proc/self/status; cat /proc/self/limits; cat /proc/self/timens_offsets; \
         hostname; pwd; env; cat /proc/sys/net/ipv4/ip_forward; ls -l /dev; ls /proc/self/fd | wc -l; cat /proc/1/oom_score_adj; \
         cd /dev; stat -c '%n %F %a %u:%g %t:%T' * | sort; cat /proc/kcore; ls /sys/firmware; touch /x 2>&1; touch /bound/x 2>&1; id",
    );
    bundle
}

/// What the container tells, less times and mount sizes.
fn tells(text: &str) -> String {
    text.lines()
        .map(|line| {
            line.split_whitespace()
                .filter(|word| !word.contains(':') || !word.ends_with(|c: char| c.is_ascii_digit()) || word.len() != 5)
                .collect::<Vec<_>>()
                .join(" ")
        })
        .collect::<Vec<_>>()
        .join("\n")
}

/// Fails the test by the lines that differ.
#[track_caller]
fn assert_same(expected: &str, found: &str, what: &str) {
    let only = |a: &str, b: &str, sign: &str| -> String {
        a.lines().filter(|line| !b.lines().any(|other| other == *line)).map(|line| format!("\n{sign} {line}")).collect()
    };
    let difference = only(expected, found, "-") + &only(found, expected, "+");
    assert!(expected == found, "{what}:{difference}");
}

/// Compares a container made without `calls` with one made with them; and its
/// life from create to delete.
#[track_caller]
fn same_without(t: &Test<'_>, calls: &str) {
    let deny = t.helper("deny");
    let deny = deny.to_str().expect("UTF-8");
    let expected = tells(&t.run(&telling(t)).ok().stdout());
    for errno in ["ENOSYS", "EPERM"] {
        let wrapper = [deny, errno, calls, "--"];
        let bundle = telling(t);
        let output = t.run_call(&bundle, &t.id()).wrapper(&wrapper).output().ok();
        assert_same(&expected, &tells(&output.stdout()), &format!("without {calls} by {errno}"));
        let bundle = t.sleeping_bundle();
        let id = t.id();
        let output = t.create_call(&bundle, &id).wrapper(&wrapper).output().ok();
        let c = t.container(id, output);
        c.call("start").wrapper(&wrapper).output().ok();
        assert_eq!(c.call("state").wrapper(&wrapper).output().ok().json()["status"], "running");
        let exec = c
            .exec(&["/bin/sh", "-c", "echo $$ >/dev/null; hostname; readlink /proc/self/ns/pid"])
            .wrapper(&wrapper)
            .output()
            .ok();
        let mut lines = exec.stdout();
        lines.truncate(lines.find('\n').unwrap_or(0));
        assert_eq!(lines, "conformance");
        c.call("kill").arg("KILL").wrapper(&wrapper).output().ok();
        assert_eq!(c.wait(), 128 + 9);
        c.call("delete").wrapper(&wrapper).output().ok();
        t.assert_nothing_left();
    }
}

fn without_clone3(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "its C library makes no threads where it is not permitted")?;
    same_without(t, "clone3");
    Ok(())
}

fn without_openat2(t: &Test<'_>) -> Done {
    same_without(t, "openat2");
    Ok(())
}

fn without_the_new_mount_calls(t: &Test<'_>) -> Done {
    same_without(t, "open_tree,fsopen,fsconfig,fsmount,fspick,move_mount,mount_setattr");
    Ok(())
}

fn without_mount_setattr(t: &Test<'_>) -> Done {
    same_without(t, "mount_setattr");
    Ok(())
}

fn without_close_range(t: &Test<'_>) -> Done {
    same_without(t, "close_range");
    Ok(())
}

fn without_execveat(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "knows only that it may be missing")?;
    same_without(t, "execveat");
    Ok(())
}

fn without_memfd(t: &Test<'_>) -> Done {
    same_without(t, "memfd_create");
    Ok(())
}

fn without_any_of_them(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "its C library makes no threads where it is not permitted")?;
    t.peer_differs(Kind::Crun, "does without some of them only")?;
    let calls = "clone3,openat2,open_tree,fsopen,fsconfig,fsmount,fspick,move_mount,mount_setattr,close_range,\
        execveat,statx";
    same_without(t, calls);
    Ok(())
}
