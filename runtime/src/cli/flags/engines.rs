//! The command lines of container engines, each with what it is to be understood as.

use super::tests::{error, line, run, shown};
use super::*;

/// What engines run, and what is to be understood: global flags, command, its flags, positionals.
const ENGINES: &[(&str, &str, &str, &str, &str)] = &[
    // conmon
    (
        "--systemd-cgroup --log-format=json --log=/l create --bundle /b --pid-file /p --no-pivot \
         --no-new-keyring --console-socket /s c1",
        "systemd-cgroup log-format=json log=/l",
        "create",
        "bundle=/b pid-file=/p no-pivot no-new-keyring console-socket=/s",
        "c1",
    ),
    (
        "restore --bundle /b --pid-file /p --detach --image-path /i --work-path /b \
         --tcp-established --console-socket /s c1",
        "",
        "restore",
        "bundle=/b pid-file=/p detach image-path=/i work-path=/b tcp-established console-socket=/s",
        "c1",
    ),
    (
        "exec --pid-file /p --process /q --detach --tty --console-socket /s c1",
        "",
        "exec",
        "pid-file=/p process=/q detach tty console-socket=/s",
        "c1",
    ),
    // podman
    ("--cgroup-manager=disabled start c1", "cgroup-manager=disabled", "start", "", "c1"),
    ("--root=/r --rootless=true start c1", "root=/r rootless=true", "start", "", "c1"),
    ("kill c1 15", "", "kill", "", "c1 15"),
    ("kill --all c1 9", "", "kill", "all", "c1 9"),
    ("delete --force c1", "", "delete", "force", "c1"),
    ("pause c1", "", "pause", "", "c1"),
    ("resume c1", "", "resume", "", "c1"),
    ("update --resources=/f c1", "", "update", "resources=/f", "c1"),
    (
        "checkpoint --image-path /i --work-path /w --leave-running --tcp-established \
         --ext-unix-sk --file-locks --pre-dump --parent-path ../x c1",
        "",
        "checkpoint",
        "image-path=/i work-path=/w leave-running tcp-established ext-unix-sk file-locks pre-dump \
         parent-path=../x",
        "c1",
    ),
    // buildah
    ("--systemd-cgroup create --bundle /b --pid-file /p c1", "systemd-cgroup", "create", "bundle=/b pid-file=/p", "c1"),
    ("state c1", "", "state", "", "c1"),
    ("delete c1", "", "delete", "", "c1"),
    // buildkit
    ("--log /l --log-format json run --bundle /b --keep c1", "log=/l log-format=json", "run", "bundle=/b keep", "c1"),
    // CRI-O
    ("--root /r --systemd-cgroup state c1", "root=/r systemd-cgroup", "state", "", "c1"),
    ("--root=/r kill c1 SIGTERM", "root=/r", "kill", "", "c1 SIGTERM"),
    ("--root /r kill -a c1 KILL", "root=/r", "kill", "all", "c1 KILL"),
    ("--root /r update --resources - c1", "root=/r", "update", "resources=-", "c1"),
    ("--root /r exec --process /p c1", "root=/r", "exec", "process=/p", "c1"),
    ("checkpoint --file-locks c1", "", "checkpoint", "file-locks", "c1"),
    ("features", "", "features", "", ""),
    // containerd by go-runc
    (
        "--root /run/k8s.io --log /b/log.json --log-format json --systemd-cgroup create --bundle \
         /b --pid-file /b/init.pid --console-socket /s --pidfd-socket /f --no-pivot \
         --no-new-keyring --preserve-fds 2 c1",
        "root=/run/k8s.io log=/b/log.json log-format=json systemd-cgroup",
        "create",
        "bundle=/b pid-file=/b/init.pid console-socket=/s pidfd-socket=/f no-pivot \
         no-new-keyring preserve-fds=2",
        "c1",
    ),
    ("--debug --rootless=false start c1", "debug rootless=false", "start", "", "c1"),
    (
        "exec --process /p --console-socket /s --detach --pid-file /f --pidfd-socket /g c1",
        "",
        "exec",
        "process=/p console-socket=/s detach pid-file=/f pidfd-socket=/g",
        "c1",
    ),
    ("ps --format json c1", "", "ps", "format=json", "c1"),
    ("ps --format table c1 -o pid,comm", "", "ps", "format=table", "c1 -o pid,comm"),
    ("update --resources=- c1", "", "update", "resources=-", "c1"),
    (
        "checkpoint --tcp-established --ext-unix-sk --shell-job --file-locks \
         --manage-cgroups-mode soft --empty-ns network --lazy-pages --status-fd 5 --page-server \
         a:1 c1",
        "",
        "checkpoint",
        "tcp-established ext-unix-sk shell-job file-locks manage-cgroups-mode=soft \
         empty-ns=network lazy-pages status-fd=5 page-server=a:1",
        "c1",
    ),
    (
        "restore --image-path /i --detach --pid-file /p --console-socket /s -no-subreaper \
         --no-pivot --bundle /b c1",
        "",
        "restore",
        "image-path=/i detach pid-file=/p console-socket=/s no-subreaper no-pivot bundle=/b",
        "c1",
    ),
    ("events --stats c1", "", "events", "stats", "c1"),
    ("events --interval=5s c1", "", "events", "interval=5s", "c1"),
    ("list --format=json", "", "list", "format=json", ""),
];

#[test]
fn what_engines_run_is_understood() {
    for &(text, global, command, values, args) in ENGINES {
        let parsed = run(text);
        let got = (shown(&parsed.global), parsed.command.name, shown(&parsed.values));
        assert_eq!(got, (global.to_owned(), command, values.to_owned()), "{text}");
        assert_eq!(parsed.args.join(" "), args, "{text}");
    }
}

#[test]
fn what_engines_probe_gets_the_answer_they_look_for() {
    assert!(matches!(line("--version"), Ok(Outcome::Version)));
    let Ok(Outcome::Help(Some(command))) = line("checkpoint --help") else { panic!("no help") };
    assert_eq!(command.name, "checkpoint");
    let (text, code) = error("restore --lsm-mount-context");
    assert!(text.contains("flag needs an argument: --lsm-mount-context"), "{text}");
    assert_eq!(code, 1);
}
