//! What is asked for and cannot be had is one clear line, and changes nothing; so is what no runtime would say to a hook.

use std::fs;
use std::io::Write;

use conformance::test::Done;

use super::fixture::{CACHE, Guest, NETWORK, PROA, hooks, names};
use crate::command::{Call, Said};

crate::cases! {
    a_network_that_is_not_there,
    a_plugin_that_is_not_there,
    configurations_that_are_none,
    words_of_publish,
    a_container_without_a_namespace,
    ids_that_cni_does_not_have,
    states_that_no_runtime_gives,
}

#[track_caller]
fn one_line(said: Said, words: &str) {
    let said = said.fails().says(words);
    assert_eq!(said.err.trim().lines().count(), 1, "{}", said.err);
    assert_eq!(names(CACHE), Vec::<String>::new());
}

fn a_network_that_is_not_there() -> Done {
    one_line(hooks(&["nowhere"]), r#"no network "nowhere" in /etc/cni/net.d, which has web"#);
    one_line(hooks(&["--cni-config-dir", "/no/such", "web"]), r#"no network "web" in /no/such, which has none"#);
    one_line(hooks(&["../web"]), r#"invalid name of a network "../web""#);
    // It was there when the bundle was made.
    fs::create_dir_all("/tmp/guests/net.d").expect("cannot make a directory");
    fs::copy("/etc/cni/net.d/50-web.conflist", "/tmp/guests/net.d/web.conflist").expect("cannot copy");
    let mut guest = Guest::with(&["--cni-config-dir", "/tmp/guests/net.d", NETWORK]);
    fs::remove_dir_all("/tmp/guests/net.d").expect("cannot remove");
    one_line(guest.try_create(&["sleep", "1000"]), r#"no network "web" in /tmp/guests/net.d, which has none"#);
    Ok(())
}

fn a_plugin_that_is_not_there() -> Done {
    let said = hooks(&["--cni-path", "/tmp/guests:/no/such", NETWORK]);
    one_line(said, r#"network "web": plugin "bridge" is not in /tmp/guests, /no/such"#);
    let said = Call::new(PROA, &["network", "hooks", NETWORK]).env("CNI_PATH", "/no/such").run();
    one_line(said, r#"plugin "bridge" is not in /no/such"#);
    Ok(())
}

fn configurations_that_are_none() -> Done {
    let dir = "/tmp/guests/net.d";
    fs::create_dir_all(dir).expect("cannot make a directory");
    let large = format!("\"{}\"", "x".repeat(2 << 20));
    for (text, problem) in [
        ("{", "EOF while parsing"),
        ("[]", "is not an object"),
        (r#"{"cniVersion": "1.0.0", "plugins": []}"#, r#"name: "" does not match"#),
        (r#"{"cniVersion": "1.0.0", "name": "a/b"}"#, r#"name: "a/b" does not match"#),
        (r#"{"cniVersion": "1.0.0", "name": "a"}"#, "plugins: is not an array"),
        (r#"{"cniVersion": "1.0.0", "name": "a", "plugins": []}"#, "plugins: is empty"),
        (r#"{"cniVersion": "1.0.0", "name": "a", "plugins": [1]}"#, "plugins: one is not an object"),
        (
            r#"{"cniVersion": "9.0.0", "name": "a", "plugins": [{"type": "b"}]}"#,
            r#"cniVersion: "9.0.0" is none of 0.3.0"#,
        ),
        (r#"{"name": "a", "plugins": [{"type": "b"}]}"#, r#"cniVersion: "" is none of"#),
        (r#"{"cniVersion": "1.0.0", "name": "a", "plugins": [{}]}"#, r#"plugins[0].type: "" is not the name"#),
        (
            r#"{"cniVersion": "1.0.0", "name": "a", "plugins": [{"type": "b"}, {"type": "../../bin/sh"}]}"#,
            r#"plugins[1].type: "../../bin/sh" is not the name of a plugin"#,
        ),
        (&large, "is larger than a mebibyte"),
    ] {
        fs::write(format!("{dir}/a.conflist"), text).expect("cannot write");
        one_line(hooks(&["--cni-config-dir", dir, "a"]), problem);
    }
    fs::remove_dir_all(dir).expect("cannot remove");
    Ok(())
}

fn words_of_publish() -> Done {
    for (word, problem) in [
        ("80", r#"--publish "80": is not of the form"#),
        ("8000-8010:80-90", r#"--publish "8000-8010:80-90": "8000-8010" is a range of ports"#),
        ("0:80", r#"--publish "0:80": "0" is not a port"#),
        ("80:80/icmp", r#"--publish "80:80/icmp": "icmp" is none of"#),
        ("localhost:80:80", r#"--publish "localhost:80:80": "localhost" is not an IP address"#),
    ] {
        one_line(hooks(&["--publish", word, NETWORK]), problem);
    }
    one_line(hooks(&["-p", "80:80", "-p", "80:81", NETWORK]), r#"--publish "80:81": wants the same port"#);
    one_line(hooks(&["-p", "80:80", "host"]), r#"--publish "80:80": is not for the network host"#);
    one_line(hooks(&["-p", "80:80", "none"]), r#"--publish "80:80": is not for the network none"#);
    Ok(())
}

fn a_container_without_a_namespace() -> Done {
    let mut guest = Guest::new(NETWORK, &[]);
    guest.bundle.without_namespace("network");
    one_line(guest.try_create(&["sleep", "1000"]), "is in the host's network namespace");
    Ok(())
}

fn ids_that_cni_does_not_have() -> Done {
    let mut guest = Guest::new(NETWORK, &[]);
    guest.id.push('+');
    one_line(guest.try_create(&["sleep", "1000"]), "CNI allows [A-Za-z0-9][A-Za-z0-9_.-]* alone");
    // A long one is part of the names of files.
    let mut guest = Guest::new(NETWORK, &[]);
    guest.id = format!("{}{}", guest.id, "x".repeat(200 - guest.id.len()));
    guest.try_create(&["sleep", "1000"]).ok();
    guest.delete();
    Ok(())
}

fn states_that_no_runtime_gives() -> Done {
    let me = std::process::id();
    let hook = |words: &[&str], state: &str| Call::new(PROA, &[&["cni"], words].concat()).input(state).run();
    let state = |id: &str, pid: &str| format!(r#"{{"ociVersion": "1.0.2", "id": "{id}", "pid": {pid}}}"#);
    let huge = format!(r#"{{"id": "guest-x", "pid": 5, "annotations": {{"a": "{}"}}}}"#, "x".repeat(17 << 20));
    for (text, problem) in [
        (String::new(), "state on standard input: EOF while parsing"),
        ("hello".to_owned(), "state on standard input: expected value"),
        ("{}".to_owned(), "state on standard input: missing field `id`"),
        ("[".repeat(100_000), "state on standard input: "),
        (huge, "state on standard input: is larger than 16 mebibytes"),
        (state("../../etc", "5"), "invalid container ID"),
        (state("a/b", "5"), "invalid container ID"),
        (state("", "5"), "invalid container ID"),
    ] {
        one_line(hook(&["--network", NETWORK, "add"], &text), problem);
        one_line(hook(&["del"], &text), problem);
    }
    for (pid, problem) in [
        ("0", "pid 0 is not that of a container"),
        ("1", "pid 1 is not that of a container"),
        ("-1", "pid -1 is not that of a container"),
        ("4294967296", "pid 4294967296 is not that of a container"),
        ("4194303", "pid 4194303 is no process"),
        (&me.to_string(), "is in the host's network namespace"),
        ("\"5\"", "state on standard input: invalid type"),
        ("1e400", "state on standard input: number out of range"),
    ] {
        one_line(hook(&["--network", NETWORK, "add"], &state("guest-x", pid)), problem);
    }
    // To take away what is not there is no error, whatever the process.
    hook(&["del"], &state("guest-x", "0")).ok();
    hook(&["del"], &state("guest-x", &me.to_string())).ok();
    one_line(hook(&["add"], &state("guest-x", "5")), "cni add: --network is missing");
    one_line(hook(&["check"], &state("guest-x", "5")), "cni: \"check\" is neither add nor del");
    // A link in the place of a container's directory leads nowhere.
    std::os::unix::fs::symlink("/etc", format!("{CACHE}/guest-x")).expect("cannot link");
    let said = hook(&["--network", NETWORK, "add"], &state("guest-x", "5"));
    fs::remove_file(format!("{CACHE}/guest-x")).expect("cannot remove");
    one_line(said, "/guest-x: ");
    // A record that is another's, or none.
    fs::create_dir(format!("{CACHE}/guest-x")).expect("cannot make a directory");
    let mut file = fs::File::create(format!("{CACHE}/guest-x/attachment.json")).expect("cannot write");
    file.write_all(b"{").expect("cannot write");
    let said = hook(&["del"], &state("guest-x", "0"));
    fs::remove_dir_all(format!("{CACHE}/guest-x")).expect("cannot remove");
    one_line(said, "/guest-x/attachment.json: EOF while parsing");
    Ok(())
}
