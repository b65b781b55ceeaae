//! A root made of layers, by annotations of proa's.

use std::fs;
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown, symlink};
use std::path::{Path, PathBuf};

use conformance::bundle::Bundle;
use conformance::look;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::sys::stat::{Mode, SFlag, makedev, mknod};
use serde_json::json;

crate::cases! {
    "" => layers_lie_over_each_other,
    "" => what_is_written_stays_in_the_bundle,
    "" => without_a_writable_directory,
    "" => a_single_layer,
    "" => many_layers,
    "" => nothing_is_mounted_on_the_host,
    "" => a_user_namespace_sees_its_own_ids,
    "" => a_user_namespace_without_mapped_ids,
    "" => root_of_a_user_namespace,
    "" => without_the_new_mount_calls,
    "" => without_pivot_root,
    "" => one_container_at_a_time_writes,
    "" => hooks_find_the_bundle,
    "" => options_of_overlayfs,
    "" => what_cannot_be_a_layer,
    "" => other_runtimes_refuse_it,
}

const LAYERS: &str = "io.github.proa.root.layers";
const WRITABLE: &str = "io.github.proa.root.writable";
const OPTIONS: &str = "io.github.proa.root.overlay-options";

/// A bundle whose root is busybox below the directories given, the topmost last, and a writable one.
fn bundle(t: &Test<'_>, above: &[&Path]) -> Bundle {
    let mut bundle = t.bundle();
    let base = bundle.path.join("base");
    fs::rename(bundle.rootfs(), &base).expect("cannot move the root");
    let mut layers: Vec<String> = above.iter().rev().map(|layer| layer.display().to_string()).collect();
    layers.push(base.display().to_string());
    bundle.config["root"]["readonly"] = json!(false);
    for name in ["writable/upper", "writable/work"] {
        fs::create_dir_all(bundle.path.join(name)).expect("cannot make a directory");
    }
    bundle.set("annotations", json!({LAYERS: layers.join(":"), WRITABLE: "writable"}));
    bundle
}

fn read_only(bundle: &mut Bundle) {
    bundle.config["annotations"].as_object_mut().expect("annotations").remove(WRITABLE);
    bundle.config["root"]["readonly"] = json!(true);
}

/// A directory with a file of that content.
fn layer(t: &Test<'_>, name: &str, file: &str, text: &str) -> PathBuf {
    let dir = t.make_dir(name);
    fs::write(dir.join(file), text).expect("cannot write");
    dir
}

fn whiteout(path: &Path) {
    mknod(path, SFlag::S_IFCHR, Mode::empty(), makedev(0, 0)).expect("cannot make a whiteout");
}

fn layers_lie_over_each_other(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let below = layer(t, "below", "one", "below\n");
    fs::write(below.join("gone"), "").expect("cannot write");
    let above = layer(t, "above", "one", "above\n");
    whiteout(&above.join("gone"));
    let mut bundle = bundle(t, &[&below, &above]);
    let text = t.sh(&mut bundle, "cat /one; ls /gone 2>/dev/null || echo hidden; sed -n 's/.* \\/ \\/ .* - \\([^ ]*\\) .*/\\1/p' /proc/self/mountinfo");
    assert_eq!(text, "above\nhidden\noverlay\n");
    Ok(())
}

fn what_is_written_stays_in_the_bundle(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let below = layer(t, "below", "file", "below\n");
    fs::create_dir(below.join("dir")).expect("cannot make a directory");
    fs::write(below.join("dir/old"), "").expect("cannot write");
    let mut bundle = bundle(t, &[&below]);
    t.sh(&mut bundle, "echo more >>/file; rm -r /dir; mkdir /dir; touch /dir/new; mv /etc/passwd /etc/passwd2");
    assert_eq!(fs::read_to_string(below.join("file")).expect("a file"), "below\n");
    assert!(below.join("dir/old").exists());
    let upper = bundle.path.join("writable/upper");
    assert_eq!(fs::read_to_string(upper.join("file")).expect("no copy was made"), "below\nmore\n");
    // The next container of the bundle goes on from there.
    let text = t.sh(&mut bundle, "cat /file; ls /dir; ls /etc/passwd 2>/dev/null || head -c 4 /etc/passwd2");
    assert_eq!(text, "below\nmore\nnew\nroot");
    Ok(())
}

