//! Attacks on processes: what they inherit, what of them is seen from inside, what they may do.

use std::fs::{self, File};
use std::os::unix::fs::symlink;

use conformance::console::Master;
use conformance::spy;
use conformance::test::{Done, Test};
use serde_json::json;

use crate::{Canary, SECRET, safe};

crate::attacks! {
    "CVE-2024-21626" => working_directory_is_a_descriptor,
    "CVE-2024-21626" => descriptors_of_the_caller,
    "CVE-2016-9962" => entering_process_is_watched,
    "CVE-2016-3697 CVE-2026-30892 CVE-2024-40635" => user_that_is_misread,
    "CVE-2022-29162 CVE-2022-27650 CVE-2022-24769" => capabilities_of_exec,
    "CVE-2023-25173" => groups_of_the_caller,
    "CVE-2016-2781 CVE-2017-5226" => terminal_of_the_caller,
    "" => controls_hold_for_exec,
    "" => devices_that_were_not_given,
}

fn working_directory_is_a_descriptor(t: &Test<'_>, canary: &Canary) -> Done {
    let script = format!(
        "for up in . .. ../.. ../../.. ../../../.. ../../../../.. ../../../../../..; do cat $up{}/secret 2>/dev/null; done; :",
        canary.text()
    );
    let root = || File::open("/").expect("cannot open /");
    let c = t.sleeper();
    for number in 3..24 {
        for cwd in [format!("/proc/self/fd/{number}"), format!("/proc/thread-self/fd/{number}"), "/link".to_owned()] {
            let mut bundle = t.bundle();
            symlink(format!("/proc/self/fd/{number}"), bundle.inside("/link")).expect("cannot link");
            bundle.process("cwd", json!(cwd));
            bundle.sh(&script);
            let call = t.run_call(&bundle, &t.id()).fd(root(), 9).fd(root(), 20);
            safe(!call.output().stdout().contains(SECRET), || format!("run with cwd {cwd} is in the host's root"));
            fs::remove_dir_all(&bundle.path).ok();
        }
        let cwd = format!("/proc/self/fd/{number}");
        let call = c.exec_with(&["--cwd", &cwd], &["/bin/sh", "-c", &script]).fd(root(), 9);
        safe(!call.output().stdout().contains(SECRET), || format!("exec with cwd {cwd} is in the host's root"));
    }
    Ok(())
}

fn descriptors_of_the_caller(t: &Test<'_>, canary: &Canary) -> Done {
    let secret = format!("{}/secret", canary.text());
    let script = format!(
        "ls /proc/self/fd | wc -l; for p in self 1; do for fd in 9 15; do cat /proc/$p/fd/$fd{secret} 2>/dev/null; done; done; :"
    );
    let root = || File::open("/").expect("cannot open /");
    let count = |text: &str| text.lines().next().and_then(|line| line.trim().parse::<u32>().ok()).unwrap_or(0);
    let mut bundle = t.bundle();
    bundle.sh(&script);
    let plain = count(&t.run_call(&bundle, &t.id()).output().stdout());
    assert!(plain >= 3, "{plain} descriptors");
    let text = t.run_call(&bundle, &t.id()).fd(root(), 9).fd(root(), 15).output().stdout();
    safe(!text.contains(SECRET), || "the caller's descriptors are in the container".to_owned());
    safe(count(&text) <= plain, || format!("{} descriptors, {plain} without the caller's", count(&text)));
    let c = t.sleeper();
    let text = c.exec(&["/bin/sh", "-c", &script]).fd(root(), 9).fd(root(), 15).output().stdout();
    safe(!text.contains(SECRET), || "the caller's descriptors are in exec's process".to_owned());
    safe(count(&text) <= plain, || format!("{} descriptors of exec, {plain} without the caller's", count(&text)));
    Ok(())
}

fn entering_process_is_watched(t: &Test<'_>, canary: &Canary) -> Done {
    let caught = spy::host_directories_seen(t, &canary.dir)?;
    safe(caught.is_empty(), || format!("directories of the host were seen: {caught:?}"));
    Ok(())
}

fn user_that_is_misread(t: &Test<'_>, _: &Canary) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.process("user", json!({"uid": 5, "gid": 6}));
    fs::write(bundle.inside("/etc/passwd"), "1:x:0:0::/:/bin/sh\n7:x:0:0::/:/bin/sh\n").expect("cannot write");
    let c = t.start(&bundle);
    let output = c.exec_with(&["--user", "1"], &["/bin/id", "-u"]).output();
    safe(!output.status.success() || output.stdout().trim() == "1", || format!("user 1 is {}", output.stdout().trim()));
    for user in ["4294967296", "-1", "0x0", "root", " 1", "1:", ":1", ":", "", "1:root", "1:-1", "18446744073709551616"]
    {
        let output = c.exec_with(&["--user", user], &["/bin/id"]).output();
        let root = output.status.success() && output.stdout().contains("uid=0") && user != "root";
        safe(!root, || format!("user {user:?} is root"));
        assert!(!output.status.success() || !t.is_proa(), "user {user:?} is accepted: {}", output.stdout().trim());
    }
    Ok(())
}

