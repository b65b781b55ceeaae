//! What Podman alone can ask for in a container of its own.

use conformance::image::BUSYBOX;
use conformance::look;
use conformance::test::{Done, Skip};

use crate::cli::{call, ok, run, sh, sleeper};

crate::cases! {
    it_is_proa,
    errors_are_read_from_the_log,
    user_namespaces,
    a_user_namespace_of_its_own_choice,
    a_user_namespace_of_another_container,
    masks,
    without_cgroups,
    secrets,
    mount_options,
    a_root_without_an_image,
    overlay_volumes,
    cgroup_settings_by_name,
    descriptors,
    a_umask,
    as_for_a_systemd_inside,
    a_container_replaced,
    builds,
    builds_with_limits_of_the_machine,
    a_scope_of_systemd,
}

fn it_is_proa() -> Done {
    let container = sleeper("");
    assert_eq!(container.inspect("/OCIRuntime"), "proa");
    assert!(std::path::Path::new("/run/proa").join(&container.id).is_dir(), "its state is proa's");
    let info = ok(&["info", "--format", "{{.Host.OCIRuntime.Name}} {{.Host.OCIRuntime.Path}}"]);
    assert_eq!(info, "proa /usr/local/bin/proa");
    Ok(())
}

/// Podman tells what went wrong by words in the one JSON object that the runtime logs.
fn errors_are_read_from_the_log() -> Done {
    let said = run("", &["/no/such"]).exits(127);
    assert!(said.err.contains("OCI runtime attempted to invoke a command that was not found"), "{}", said.err);
    let said = run("", &["/etc/passwd"]).exits(126);
    assert!(said.err.contains("OCI permission denied"), "{}", said.err);
    // Commands that Podman calls without conmon: the error is told as a text, not as JSON.
    let container = crate::cli::start("", &["true"]);
    container.wait();
    let said = container.call("kill", &[]).run().fails();
    assert!(!said.err.contains("{\""), "{}", said.err);
    Ok(())
}

fn user_namespaces() -> Done {
    let maps = "awk '{ print $1, $2, $3 }' /proc/self/uid_map; id -u; stat -c %u /bin/busybox";
    assert_eq!(sh("--uidmap 0:200000:5000 --gidmap 0:200000:5000", maps), "0 200000 5000\n0\n0");
    assert_eq!(sh("--uidmap 0:200000:1000 --uidmap 1000:5000:1 -u 1000", "id -u"), "1000");
    let container = sleeper("--uidmap 0:200000:5000 --gidmap 0:200000:5000 -u 7:8");
    let status = look::status(container.pid());
    assert_eq!((status.ruid, status.rgid), (200_007, 200_008));
    assert_eq!(container.call("exec", &["id", "-u"]).run().text(), "7");
    Ok(())
}

fn a_user_namespace_of_its_own_choice() -> Done {
    let first = sleeper("--userns auto");
    let second = sleeper("--userns auto:size=2000");
    let start = |container: &crate::cli::Container| container.sh("awk '{ print $2 }' /proc/self/uid_map");
    assert_ne!(start(&first), start(&second), "no two have ids in common");
    assert_eq!(second.sh("awk '{ print $3 }' /proc/self/uid_map"), "2000");
    assert_eq!(first.sh("stat -c %u /etc/passwd /tmp; touch /tmp/x && echo fine"), "0\n0\nfine");
    Ok(())
}

fn a_user_namespace_of_another_container() -> Done {
    let first = sleeper("--userns auto");
    let second = sleeper(&format!("--userns container:{}", first.id));
    assert_eq!(look::namespace(first.pid(), "user"), look::namespace(second.pid(), "user"));
    Ok(())
}

fn masks() -> Done {
    let script = "ls /proc/acpi /sys/firmware /home 2>/dev/null | wc -l; cat /etc/group | wc -c";
    assert_eq!(sh("--security-opt mask=/home:/etc/group", script).lines().last(), Some("0"));
    let of = |options: &str| sh(options, "grep -c ' /proc/' /proc/mounts; true");
    assert_ne!(of(""), "0");
    assert_eq!(of("--security-opt unmask=ALL"), "0");
    Ok(())
}

