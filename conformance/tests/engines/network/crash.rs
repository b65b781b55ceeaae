//! Whatever is killed, and whenever: what a container had of a network is given back.

use std::fs;
use std::path::Path;
use std::time::Duration;

use conformance::look;
use conformance::test::Done;
use serde_json::{Value, json};

use super::fixture::{CACHE, Guest, NETWORK, PROA, kill, names, networks};
use crate::command::Call;

crate::cases! {
    the_init_is_killed,
    delete_with_force,
    create_is_killed_at_any_moment,
    the_hook_is_killed,
    a_later_step_of_create_fails,
    the_state_is_lost,
    another_boot,
    after_a_reboot,
    delete_is_killed_at_any_moment,
    one_id_in_two_places,
    a_plugin_runs_on_when_all_is_over,
}

fn prune() -> String {
    Call::new(PROA, &["network", "prune"]).run().text()
}

fn the_init_is_killed() -> Done {
    let guest = Guest::new(NETWORK, &["8090:80"]).started(&["sleep", "1000"]);
    kill(guest.pid());
    assert!(guest.record().exists(), "nobody has deleted it yet");
    guest.call(&["delete", &guest.id]).run().ok();
    assert!(!guest.record().exists());
    Ok(())
}

fn delete_with_force() -> Done {
    let mut guest = Guest::new(NETWORK, &["8090:80"]);
    guest.try_create(&["sleep", "1000"]).ok();
    guest.call(&["delete", "--force", &guest.id]).run().ok();
    assert!(!guest.record().exists());
    let guest = Guest::new(NETWORK, &["8090:80"]).started(&["sleep", "1000"]);
    guest.call(&["delete", "--force", &guest.id]).run().ok();
    assert!(!guest.record().exists());
    Ok(())
}

fn create_is_killed_at_any_moment() -> Done {
    let before = networks();
    let mut in_the_middle = 0;
    for round in 0..40 {
        let mut guest = Guest::new(NETWORK, &["8091:80"]);
        guest.bundle.args(&["sleep", "1000"]).write();
        let mut creation = guest.creation().start("/tmp/guests/creation");
        std::thread::sleep(Duration::from_millis(5 * round));
        in_the_middle += usize::from(creation.is_running() && guest.record().exists());
        kill(creation.pid());
        creation.end();
        guest.call(&["delete", "--force", &guest.id]).run().ok();
        look::eventually("what the hook does to be over", || {
            conformance::reaper::collect();
            look::descendants(std::process::id() as i32).is_empty()
        });
        let now = networks();
        let left: Vec<_> = now.symmetric_difference(&before).collect();
        assert!(left.is_empty(), "left by a creation killed after {} ms: {left:?}", 5 * round);
    }
    assert!(in_the_middle > 0, "no creation was killed in the middle");
    Ok(())
}

fn the_hook_is_killed() -> Done {
    let mut killed = 0;
    for round in 0..10 {
        let mut guest = Guest::new(NETWORK, &["8092:80"]);
        guest.bundle.args(&["sleep", "1000"]).write();
        let mut creation = guest.creation().start("/tmp/guests/creation");
        look::eventually("the hook to begin", || guest.record().exists() || !creation.is_running());
        std::thread::sleep(Duration::from_millis(10 * round));
        for pid in look::descendants(creation.pid()) {
            let line = look::stat(pid).map(|_| look::cmdline(pid)).unwrap_or_default();
            if line.iter().any(|word| word == "cni") && line.last().is_some_and(|word| word == "add") {
                killed += usize::from(
                    nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).is_ok(),
                );
            }
        }
        look::eventually("create to end", || !creation.is_running());
        let log = creation.log();
        assert!(log.is_empty() || log.contains("createRuntime hook 0"), "{log}");
        guest.call(&["delete", "--force", &guest.id]).run().ok();
        assert!(!guest.record().exists(), "{log}");
    }
    assert!(killed > 0);
    Ok(())
}

fn a_later_step_of_create_fails() -> Done {
    let mut guest = Guest::new(NETWORK, &["8093:80"]);
    let said = guest.try_create(&["/no/such/program"]).fails();
    said.says("/no/such/program");
    assert!(!guest.record().exists(), "poststop hooks run when hooks had begun");
    guest.bundle.args(&["sleep", "1000"]).write();
    let bundle = guest.bundle.path.to_str().expect("paths of tests are UTF-8");
    for command in ["create", "run"] {
        let words = [command, "--pid-file", "/no/such/file", "--bundle", bundle, &guest.id];
        guest.call(&words).run().fails().says("--pid-file");
        assert!(!guest.record().exists(), "{command}");
    }
    guest.bundle.config["hooks"]["createContainer"] = json!([{"path": "/bin/false"}]);
    guest.try_create(&["sleep", "1000"]).fails().says("createContainer");
    assert!(!guest.record().exists());
    let hook = json!({"path": "/bin/false"});
    guest.bundle.remove("/hooks/createContainer").push("/hooks/createRuntime", hook);
    guest.try_create(&["sleep", "1000"]).fails().says("createRuntime hook 1");
    assert!(!guest.record().exists());
    Ok(())
}