fn without_a_writable_directory(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let above = layer(t, "above", "one", "above\n");
    let mut bundle = bundle(t, &[&above]);
    read_only(&mut bundle);
    let text = t.sh(&mut bundle, "cat /one; touch /new 2>/dev/null || echo read-only");
    assert_eq!(text, "above\nread-only\n");
    bundle.config["root"]["readonly"] = json!(false);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "root.readonly: has to be true without");
    Ok(())
}

fn a_single_layer(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let mut one = bundle(t, &[]);
    assert_eq!(t.sh(&mut one, "echo x >/new; cat /new"), "x\n");
    read_only(&mut one);
    assert_eq!(t.sh(&mut one, "ls /new 2>/dev/null; touch /new 2>/dev/null || echo read-only"), "read-only\n");
    Ok(())
}

fn many_layers(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let name = "a-directory-with-a-name-that-is-long-enough-for-a-page-not-to-hold-all-of-their-paths";
    let layers: Vec<PathBuf> = (0..128).map(|n| layer(t, &format!("{name}-{n}"), &format!("f{n}"), "")).collect();
    let layers: Vec<&Path> = layers.iter().map(PathBuf::as_path).collect();
    let mut many = bundle(t, &layers);
    assert_eq!(t.sh(&mut many, "ls / | grep -c '^f[0-9]'"), "128\n");
    let mut mapped = bundle(t, &layers);
    user_namespace(&mut mapped);
    assert_eq!(t.sh(&mut mapped, "ls / | grep -c '^f[0-9]'"), "128\n");
    Ok(())
}

fn nothing_is_mounted_on_the_host(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let mut bundle = bundle(t, &[]);
    bundle.args(&["/bin/sleep", "1000"]);
    let container = t.start(&bundle);
    let overlays =
        || look::mounts(std::process::id().cast_signed()).iter().filter(|mount| mount.fs_type == "overlay").count();
    let before = overlays();
    // Killed, with no chance to tidy up.
    container.murder();
    assert_eq!(overlays(), before);
    let text = fs::read_to_string("/proc/self/mountinfo").expect("no mountinfo");
    assert!(!text.contains(bundle.path.to_str().expect("a path")), "{text}");
    Ok(())
}

/// As `bundle create --userns` makes them: layers with the host's ids, what is written with the container's.
fn user_namespace(bundle: &mut Bundle) {
    new_ids(bundle);
    bundle.config["annotations"]["io.github.proa.root.mapped-ids"] = json!("idmap");
    for name in ["writable/upper", "writable/work"] {
        chown(bundle.path.join(name), Some(100_000), Some(100_000)).expect("cannot chown");
    }
}

fn new_ids(bundle: &mut Bundle) {
    let ids = json!([{"containerID": 0, "hostID": 100_000, "size": 65536}]);
    bundle.namespace("user", None).linux("uidMappings", ids.clone()).linux("gidMappings", ids);
}

fn a_user_namespace_sees_its_own_ids(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let above = layer(t, "above", "one", "x\n");
    chown(above.join("one"), Some(7), Some(8)).expect("cannot chown");
    // Its root may not be able to walk there.
    fs::set_permissions(&above, fs::Permissions::from_mode(0o700)).expect("cannot chmod");
    let mut bundle = bundle(t, &[&above]);
    user_namespace(&mut bundle);
    bundle.capabilities(&["CAP_DAC_OVERRIDE"]);
    fs::set_permissions(above, fs::Permissions::from_mode(0o755)).expect("cannot chmod");
    let text = t.sh(&mut bundle, "stat -c %u:%g /one /bin; touch /one; touch /new; stat -c %u:%g /one /new");
    assert_eq!(text, "7:8\n0:0\n7:8\n0:0\n");
    let upper = |name: &str| fs::metadata(bundle.path.join("writable/upper").join(name)).expect("nothing written");
    assert_eq!((upper("new").uid(), upper("one").uid(), upper("one").gid()), (100_000, 100_007, 100_008));
    read_only(&mut bundle);
    assert_eq!(t.sh(&mut bundle, "stat -c %u:%g /one; touch /new 2>/dev/null || echo read-only"), "7:8\nread-only\n");
    Ok(())
}