fn without_cgroups() -> Done {
    let mine = look::cgroup_paths(std::process::id() as i32);
    let container = sleeper("--cgroups=disabled --network none");
    assert_eq!(look::cgroup_paths(container.pid()), mine, "it stays where Podman is");
    assert_eq!(container.sh("echo fine"), "fine");
    container.ok("stop");
    Ok(())
}

fn secrets() -> Done {
    call(&["secret", "create", "word", "-"]).input("sesame").run().ok();
    let script = "cat /run/secrets/word; echo; stat -c '%a %u' /run/secrets/word; echo $WORD";
    let said = sh("--secret word,uid=7,mode=0400 --secret word,type=env,target=WORD", script);
    assert_eq!(said, "sesame\n400 7\nsesame");
    ok(&["secret", "rm", "word"]);
    Ok(())
}

fn mount_options() -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    std::fs::write(dir.path().join("file"), "x").expect("cannot write");
    let path = dir.path().display();
    let script = "grep ' /m ' /proc/mounts | cut -d' ' -f4 | tr , '\\n' | \
        grep -E 'noexec|nosuid|nodev|^ro$' | sort | paste -sd, -";
    assert_eq!(sh(&format!("-v {path}:/m:ro,noexec,nosuid,nodev"), script), "nodev,noexec,nosuid,ro");
    // An idmapped mount: files of the host's root are the container's root's.
    let maps = "--uidmap 0:200000:5000 --gidmap 0:200000:5000";
    let owner = "stat -c %u /m/file; touch /m/new";
    assert_eq!(sh(&format!("{maps} -v {path}:/m:idmap"), owner), "0");
    use std::os::unix::fs::MetadataExt;
    assert_eq!(std::fs::metadata(dir.path().join("new")).expect("made inside").uid(), 0);
    assert_eq!(
        sh("--mount type=tmpfs,destination=/etc,tmpcopyup", "grep -c root: /etc/passwd; touch /etc/x && echo rw"),
        "1\nrw"
    );
    assert_eq!(
        sh(
            "--mount type=image,source=docker.io/library/busybox:local,destination=/i",
            "ls /i/bin | grep -c '^busybox$'"
        ),
        "1"
    );
    Ok(())
}

fn a_root_without_an_image() -> Done {
    let container = sleeper("");
    let dir = tempfile::tempdir().expect("no temporary directory");
    let tar = dir.path().join("root.tar");
    ok(&["export", "-o", tar.to_str().expect("a path in UTF-8"), &container.id]);
    let root = dir.path().join("root");
    std::fs::create_dir(&root).expect("cannot make a directory");
    tar::Archive::new(std::fs::File::open(&tar).expect("exported")).unpack(&root).expect("a tar");
    let said = call(&[
        "run",
        "--rm",
        "--rootfs",
        root.to_str().expect("a path in UTF-8"),
        "/bin/sh",
        "-c",
        "echo x >/y; ls /y",
    ])
    .run();
    assert_eq!(said.text(), "/y");
    assert!(root.join("y").is_file());
    Ok(())
}

fn overlay_volumes() -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    std::fs::write(dir.path().join("file"), "below").expect("cannot write");
    let said = sh(&format!("-v {}:/m:O", dir.path().display()), "echo above >/m/file; cat /m/file");
    assert_eq!(said, "above");
    assert_eq!(std::fs::read_to_string(dir.path().join("file")).expect("it is there"), "below");
    Ok(())
}

fn cgroup_settings_by_name() -> Done {
    let container = sleeper("--memory 40m");
    let memory = look::controller(container.pid(), "memory").ok_or_else(|| Skip("no controller memory".into()))?;
    if !memory.unified {
        run("--cgroup-conf memory.high=20000000", &["true"]).fails();
        return Err(Skip("--cgroup-conf needs cgroup v2".into()));
    }
    let container = sleeper("--cgroup-conf memory.high=20000000");
    let memory = look::controller(container.pid(), "memory").expect("just seen");
    assert_eq!(memory.read("memory.high"), "19999744");
    Ok(())
}

