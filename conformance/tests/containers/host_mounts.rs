//! Containers without a mount namespace: their mounts are the host's, and go with them.

use std::fs;

use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::mount::{MsFlags, mount, umount};
use serde_json::json;

crate::cases! {
    "L-6" => without_a_mount_namespace,
    "" => no_mounts_beside_a_user_namespace_alone,
    "" => no_mounts_of_the_hosts_without_a_mount_namespace,
    "" => mounts_on_the_host_of_a_bundle_that_moved,
}

/// As when any other kind is not listed, the container has that of the runtime: its mounts are there, and go with it.
fn without_a_mount_namespace(t: &Test<'_>) -> Done {
    let me = std::process::id() as i32;
    let mut bundle = t.sleeping_bundle();
    bundle.without_namespace("mount").mount("/m", "tmpfs", "tmpfs", &["size=1m"]);
    bundle.config["linux"]["maskedPaths"] = json!(["/proc/interrupts"]);
    bundle.config["root"]["readonly"] = json!(true);
    let root = bundle.rootfs();
    let below = || look::mounts(me).iter().filter(|mount| mount.mount_point.starts_with(&root)).count();
    let c = t.start(&bundle);
    assert_eq!(look::namespace(c.pid, "mnt"), look::namespace(me, "mnt"));
    if !t.is(Kind::Runc) {
        let text = c
            .sh("touch /m/file && wc -c </proc/interrupts; touch /file 2>/dev/null || echo read-only; ls -d /dev/null");
        assert_eq!(text, "0\nread-only\n/dev/null\n");
        assert!(root.join("m/file").exists(), "not on the host");
    }
    assert!(below() > 5, "{} mounts", below());
    if t.is_proa() {
        // Whose mounts would go with the first one's.
        let (output, before) = (t.create_call(&bundle, &t.id()).output().fails(), below());
        t.proa_says(&output, "is mounted in it");
        assert_eq!(below(), before);
    }
    c.murder();
    c.delete();
    if t.is_proa() {
        assert_eq!(below(), 0, "mounts are left");
    }
    // Nor does what fails leave one.
    bundle.args(&["/no/such/program"]);
    t.refuses(&bundle);
    if t.is_proa() {
        assert_eq!(below(), 0, "mounts are left");
    }
    Ok(())
}

/// What is done to them, masks or the end of the container, would be done to the host.
fn no_mounts_of_the_hosts_without_a_mount_namespace(t: &Test<'_>) -> Done {
    t.proa_only("peers mount them")?;
    let dir = t.make_dir("dir");
    let mut bundle = t.bundle();
    bundle.without_namespace("mount").bind(&dir, "/data", &["rbind"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6]: /data: a mount of what is the host's needs a mount namespace");
    let mut bundle = t.bundle();
    bundle.without_namespace("mount").mount("/data", "tmpfs", "tmpfs", &["rshared"]);
    t.refuses(&bundle);
    // Nor a root that has mounts in it, whose copies would stay in other mount namespaces.
    let mut bundle = t.bundle();
    bundle.without_namespace("mount");
    let below = bundle.inside("/tmp");
    let none = None::<&str>;
    mount(Some("tmpfs"), &below, Some("tmpfs"), MsFlags::empty(), none).expect("cannot mount");
    let output = t.create_call(&bundle, &t.id()).output().fails();
    umount(&below).expect("cannot unmount");
    t.proa_says(&output, "root.path");
    Ok(())
}

fn mounts_on_the_host_of_a_bundle_that_moved(t: &Test<'_>) -> Done {
    t.proa_only("peers leave them")?;
    let me = std::process::id() as i32;
    let before = look::mounts(me).len();
    let mut bundle = t.sleeping_bundle();
    bundle.without_namespace("mount");
    let c = t.start(&bundle);
    let moved = bundle.path.with_file_name("moved");
    fs::rename(&bundle.path, &moved).expect("cannot rename");
    // Something on top is not taken away, and not forgotten either.
    let none = None::<&str>;
    let root = moved.join("rootfs");
    mount(Some("tmpfs"), &root, Some("tmpfs"), MsFlags::empty(), none).expect("cannot mount");
    c.murder();
    let output = c.call("delete").output().fails();
    t.proa_says(&output, "somebody else's");
    umount(&root).expect("cannot unmount");
    c.delete();
    assert_eq!(look::mounts(me).len(), before, "a mount is left");
    Ok(())
}

fn no_mounts_beside_a_user_namespace_alone(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "makes a mount namespace")?;
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).without_namespace("mount");
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts: needs a mount namespace beside a user namespace");
    Ok(())
}
