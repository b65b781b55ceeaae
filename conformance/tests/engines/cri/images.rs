//! The images that critest asks a registry for, made of busybox: each has of the original what the tests look at.

use std::fs;
use std::process::Command;

use conformance::image::Image;
use serde_json::json;

/// The image of the pods' own containers.
pub(crate) const SANDBOX: &str = "registry.k8s.io/pause:proa";

/// Where Kubernetes keeps images for tests of many kinds.
const E2E: &str = "registry.k8s.io/e2e-test-images";
/// Where cri-tools keeps its own.
const OWN: &str = "gcr.io/k8s-staging-cri-tools";

/// All of them.
pub(crate) fn all() -> Vec<Image> {
    let mut images = vec![
        // A sandbox is another image than the `pause` that tests pull and remove, or it would be removed with it.
        pause(SANDBOX),
        // The same image from two registries.
        pause("registry.k8s.io/pause:3.9").file("3.9", 0o644, b""),
        busybox(&format!("{E2E}/busybox:1.29-2")),
        web_server(&format!("{E2E}/nginx:1.14-2"), 80),
        web_server(&format!("{E2E}/httpd:2.4.39-4"), 80),
        web_server(&format!("{OWN}/hostnet-nginx-{}:latest", go_arch()), 12003),
        effective_uid(&format!("{E2E}/nonewprivs:1.3")),
        predefined_group(&format!("{OWN}/test-image-predefined-group:latest")),
    ];
    let users =
        [("uid", "1002"), ("username", "www-data"), ("uid-group", "1003:1004"), ("username-group", "www-data:1004")];
    for (kind, user) in users {
        images.push(Image::new(&format!("{OWN}/test-image-user-{kind}:latest")).user(user));
    }
    for name in ["1:latest", "2:latest", "3:latest", "latest:latest", "tag:test", "tag:all"] {
        let image = Image::new(&format!("{OWN}/test-image-{name}"));
        images.push(image.file(&format!("test-image-{}", name.replace(':', "-")), 0o644, b""));
    }
    for tag in 1..=3 {
        images.push(Image::new(&format!("{OWN}/test-image-tags:{tag}")).file("same-image", 0o644, b""));
    }
    images
}

fn go_arch() -> &'static str {
    if cfg!(target_arch = "aarch64") { "arm64" } else { "amd64" }
}

fn pause(name: &str) -> Image {
    Image::new(name).cmd(&["tail", "-f", "/dev/null"])
}

/// busybox as its makers distribute it. Debian's lacks some applets, and its shell runs an applet without looking at the
/// file that bears its name, which a test covers; dash does look, but names the line in its message.
fn busybox(name: &str) -> Image {
    let sh = b"#!/usr/bin/dash\n\
        [ \"$*\" = '-c ls' ] || exec /usr/bin/dash \"$@\"\n\
        ls 2>/tmp/said; status=$?\n\
        sed 's/: [0-9]*: /: /' /tmp/said >&2; exit $status\n";
    let programs = ["/usr/bin/dash", "/usr/bin/pgrep", "/usr/bin/ipcs"];
    let image = programs.iter().fold(Image::new(name), |image, program| with_program(image, program, 0o755));
    image.file("bin/sh", 0o755, sh).env("PATH=/bin:/usr/bin")
}

/// Adds a program of this root's with its libraries.
fn with_program(mut image: Image, program: &str, mode: u32) -> Image {
    let libraries = Command::new("ldd").arg(program).output().expect("cannot run ldd").stdout;
    let libraries = String::from_utf8_lossy(&libraries).into_owned();
    let libraries = libraries.split_whitespace().filter(|word| word.starts_with('/')).map(|path| (path, 0o755));
    for (path, mode) in std::iter::once((program, mode)).chain(libraries) {
        let data = fs::read(path).unwrap_or_else(|error| panic!("cannot read {path}: {error}"));
        image = image.file(&path[1..], mode, &data);
    }
    image
}

/// A process that is known by the name `nginx`, has `master process` among its arguments and its pid in
/// /var/run/nginx.pid, prints `httpd`, and serves a page.
fn web_server(name: &str, port: u16) -> Image {
    // As the init of a pid namespace, it gets only the signals that it has a trap for.
    let script = format!(
        "#!/bin/sh\ntrap 'exit 0' TERM QUIT\necho httpd\nmkdir -p /var/run\necho $$ >/var/run/nginx.pid\n\
         httpd -f -p {port} -h /srv &\nwait\n"
    );
    Image::new(name)
        .file("srv/index.html", 0o644, b"<h1>Welcome to nginx!</h1>\n")
        .file("usr/sbin/nginx", 0o755, script.as_bytes())
        .entrypoint(&["/usr/sbin/nginx", "master process"])
        .with("StopSignal", json!("SIGQUIT"))
}

/// Tells the effective user of a program that has the set-user-ID bit and belongs to root. busybox gives that up, so
/// it is this root's own `id`, with its libraries.
fn effective_uid(name: &str) -> Image {
    let say = "echo \"Effective uid: $(/usr/bin/id -u)\"";
    with_program(Image::new(name).cmd(&["sh", "-c", say]), "/usr/bin/id", 0o4755)
}

/// The user 1000, who is in the group 50000.
fn predefined_group(name: &str) -> Image {
    Image::new(name)
        .file("etc/passwd", 0o644, b"root:x:0:0:root:/root:/bin/sh\ndefault-user:x:1000:1000::/home/guest:/bin/sh\n")
        .file("etc/group", 0o644, b"root:x:0:\ndefault-user:x:1000:\ngroup-defined-in-image:x:50000:default-user\n")
        .user("1000")
}