fn a_user_namespace_without_mapped_ids(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let mut bundle = bundle(t, &[]);
    conformance::bundle::give(&bundle.path.join("base"), 100_000);
    new_ids(&mut bundle);
    fs::set_permissions(&bundle.path, fs::Permissions::from_mode(0o700)).expect("cannot chmod");
    assert_eq!(t.sh(&mut bundle, "stat -c %u:%g /bin"), "0:0\n");
    Ok(())
}

/// Nobody there reads the marks of the host's root; those of users it does.
fn root_of_a_user_namespace(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let below = t.make_dir("below");
    fs::create_dir(below.join("dir")).expect("cannot make a directory");
    fs::write(below.join("dir/hidden"), "").expect("cannot write");
    let above = t.make_dir("above");
    fs::create_dir(above.join("dir")).expect("cannot make a directory");
    let marked = std::process::Command::new("python3")
        .args(["-c", "import os,sys; os.setxattr(sys.argv[1], 'user.overlay.opaque', b'y')"])
        .arg(above.join("dir"))
        .status();
    t.needs(marked.is_ok_and(|status| status.success()), "a file system with user attributes, and python3")?;
    let mut bundle = bundle(t, &[&below, &above]);
    conformance::bundle::give(&bundle.path, 1234);
    for dir in [&below, &above] {
        conformance::bundle::give(dir, 1234);
    }
    bundle.namespace("user", None);
    let ids = json!([{"containerID": 0, "hostID": 1234, "size": 1}]);
    bundle.linux("uidMappings", ids.clone()).linux("gidMappings", ids);
    bundle.mount_at("/dev/pts")["options"] = json!(["newinstance", "ptmxmode=0666", "mode=0620"]);
    fs::create_dir_all(&t.runtime.root).expect("cannot make the state root");
    chown(&t.runtime.root, Some(1234), Some(1234)).expect("cannot chown");
    bundle.sh("ls /dir; rm -r /dir; mkdir /dir; touch /new; stat -c %u /new");
    let call = t.run_call(&bundle, &t.id());
    let output = call.wrapper(&["setpriv", "--reuid=1234", "--regid=1234", "--clear-groups", "--"]).output().ok();
    assert_eq!(output.stdout(), "0\n");
    assert_eq!(fs::metadata(bundle.path.join("writable/upper/new")).expect("nothing written").uid(), 1234);
    Ok(())
}

fn without_the_new_mount_calls(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let deny = t.helper("deny");
    let above = layer(t, "above", "one", "above\n");
    for errno in ["ENOSYS", "EPERM"] {
        let mut bundle = bundle(t, &[&above]);
        bundle.sh("cat /one; echo x >/new; sed -n 's/.* \\/ \\/ .* - \\([^ ]*\\) .*/\\1/p' /proc/self/mountinfo");
        let call = t.run_call(&bundle, &t.id());
        let names = "fsopen,fsconfig,fsmount,open_tree,move_mount";
        let output = call.wrapper(&[deny.as_os_str(), errno.as_ref(), names.as_ref(), "--".as_ref()]).output().ok();
        assert_eq!(output.stdout(), "above\noverlay\n", "{errno}");
        assert!(bundle.path.join("writable/upper/new").exists(), "{errno}");
    }
    Ok(())
}

fn without_pivot_root(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let mut bundle = bundle(t, &[]);
    bundle.sh("echo x >/new; cat /new");
    let output = t.run_call(&bundle, &t.id()).arg("--no-pivot").output().ok();
    assert_eq!(output.stdout(), "x\n");
    Ok(())
}

fn one_container_at_a_time_writes(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let mut bundle = bundle(t, &[]);
    bundle.args(&["/bin/sleep", "1000"]);
    let first = t.start(&bundle);
    let output = t.run_call(&bundle, &t.id()).output().fails();
    t.proa_says(&output, &format!("annotations[{WRITABLE:?}]: the container whose init is process"));
    first.murder();
    t.start(&bundle).murder();
    Ok(())
}

