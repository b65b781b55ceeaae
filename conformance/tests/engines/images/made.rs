//! Images that other tools have made, of trees with all that a file system has: unpacked as umoci unpacks them.

use std::path::Path;
use std::time::Duration;

use conformance::image::{BUSYBOX, Image};
use conformance::look;
use conformance::test::{Done, Skip};
use conformance::tree::Tree;

use super::{Test, call, merged, same, script};
use crate::command::{Call, Running};

crate::cases! {
    umoci_inserts,
    umoci_repacks,
    tars_with_holes,
    buildah_commits,
    podman_saves,
    docker_builds_and_saves,
}

/// Makes a tree with all kinds of files below `$R`.
const TREE: &str = r#"
cd "$R"
mkdir -p etc usr/bin usr/lib var/empty opt/deep/er
ln -s usr/bin bin
echo root:x:0:0::/:/bin/sh >etc/passwd
cp /usr/bin/busybox usr/bin/busybox; ln usr/bin/busybox usr/bin/sh
cp /usr/bin/busybox usr/bin/ping; setcap cap_net_raw+ep usr/bin/ping
cp /usr/bin/busybox usr/bin/su; chmod 4755 usr/bin/su
chown 33:44 var/empty; chmod 2770 var/empty
mkfifo var/fifo; mknod var/null c 1 3; mknod var/disk b 8 3
echo x >opt/deep/er/file; ln opt/deep/er/file opt/link; ln -s ../link opt/deep/symbolic
python3 -c 'import os; os.setxattr("opt/link", "user.note", b"text"); os.setxattr("opt", "user.dir", b"\0\1")'
truncate -s 3M opt/holes; echo data | dd of=opt/holes bs=1 seek=1000000 conv=notrunc status=none
name=$(printf 'n%.0s' $(seq 200)); echo long >"opt/$name"
touch -d '1960-05-05 05:05:05.123456789' opt/old; touch -d '2030-01-01 00:00:00.000000001' opt/new
touch -h -d '2001-01-01' bin
find . -exec touch -h -c -d '2020-02-02 02:02:02.222222222' {} + ; touch -d '1960-05-05 05:05:05.125' opt/old
"#;

/// Changes that tree as time goes by.
const CHANGES: [&str; 4] = [
    r#"rm opt/deep/er/file; echo y >opt/deep/er/other; mkdir opt/deep/new; touch opt/deep/new/{a,b}; echo more >>etc/passwd"#,
    r#"rm -r opt/deep; echo 'a file' >opt/deep; ln usr/bin/su usr/bin/sudo; chmod 711 var/empty; rm var/fifo; mkdir var/fifo"#,
    r#"rm opt/deep; mkdir opt/deep; echo z >opt/deep/z; rm bin; mkdir bin; echo tool >bin/tool; rm -r var/empty; ln -s /etc var/empty"#,
    r#"rm -r bin; ln -s usr/bin bin; mv opt/link opt/moved; rm -r var; mkdir var; setcap -r usr/bin/ping; touch -d '1999-09-09' opt"#,
];

fn umoci_inserts() -> Done {
    let t = Test::begin();
    script(&format!("export R={}; mkdir $R; {TREE}", t.text("tree")));
    let (layout, tree) = (t.text("layout"), t.text("tree"));
    let image = format!("{layout}:made");
    let umoci = |words: &[&str]| call("umoci", words).ok();
    umoci(&["init", "--layout", &layout]);
    umoci(&["new", "--image", &image]);
    umoci(&["insert", "--image", &image, &tree, "/"]);
    umoci(&["insert", "--image", &image, &format!("{tree}/opt"), "/etc/opt"]);
    umoci(&["insert", "--image", &image, "--whiteout", "/opt/deep"]);
    umoci(&["insert", "--image", &image, "--opaque", &format!("{tree}/etc"), "/etc"]);
    umoci(&["insert", "--image", &image, &format!("{tree}/etc/passwd"), "/bin/inserted"]);
    umoci(&["insert", "--image", &image, "--whiteout", "/usr/bin/su"]);
    umoci(&["config", "--image", &image, "--config.cmd", "true", "--config.env", "A=b"]);
    t.create(&image, &[], "b").run().ok();
    t.same("b", &format!("oci:{image}"));
    Ok(())
}

