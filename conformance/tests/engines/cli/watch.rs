//! What an engine tells of a container: logs, processes, use of resources, health, changed files.

use std::fs;

use conformance::look;
use conformance::test::Done;

use super::{is_podman, sleeper, start};

crate::cases! {
    logs,
    logs_followed_to_the_end,
    much_output,
    top,
    stats,
    stats_of_what_works,
    healthcheck,
    copied_in_and_out,
    changed_files,
    exported_and_committed,
}

fn logs() -> Done {
    let container = start("", &["sh", "-c", "echo one; echo two >&2; printf three"]);
    container.wait();
    let said = container.call("logs", &[]).run().ok();
    assert_eq!((said.out.trim_end(), said.err.trim_end()), ("one\nthree", "two"));
    Ok(())
}

fn logs_followed_to_the_end() -> Done {
    let container = start("", &["sh", "-c", "for i in 1 2 3 4 5; do echo line $i; sleep 0.1; done"]);
    assert_eq!(container.ok("logs -f"), "line 1\nline 2\nline 3\nline 4\nline 5");
    Ok(())
}

fn much_output() -> Done {
    let said = super::run("", &["sh", "-c", "yes 0123456789 | head -n 200000"]).ok();
    assert_eq!(said.out.len(), 200_000 * 11);
    let container = start("", &["sh", "-c", "yes 0123456789 | head -n 50000"]);
    container.wait();
    assert_eq!(container.ok("logs").lines().count(), 50000);
    Ok(())
}

fn top() -> Done {
    let container = sleeper("");
    let text = container.ok("top");
    assert!(text.contains("sleep 1000"), "{text}");
    if !is_podman() {
        // Docker asks the runtime for the numbers and ps of the host for the rest.
        let pid = container.pid().to_string();
        assert!(container.ok("top").lines().any(|line| line.split_whitespace().nth(1) == Some(&pid)), "{text}");
    }
    Ok(())
}

const STATS: &str = "stats --no-stream --format {{.MemUsage}}|{{.PIDs}}|{{.CPUPerc}}";

fn stats() -> Done {
    let container = sleeper("--memory 50m");
    let text = container.ok(STATS);
    let fields: Vec<_> = text.split('|').collect();
    let limit = if is_podman() { "52.43MB" } else { "50MiB" };
    assert!(fields[0].ends_with(limit), "{text}");
    assert!(!fields[0].starts_with("0B"), "{text}");
    assert_eq!(fields[1], "2", "{text}");
    Ok(())
}

fn stats_of_what_works() -> Done {
    let container = start("", &["sh", "-c", "while :; do :; done"]);
    let text = container.ok(STATS);
    let percent: f64 =
        text.rsplit('|').next().and_then(|word| word.trim_end_matches('%').parse().ok()).expect("a number");
    assert!(percent > 5.0, "{text}");
    container.ok("kill");
    Ok(())
}

fn healthcheck() -> Done {
    let options = "--health-interval 1s --health-retries 1 --health-timeout 5s --health-cmd";
    let mut words: Vec<&str> = vec!["run", "-d"];
    words.extend(options.split_whitespace());
    words.extend(["test -e /tmp/well", conformance::image::BUSYBOX]);
    words.extend(super::SLEEP);
    let id = super::ok(&words);
    let container = super::Container { id: id.lines().last().expect("an id").to_owned() };
    // Podman's timers are systemd's: without one it checks when it is asked.
    let check = || {
        if is_podman() {
            let said = super::call(&["healthcheck", "run", &container.id]).run();
            assert!(said.success() || said.out.contains("unhealthy"), "{}{}", said.out, said.err);
        }
        container.inspect("/State/Health/Status").as_str().unwrap_or_default().to_owned()
    };
    look::eventually("a container that is not well", || check() == "unhealthy");
    container.sh("touch /tmp/well");
    look::eventually("a container that is well", || check() == "healthy");
    Ok(())
}

fn copied_in_and_out() -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    let path = |name: &str| dir.path().join(name).to_str().expect("a path in UTF-8").to_owned();
    fs::write(path("in"), "from outside").expect("cannot write");
    let container = sleeper("");
    super::ok(&["cp", &path("in"), &format!("{}:/tmp/there", container.id)]);
    assert_eq!(container.sh("cat /tmp/there; echo; echo from inside >/tmp/back"), "from outside");
    super::ok(&["cp", &format!("{}:/tmp/back", container.id), &path("out")]);
    assert_eq!(fs::read_to_string(path("out")).expect("copied"), "from inside\n");
    Ok(())
}

fn changed_files() -> Done {
    let container = start("", &["sh", "-c", "echo x >/home/new; rm /etc/group"]);
    container.wait();
    let text = container.ok("diff");
    assert!(text.contains("A /home/new") && text.contains("D /etc/group"), "{text}");
    Ok(())
}

fn exported_and_committed() -> Done {
    let container = start("", &["sh", "-c", "echo kept >/home/new"]);
    container.wait();
    container.call("commit", &["local/committed:1"]).run().ok();
    assert_eq!(super::ok(&["run", "--rm", "local/committed:1", "cat", "/home/new"]), "kept");
    super::ok(&["rmi", "local/committed:1"]);
    Ok(())
}