fn capabilities_of_exec(t: &Test<'_>, _: &Canary) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle.capabilities(&["CAP_KILL", "CAP_CHOWN"]);
    bundle.config["process"]["capabilities"]["inheritable"] = json!([]);
    bundle.config["process"]["capabilities"]["ambient"] = json!([]);
    let c = t.start(&bundle);
    let sets = |text: &str| -> Vec<(String, u64)> {
        let lines = text.lines().filter_map(|line| line.strip_prefix("Cap")?.split_once(":\t"));
        lines.map(|(name, bits)| (name.to_owned(), u64::from_str_radix(bits, 16).unwrap_or(u64::MAX))).collect()
    };
    for options in [&[][..], &["--user", "1000:1000"], &["--cap", "CAP_KILL"]] {
        let text = c.exec_with(options, &["/bin/cat", "/proc/self/status"]).output().stdout();
        for (name, bits) in sets(&text) {
            let most = if name == "Inh" || name == "Amb" { 0 } else { 1 << 5 | 1 };
            // CAP_KILL is 5, CAP_CHOWN is 0. What is asked for by name may be in all sets.
            let asked = if options.contains(&"--cap") { 1 << 5 } else { 0 };
            safe(bits & !(most | asked) == 0, || format!("{name} is {bits:x} with {options:?}"));
        }
    }
    Ok(())
}

fn groups_of_the_caller(t: &Test<'_>, _: &Canary) -> Done {
    let mut bundle = t.sh_bundle("grep Groups /proc/self/status");
    bundle.process("user", json!({"uid": 1000, "gid": 1000, "additionalGids": [7]}));
    let wrapper = ["setpriv", "--groups", "3001,3002,3003", "--"];
    let text = t.run_call(&bundle, &t.id()).wrapper(&wrapper).output().stdout();
    let groups: Vec<&str> = text.trim_start_matches("Groups:").split_ascii_whitespace().collect();
    safe(!groups.iter().any(|group| group.starts_with("300")), || format!("groups of the caller: {groups:?}"));
    safe(groups.iter().all(|group| ["7", "1000"].contains(group)), || format!("groups nobody gave: {groups:?}"));
    Ok(())
}

fn terminal_of_the_caller(t: &Test<'_>, _: &Canary) -> Done {
    let script = "exec 9<>/dev/tty && echo opened; exec 9<>/proc/self/fd/0; cut -d' ' -f7 /proc/self/stat";
    let mut bundle = t.bundle();
    bundle.sh(script);
    let (_master, slave) = Master::open();
    let text = t.run_call(&bundle, &t.id()).terminal(slave).output().stdout();
    safe(!text.contains("opened"), || "the program opens the terminal of the caller as its own".to_owned());
    let number = text.trim().lines().last().unwrap_or("0").to_owned();
    safe(number == "0", || format!("the caller's terminal {number} controls the program"));
    let c = t.sleeper();
    let (_master, slave) = Master::open();
    let text = c.exec(&["/bin/sh", "-c", script]).terminal(slave).output().stdout();
    safe(!text.contains("opened"), || "exec's process opens the terminal of the caller as its own".to_owned());
    Ok(())
}

fn controls_hold_for_exec(t: &Test<'_>, _: &Canary) -> Done {
    let mut bundle = t.sleeping_bundle();
    bundle
        .process("noNewPrivileges", json!(true))
        .process("rlimits", json!([{"type": "RLIMIT_NOFILE", "soft": 60, "hard": 60}]));
    bundle.linux(
        "seccomp",
        json!({"defaultAction": "SCMP_ACT_ALLOW", "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_AARCH64"],
        "syscalls": [{"names": ["sethostname"], "action": "SCMP_ACT_ERRNO"}]}),
    );
    let c = t.start(&bundle);
    let text = c
        .exec(&["/bin/sh", "-c", "cat /proc/self/status; ulimit -n; cat /proc/keys /proc/timer_list | head -c 10"])
        .output();
    assert!(text.status.success(), "{}", text.stderr());
    let text = text.stdout();
    for line in ["Seccomp:\t2", "NoNewPrivs:\t1"] {
        safe(text.lines().any(|found| found == line), || format!("exec's process has no {line:?}"));
    }
    safe(text.lines().any(|line| line == "60"), || "exec's process has other limits".to_owned());
    Ok(())
}

fn devices_that_were_not_given(t: &Test<'_>, _: &Canary) -> Done {
    let mut bundle = t.bundle();
    bundle.mount("/nodes", "tmpfs", "tmpfs", &["nosuid"]).capabilities(&[
        "CAP_MKNOD",
        "CAP_DAC_OVERRIDE",
        "CAP_SYSLOG",
    ]);
    bundle.sh("mknod /nodes/log c 1 11; mknod /nodes/mem c 1 1; for n in log mem; do (: </nodes/$n) 2>/dev/null && echo $n; done; :");
    let text = t.run(&bundle).stdout();
    safe(text.is_empty(), || format!("devices of the host can be opened: {}", text.replace('\n', " ")));
    let mut bundle = t.sleeping_bundle();
    bundle.mount("/nodes", "tmpfs", "tmpfs", &["nosuid"]).capabilities(&[
        "CAP_MKNOD",
        "CAP_DAC_OVERRIDE",
        "CAP_SYSLOG",
    ]);
    let c = t.start(&bundle);
    let text = c
        .exec(&["/bin/sh", "-c", "mknod /nodes/log c 1 11; (: </nodes/log) 2>/dev/null && echo log; :"])
        .output()
        .stdout();
    safe(text.is_empty(), || "exec's process opens a device of the host".to_owned());
    Ok(())
}