fn umoci_repacks() -> Done {
    let t = Test::begin();
    script(&format!(
        "cd {}; umoci init --layout l; umoci new --image l:0; umoci unpack --image l:0 u; export R=$PWD/u/rootfs; ( {TREE} ); \
         umoci repack --image l:0 u",
        t.text(".")
    ));
    for (number, change) in CHANGES.iter().enumerate() {
        script(&format!(
            "cd {}; rm -rf u; umoci unpack --image l:0 u; ( cd u/rootfs; {change} ); umoci repack --image l:0 u",
            t.text(".")
        ));
        let (image, bundle) = (format!("{}:0", t.text("l")), format!("b{number}"));
        t.create(&image, &["--entrypoint", "true"], &bundle).run().ok();
        t.same(&bundle, &format!("oci:{image}"));
    }
    t.is_tidy();
    Ok(())
}

fn tars_with_holes() -> Done {
    let t = Test::begin();
    let dir = t.text(".");
    script(&format!(
        "cd {dir}; mkdir r; cd r; mkdir holes; truncate -s 5M holes/empty; \
         for n in 1 2 3 4 5 6 7 8 9 10 11 12 13 14 15 16 17 18 19 20 21 22 23 24 25 26 27 28 29 30; do \
         echo $n | dd of=holes/many bs=1 seek=${{n}}00000 conv=notrunc status=none; done; \
         echo begin >holes/begins; truncate -s 1M holes/begins; \
         name=$(printf 'n%.0s' $(seq 150)); cp --sparse=always holes/many holes/$name; \
         find . -exec touch -d 2020-01-01 {{}} +"
    ));
    for (name, format) in [
        ("gnu", "gnu"),
        ("oldgnu", "oldgnu"),
        ("pax00", "posix --sparse-version=0.0"),
        ("pax01", "posix --sparse-version=0.1"),
        ("pax10", "posix --sparse-version=1.0"),
    ] {
        script(&format!("cd {dir}/r; tar -S --format={format} -cf ../{name}.tar ."));
        let tar = std::fs::read(t.path(&format!("{name}.tar"))).expect("a tar");
        let layout = conformance::layout::Layout::new([conformance::layout::Layer::plain(tar)]);
        let bundle = t.bundle_of(&layout, name);
        // umoci does not know all of them.
        same(&merged(&bundle), &Tree::of(&t.path("r")));
    }
    Ok(())
}

fn buildah_commits() -> Done {
    let t = Test::begin();
    let dir = t.text(".");
    let long = |text: String| {
        Call::new("bash", &["-euc", &format!("cd {dir}; export BUILDAH_ISOLATION=chroot; {text}")])
            .within(Duration::from_secs(180))
            .run()
            .ok()
    };
    long(format!(
        "export R={dir}/tree; mkdir $R; ( {TREE} ); c=$(buildah from --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 scratch); buildah copy -q $c tree / ; \
         buildah config --cmd '[\"/bin/busybox\", \"true\"]' $c; buildah commit -q $c first; \
         buildah run $c sh -c 'rm /opt/deep/er/file; rm /var/fifo; echo x >/opt/made; ln /opt/made /opt/again'; \
         buildah commit -q $c second; \
         d=$(buildah from --ulimit nofile=1000:1000 --ulimit nproc=1000:1000 second); buildah run $d sh -c 'rm -r /opt/deep; mkdir /opt/deep; echo y >/opt/deep/y; \
         chmod 700 /usr/lib; mv /etc /was; ln -s was /etc'; \
         buildah commit -q $d oci:layout:third; buildah commit -q $d docker-archive:third.tar:localhost/third:1; \
         buildah commit -q $d third; buildah push -q --disable-compression third oci:plain:third; buildah rm -a >/dev/null"
    ));
    for (name, transport) in
        [("layout", "oci:layout:third"), ("third.tar", "docker-archive:third.tar"), ("plain", "oci:plain:third")]
    {
        t.create(&t.text(name), &[], &format!("{name}.b")).run().ok();
        let (kind, rest) = transport.split_once(':').expect("a transport");
        t.same(&format!("{name}.b"), &format!("{kind}:{dir}/{rest}"));
        assert_eq!(t.run(&format!("{name}.b")).ok().err, "");
    }
    Ok(())
}