/// As after a reboot, but for the interfaces, which are there still.
fn the_state_is_lost() -> Done {
    let lose = |guest: &Guest| {
        kill(guest.pid());
        fs::remove_dir_all(Path::new("/run/proa").join(&guest.id)).expect("cannot remove");
        conformance::reaper::collect();
    };
    let guest = Guest::new(NETWORK, &["8094:80"]).started(&["sleep", "1000"]);
    let alive = Guest::new(NETWORK, &["8095:80"]).started(&["sleep", "1000"]);
    lose(&guest);
    assert_eq!(prune(), guest.id, "the one that has ended");
    assert!(alive.record().exists() && alive.address().starts_with("10.90."));
    assert_eq!(prune(), "");
    // The next one of the id clears up first. It has the cgroup of the earlier one, too.
    lose(&alive);
    for again in [guest, alive] {
        let again = again.started(&["sleep", "1000"]);
        assert!(again.address().starts_with("10.90."));
        again.delete();
    }
    Ok(())
}

fn another_boot() -> Done {
    let guest = Guest::new(NETWORK, &["8096:80"]).started(&["sleep", "1000"]);
    of_another_boot(&guest);
    assert_eq!(prune(), guest.id);
    assert_eq!(names(CACHE), Vec::<String>::new());
    // What was never begun.
    fs::create_dir(Path::new(CACHE).join("begun")).expect("cannot make a directory");
    assert_eq!(prune(), "begun");
    guest.delete();
    Ok(())
}

/// Of the kernel's things nothing is there any more, of those on disk all: the container is made where the network
/// namespace of the host is one that ends.
fn after_a_reboot() -> Done {
    let mut guest = Guest::new(NETWORK, &["8098:80"]);
    guest.bundle.args(&["sleep", "1000"]).write();
    let bundle = guest.bundle.path.to_str().expect("paths of tests are UTF-8");
    let script = format!("ip link set lo up && {PROA} create --bundle {bundle} {}", guest.id);
    Call::new("unshare", &["--net", "sh", "-c", &script]).run().ok();
    kill(guest.pid());
    fs::remove_dir_all(Path::new("/run/proa").join(&guest.id)).expect("cannot remove");
    Call::new("umount", &[&format!("{CACHE}/{}/netns", guest.id)]).run().ok();
    of_another_boot(&guest);
    assert_eq!(prune(), guest.id);
    // The test's cgroups stay on a machine that was not booted.
    guest.try_create(&["sleep", "1000"]).ok();
    guest.delete();
    Ok(())
}

/// What is lost of a delete is the state, and with it the hooks.
fn delete_is_killed_at_any_moment() -> Done {
    let before = networks();
    for round in 0..20 {
        let guest = Guest::new(NETWORK, &["8099:80"]).started(&["sleep", "1000"]);
        let mut deletion = guest.call(&["delete", "--force", &guest.id]).start("/tmp/guests/deletion");
        std::thread::sleep(Duration::from_millis(5 * round));
        kill(deletion.pid());
        deletion.end();
        guest.call(&["delete", "--force", &guest.id]).run().ok();
        look::eventually("what the hook does to be over", || {
            conformance::reaper::collect();
            look::descendants(std::process::id() as i32).is_empty()
        });
        prune();
        let now = networks();
        let left: Vec<_> = now.symmetric_difference(&before).collect();
        assert!(left.is_empty(), "left by a deletion killed after {} ms: {left:?}", 5 * round);
    }
    Ok(())
}

fn of_another_boot(guest: &Guest) {
    let text = fs::read_to_string(guest.record()).expect("a record");
    let mut record: Value = serde_json::from_str(&text).expect("JSON");
    record["bootId"] = json!("00000000-0000-0000-0000-000000000000");
    fs::write(guest.record(), record.to_string()).expect("cannot write");
}

fn one_id_in_two_places() -> Done {
    let mut guest = Guest::new(NETWORK, &["8097:80"]).started(&["sleep", "1000"]);
    guest.bundle.linux("cgroupsPath", json!("/guest-other")).write();
    let bundle = guest.bundle.path.to_str().expect("paths of tests are UTF-8");
    let other = ["--root", "/run/guest-other", "create", "--bundle", bundle, &guest.id];
    let said = Call::new(PROA, &other).run().fails();
    fs::remove_dir_all("/run/guest-other").expect("cannot remove");
    said.says(&format!("container ID \"{}\": is on the network web already, as process {}", guest.id, guest.pid()));
    assert!(guest.sh("ping -c 1 -W 2 10.90.0.1").contains("1 packets received"), "the first keeps its network");
    guest.delete();
    Ok(())
}

/// A hook that is killed has left a program of a plugin behind: delete waits for it, or it would add what nobody takes away.
fn a_plugin_runs_on_when_all_is_over() -> Done {
    let file = super::plugins::network(
        "late",
        &[("late", "(sleep 1; touch /tmp/guests/late) & wait; exec /usr/lib/cni/bridge")],
    );
    let mut guest = Guest::with(&["--cni-config-dir", &file.config(), "--cni-path", &file.path(), "late"]);
    guest.bundle.args(&["sleep", "1000"]).write();
    let mut creation = guest.creation().start("/tmp/guests/creation");
    look::eventually("the plugin to run", || {
        look::descendants(creation.pid()).into_iter().any(|pid| look::stat(pid).is_some_and(|stat| stat.comm == "late"))
    });
    for pid in look::descendants(creation.pid()) {
        let line = look::stat(pid).map(|_| look::cmdline(pid)).unwrap_or_default();
        if line.last().is_some_and(|word| word == "add") {
            nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL).ok();
        }
    }
    look::eventually("create to end", || !creation.is_running());
    assert!(Path::new("/tmp/guests/late").exists(), "create has waited: {}", creation.log());
    assert!(!guest.record().exists(), "{}", creation.log());
    fs::remove_file("/tmp/guests/late").expect("cannot remove");
    Ok(())
}