fn hooks_find_the_bundle(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let mut bundle = bundle(t, &[]);
    let hook = bundle.path.join("hook");
    conformance::bundle::write_script(&hook, "cat >\"$(dirname \"$0\")/said\"");
    bundle.set("hooks", json!({"createContainer": [{"path": hook}]}));
    bundle.sh("true");
    t.run(&bundle).ok();
    let said = fs::read_to_string(bundle.path.join("said")).expect("the hook has said nothing");
    assert!(said.contains(bundle.path.to_str().expect("a path")), "{said}");
    Ok(())
}

fn options_of_overlayfs(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let mut bundle = bundle(t, &[]);
    bundle.config["annotations"][OPTIONS] = json!("volatile,redirect_dir=on");
    let text = t.sh(&mut bundle, "for word in redirect_dir=on volatile; do grep -o $word /proc/self/mountinfo; done");
    assert_eq!(text, "redirect_dir=on\nvolatile\n");
    // A root that was volatile before is one again.
    assert_eq!(t.sh(&mut bundle, "echo again"), "again\n");
    for word in ["lowerdir=/", "upperdir=/etc", "userxattr", "volatile,", "context=x", "metacopy"] {
        bundle.config["annotations"][OPTIONS] = json!(word);
        let output = t.refuses(&bundle);
        t.proa_says(&output, &format!("annotations[{OPTIONS:?}]"));
    }
    Ok(())
}

fn what_cannot_be_a_layer(t: &Test<'_>) -> Done {
    t.proa_only("annotations of proa's")?;
    let file = t.make_file("file", "");
    let link = t.file("link");
    symlink("/", &link).expect("cannot link");
    let text = |path: &Path| path.display().to_string();
    let dir = text(&t.make_dir("dir"));
    for (layers, problem) in [
        ("relative".to_owned(), "no absolute path"),
        (String::new(), "no absolute path"),
        ("/".to_owned(), "no absolute path"),
        (format!("{dir}/../dir"), "no absolute path"),
        (format!("{dir}:"), "no absolute path"),
        (text(&t.file("missing")), "no such file or directory"),
        (text(&file), "no directory"),
        (vec![dir.clone(); 501].join(":"), "501 layers"),
    ] {
        let mut bundle = bundle(t, &[]);
        bundle.config["annotations"][LAYERS] = json!(layers);
        let output = t.refuses(&bundle);
        t.proa_says(&output, &format!("annotations[{LAYERS:?}]"));
        t.proa_says(&output, problem);
    }
    for (writable, problem) in
        [("", "is empty"), ("missing", "no such file or directory"), ("config.json", "not a directory")]
    {
        let mut bundle = bundle(t, &[]);
        bundle.config["annotations"][WRITABLE] = json!(writable);
        let output = t.refuses(&bundle);
        t.proa_says(&output, &format!("annotations[{WRITABLE:?}]"));
        t.proa_says(&output, problem);
    }
    // A link in the place of what is written into must not lead elsewhere.
    let mut linked = bundle(t, &[]);
    fs::remove_dir(linked.path.join("writable/upper")).expect("cannot remove");
    symlink(&dir, linked.path.join("writable/upper")).expect("cannot link");
    let output = t.refuses(&linked);
    t.proa_says(&output, "mount the overlay");
    linked.config["annotations"].as_object_mut().expect("annotations").remove(LAYERS);
    let output = t.refuses(&linked);
    t.proa_says(&output, &format!("without annotations[{LAYERS:?}]"));
    let mut with_peers = bundle(t, &[]);
    with_peers.linux("rootfsPropagation", json!("shared"));
    let output = t.refuses(&with_peers);
    t.proa_says(&output, "linux.rootfsPropagation");
    let mut shared = bundle(t, &[]);
    shared.without_namespace("mount");
    let output = t.refuses(&shared);
    t.proa_says(&output, "needs a mount namespace");
    Ok(())
}

/// Other runtimes know no layers, and find no root.
fn other_runtimes_refuse_it(t: &Test<'_>) -> Done {
    t.needs(!t.is(Kind::Proa), "another runtime")?;
    let mut bundle = bundle(t, &[]);
    bundle.sh("true");
    t.refuses(&bundle);
    Ok(())
}
