//! What a container may do: capabilities, seccomp, no new privileges, masked paths.

use conformance::look;
use conformance::test::Done;

use super::{run, sh, sleeper};

crate::cases! {
    capabilities,
    privileged,
    seccomp,
    a_profile_of_the_users,
    no_new_privileges,
    masked_paths,
    devices_that_all_have,
}

fn field(options: &str, name: &str) -> String {
    sh(options, &format!("grep '^{name}:' /proc/self/status | cut -f2"))
}

fn capabilities() -> Done {
    assert_eq!(field("--cap-drop ALL --cap-add NET_BIND_SERVICE", "CapEff"), "0000000000000400");
    assert_eq!(field("--cap-drop ALL", "CapBnd"), "0000000000000000");
    let default = u64::from_str_radix(&field("", "CapBnd"), 16).expect("a number");
    assert_eq!(default & 1 << 21, 0, "no CAP_SYS_ADMIN");
    assert_ne!(default & 1, 0, "CAP_CHOWN");
    Ok(())
}

fn privileged() -> Done {
    let container = sleeper("--privileged");
    let status = look::proc_text(container.pid(), "status");
    let mine = look::proc_text(std::process::id() as i32, "status");
    assert_eq!(look::field(&status, "CapEff"), look::field(&mine, "CapBnd"), "all that there are");
    assert_eq!(look::field(&status, "Seccomp").as_deref(), Some("0"));
    assert_eq!(
        container.sh("mount -t tmpfs none /tmp && mount -o remount,rw /sys && [ -c /dev/fuse ] && echo fine"),
        "fine"
    );
    Ok(())
}

fn seccomp() -> Done {
    assert_eq!(field("", "Seccomp"), "2");
    assert_eq!(field("--security-opt seccomp=unconfined", "Seccomp"), "0");
    Ok(())
}

fn a_profile_of_the_users() -> Done {
    let profile = tempfile::NamedTempFile::new().expect("no temporary file");
    let text = r#"{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [
        {"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO", "errnoRet": 38}]}"#;
    std::fs::write(profile.path(), text).expect("cannot write");
    let said = run(&format!("--security-opt seccomp={}", profile.path().display()), &["mkdir", "/a"]).exits(1);
    assert!(said.err.contains("Function not implemented"), "{}", said.err);
    Ok(())
}

fn no_new_privileges() -> Done {
    assert_eq!(field("", "NoNewPrivs"), "0");
    assert_eq!(field("--security-opt no-new-privileges", "NoNewPrivs"), "1");
    Ok(())
}

fn masked_paths() -> Done {
    let script = "cat /proc/kcore /proc/keys 2>/dev/null | wc -c; ls /sys/firmware | wc -l; \
        echo 1 2>/dev/null >/proc/sys/vm/drop_caches && echo written; mkdir /sys/x 2>/dev/null && echo made; true";
    assert_eq!(sh("", script), "0\n0");
    Ok(())
}

fn devices_that_all_have() -> Done {
    let script = "for d in null zero full random urandom tty; do [ -c /dev/$d ] || echo no $d; done; \
        echo x >/dev/null; head -c4 /dev/zero | wc -c; ls -l /dev/stdin | sed 's/.*-> //'; [ -d /dev/shm ] && echo shm";
    assert_eq!(sh("", script), "4\n/proc/self/fd/0\nshm");
    Ok(())
}