fn descriptors() -> Done {
    let script = "exec 3</etc/hostname 4</etc/passwd; \
        exec podman run --rm --preserve-fds 2 docker.io/library/busybox:local \
        sh -c 'cat <&3 | wc -l; ls /proc/self/fd | tr \"\\n\" \" \"; head -n1 <&4'";
    let said =
        crate::command::Call::new("sh", &["-c", script]).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1").run().text();
    assert!(said.ends_with("root:x:0:0:root:/root:/bin/bash"), "{said}");
    Ok(())
}

fn a_umask() -> Done {
    assert_eq!(sh("--umask 0077", "touch /x; stat -c %a /x"), "600");
    Ok(())
}

/// Podman then gives /run, /tmp and a cgroup to write to.
fn as_for_a_systemd_inside() -> Done {
    let container = sleeper("--systemd always");
    let script = "grep -c -E ' (/run|/tmp|/run/lock|/var/log/journal) tmpfs ' /proc/mounts; echo $container";
    assert_eq!(container.sh(script), "4\npodman");
    let dir = if look::cgroups() == look::Cgroups::Unified { "/sys/fs/cgroup" } else { "/sys/fs/cgroup/systemd" };
    assert_eq!(container.sh(&format!("mkdir {dir}/inner && rmdir {dir}/inner && echo fine")), "fine");
    Ok(())
}

fn a_container_replaced() -> Done {
    let first = sleeper("--name same");
    let pid = first.pid();
    let second = sleeper("--name same --replace");
    assert!(!look::is_alive(pid) && look::is_alive(second.pid()));
    Ok(())
}

/// buildah calls the runtime itself, without conmon.
fn builds() -> Done {
    build(
        "FROM docker.io/library/busybox:local\nRUN echo built >/file\n\
         RUN echo worker:x:7:7::/:/bin/sh >>/etc/passwd\nUSER worker\nRUN id -un >/tmp/who\n\
        CMD cat /file /tmp/who\n",
        "built\nworker",
    )
}

fn builds_with_limits_of_the_machine() -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    std::fs::write(dir.path().join("Containerfile"), format!("FROM {BUSYBOX}\nRUN echo x; exit 3\n"))
        .expect("cannot write");
    let path = dir.path().to_str().expect("a path in UTF-8");
    let mut words = vec!["build", path];
    words.splice(1..1, ULIMITS);
    let said = call(&words).run().fails();
    assert!(said.err.contains("exit status 3"), "{}", said.err);
    Ok(())
}

/// buildah asks for limits beyond the hard ones of a machine without CAP_SYS_RESOURCE.
const ULIMITS: [&str; 4] = ["--ulimit", "nofile=1000:2000", "--ulimit", "nproc=1000:1000"];

fn build(file: &str, prints: &str) -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    std::fs::write(dir.path().join("Containerfile"), file).expect("cannot write");
    let path = dir.path().to_str().expect("a path in UTF-8");
    let mut words = vec!["build", "--isolation", "oci", "-t", "local/built:1", path];
    words.splice(1..1, ULIMITS);
    call(&words).run().ok();
    assert_eq!(ok(&["run", "--rm", "local/built:1"]), prints);
    ok(&["rmi", "-f", "local/built:1"]);
    ok(&["image", "prune", "-f"]);
    Ok(())
}

/// As a quadlet's service has it.
fn a_scope_of_systemd() -> Done {
    if !look::has_systemd() {
        return Err(Skip("no systemd runs here".into()));
    }
    let words = ["--cgroup-manager", "systemd", "run", "-d", "--memory", "64m", BUSYBOX, "sleep", "1000"];
    let id = call(&words).run().text();
    let container = crate::cli::Container { id };
    let paths = look::cgroup_paths(container.pid());
    assert!(paths.values().any(|path| path.contains(&format!("libpod-{}.scope", container.id))), "{paths:?}");
    Ok(())
}