fn podman_saves() -> Done {
    let t = Test::begin();
    Image::new(BUSYBOX).file("etc/more", 0o640, b"x").write(&t.path("image.tar"));
    let podman = |words: &[&str]| call("podman", words).ok();
    podman(&["load", "-q", "-i", &t.text("image.tar")]);
    for format in ["docker-archive", "oci-archive", "oci-dir"] {
        podman(&["save", "-q", "--format", format, "-o", &t.text(format), BUSYBOX]);
        t.create(&t.text(format), &[], &format!("{format}.b")).run().ok();
        let transport = if format == "oci-dir" { "oci" } else { format };
        t.same(&format!("{format}.b"), &format!("{transport}:{}", t.text(format)));
    }
    podman(&["rmi", "-f", BUSYBOX]);
    Ok(())
}

/// The daemon, with what comes with it.
fn dockerd() -> Result<Running, Skip> {
    let mut running = Call::new("dockerd", &[]).start("/var/log/dockerd");
    let answers = look::eventually_within(Duration::from_secs(60), || {
        call("docker", &["version"]).success() || !running.is_running()
    });
    if !answers || !running.is_running() {
        return Err(Skip(format!("dockerd does not answer: {}", running.log())));
    }
    Ok(running)
}

fn docker_builds_and_saves() -> Done {
    let t = Test::begin();
    let _daemon = dockerd()?;
    let dir = t.text(".");
    script(&format!("mkdir -p {dir}/context/tree; export R={dir}/context/tree; {TREE} rm var/fifo var/null var/disk"));
    let build = "FROM scratch\nCOPY tree /\nRUN [\"/bin/sh\", \"-c\", \"rm /opt/deep/er/file; echo x >/opt/made; ln /opt/made /opt/again\"]\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox rm -r /opt/deep; /bin/busybox mkdir /opt/deep; /bin/busybox mknod /var/null c 1 3; /bin/busybox mkfifo /var/fifo\"]\n\
         RUN [\"/bin/busybox\", \"sh\", \"-c\", \"/bin/busybox mv /etc/passwd /etc/was; /bin/busybox chmod 700 /usr/lib\"]\nCMD [\"true\"]\n"
        .replace("\"rm /opt", "\"/bin/busybox rm /opt")
        .replace("; ln /opt", "; /bin/busybox ln /opt");
    std::fs::write(Path::new(&dir).join("context/Dockerfile"), build).expect("cannot write");
    for (name, buildkit) in [("classic", "0"), ("buildx", "1")] {
        let context = format!("{dir}/context");
        Call::new("docker", &["build", "-q", "-t", &format!("local/{name}:1"), &context])
            .env("DOCKER_BUILDKIT", buildkit)
            .within(Duration::from_secs(180))
            .run()
            .ok();
        let archive = t.text(&format!("{name}.tar"));
        call("docker", &["save", "-o", &archive, &format!("local/{name}:1")]).ok();
        t.create(&archive, &[], name).run().ok();
        t.same(name, &format!("docker-archive:{archive}"));
        t.create(&format!("{archive}:local/{name}:1"), &[], &format!("{name}.named")).run().ok();
    }
    Ok(())
}
