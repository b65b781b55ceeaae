//! Mounts whose files show mapped ids: `idmap`, `ridmap`, `mounts[].uidMappings`.

use std::fs;
use std::os::unix::fs::{MetadataExt, chown};
use std::path::PathBuf;

use conformance::holder::Holder;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use nix::mount::{MsFlags, mount, umount};
use serde_json::{Value, json};

crate::cases! {
    "C-17" => the_containers_ids,
    "C-17" => ids_of_their_own,
    "C-17" => below_too_only_if_asked,
    "C-14" => one_list_only_with_the_other,
    "" => mappings_alone_map,
    "" => without_a_user_namespace,
    "" => of_a_joined_user_namespace,
    "" => several_mounts_and_mappings,
    "" => the_roots_ids,
    "" => what_cannot_be_mapped,
    "" => faulty_mappings,
    "F-17" => features_says_so,
}

fn map(entries: &[(u32, u32, u32)]) -> Value {
    entries
        .iter()
        .map(|(inside, outside, size)| json!({"containerID": inside, "hostID": outside, "size": size}))
        .collect()
}

/// A directory with a file of that owner.
fn owned(t: &Test<'_>, name: &str, uid: u32, gid: u32) -> PathBuf {
    let dir = t.make_dir(name);
    fs::write(dir.join("file"), "text\n").expect("cannot write");
    for path in [dir.clone(), dir.join("file")] {
        chown(path, Some(uid), Some(gid)).expect("cannot chown");
    }
    dir
}

fn mapped(source: &std::path::Path, destination: &str, options: &[&str], uid: &Value, gid: &Value) -> Value {
    json!({"destination": destination, "source": source, "type": "bind", "options": options, "uidMappings": uid, "gidMappings": gid})
}

fn the_containers_ids(t: &Test<'_>) -> Done {
    // On disk they are plain ids, as the container's root has them; what it writes goes to disk so too.
    let dir = owned(t, "dir", 0, 7);
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).bind(&dir, "/data", &["rbind", "idmap"]);
    bundle.capabilities(&["CAP_CHOWN"]);
    let text = t.sh(&mut bundle, "stat -c %u:%g /data/file; echo x >/data/new; chown 5:6 /data/new");
    assert_eq!(text, "0:7\n");
    let new = fs::metadata(dir.join("new")).expect("nothing written");
    assert_eq!((new.uid(), new.gid()), (5, 6));
    Ok(())
}

fn ids_of_their_own(t: &Test<'_>) -> Done {
    let dir = owned(t, "dir", 1000, 1001);
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000);
    // From the ids on disk to ids of the host: user_namespaces(7) in the words of mount_setattr(2).
    let (uid, gid) = (map(&[(1000, 100_000, 1)]), map(&[(1001, 100_003, 1)]));
    bundle.push("/mounts", mapped(&dir, "/data", &["bind", "idmap"], &uid, &gid));
    assert_eq!(t.sh(&mut bundle, "stat -c %u:%g /data/file"), "0:3\n");
    Ok(())
}

fn below_too_only_if_asked(t: &Test<'_>) -> Done {
    let dir = owned(t, "dir", 0, 0);
    let below = t.make_dir("dir/below");
    let other = owned(t, "other", 0, 0);
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000);
    bundle.bind(&dir, "/one", &["rbind", "idmap"]).bind(&dir, "/all", &["rbind", "ridmap"]);
    bundle.sh("stat -c %u /one/file /one/below/file /all/file /all/below/file");
    mount(Some(&other), &below, None::<&str>, MsFlags::MS_BIND, None::<&str>).expect("cannot bind");
    let output = t.run(&bundle);
    umount(&below).expect("cannot unmount");
    assert_eq!(output.ok().stdout(), "0\n65534\n0\n0\n");
    Ok(())
}

fn one_list_only_with_the_other(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes the container's for the missing one")?;
    let dir = owned(t, "dir", 0, 0);
    for missing in ["uidMappings", "gidMappings"] {
        let mut bundle = t.bundle();
        let lines = map(&[(0, 1000, 10)]);
        let mut mount = mapped(&dir, "/data", &["bind", "idmap"], &lines, &lines);
        mount.as_object_mut().expect("no object").remove(missing);
        bundle.push("/mounts", mount);
        let output = t.refuses(&bundle);
        t.proa_says(&output, &format!("mounts[6].{missing}: missing"));
    }
    Ok(())
}

fn mappings_alone_map(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "maps with the option only")?;
    let dir = owned(t, "dir", 3, 3);
    let lines = map(&[(0, 1000, 10)]);
    let mut bundle = t.bundle();
    bundle.push("/mounts", mapped(&dir, "/data", &["bind"], &lines, &lines));
    assert_eq!(t.sh(&mut bundle, "stat -c %u:%g /data/file"), "1003:1003\n");
    Ok(())
}

fn without_a_user_namespace(t: &Test<'_>) -> Done {
    let dir = owned(t, "dir", 1000, 1000);
    let lines = map(&[(1000, 0, 1)]);
    let mut bundle = t.bundle();
    bundle.push("/mounts", mapped(&dir, "/data", &["bind", "idmap", "ro"], &lines, &lines));
    let text = t.sh(&mut bundle, "stat -c %u:%g /data/file; touch /data/new 2>/dev/null || echo read-only");
    assert_eq!(text, "0:0\nread-only\n");
    // Whose ids there is nothing to say of.
    let mut bundle = t.bundle();
    bundle.bind(&dir, "/data", &["bind", "idmap"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6]: mapped ids need uidMappings and gidMappings, or a user namespace");
    Ok(())
}

fn of_a_joined_user_namespace(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "wants the mappings beside the path")?;
    let holder = Holder::new(&["--user"]);
    for file in ["uid_map", "gid_map"] {
        fs::write(format!("/proc/{}/{file}", holder.pid), "0 100000 1000").expect("cannot map ids");
    }
    let dir = owned(t, "dir", 4, 5);
    let mut bundle = t.bundle();
    fs::create_dir(bundle.inside("/data")).expect("cannot make a directory");
    bundle.namespace("user", Some(&holder.path("user"))).bind(&dir, "/data", &["bind", "idmap"]);
    bundle.config["mounts"][2]["options"] = json!(["newinstance", "ptmxmode=0666", "mode=0620"]);
    assert_eq!(t.sh(&mut bundle, "stat -c %u:%g /data/file"), "4:5\n");
    Ok(())
}

fn several_mounts_and_mappings(t: &Test<'_>) -> Done {
    let dir = owned(t, "dir", 1, 2);
    let mut bundle = t.bundle();
    for first in [1000, 2000] {
        let lines = map(&[(0, first, 10)]);
        bundle.push("/mounts", mapped(&dir, &format!("/{first}"), &["bind", "idmap"], &lines, &lines));
        bundle.push("/mounts", mapped(&dir, &format!("/{first}-again"), &["bind", "idmap"], &lines, &lines));
    }
    bundle.bind(&dir, "/plain", &["bind"]);
    let text = t.sh(&mut bundle, "stat -c %u:%g /1000/file /1000-again/file /2000/file /2000-again/file /plain/file");
    assert_eq!(text, "1001:1002\n1001:1002\n2001:2002\n2001:2002\n1:2\n");
    Ok(())
}

fn the_roots_ids(t: &Test<'_>) -> Done {
    t.proa_only("an annotation of proa's")?;
    let mut bundle = t.bundle();
    // The root is on disk as an image has it.
    let ids = map(&[(0, 100_000, 65536)]);
    bundle.namespace("user", None).linux("uidMappings", ids.clone()).linux("gidMappings", ids);
    bundle.set("annotations", json!({"io.github.proa.root.mapped-ids": "idmap"}));
    fs::write(bundle.inside("/etc/mine"), "").expect("cannot write");
    chown(bundle.inside("/etc/mine"), Some(0), Some(9)).expect("cannot chown");
    let text = t.sh(&mut bundle, "stat -c %u:%g /etc/mine; touch /etc/new && stat -c %u:%g /etc/new");
    assert_eq!(text, "0:9\n0:0\n");
    let new = fs::metadata(bundle.inside("/etc/new")).expect("nothing written");
    assert_eq!((new.uid(), new.gid()), (0, 0));

    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).set("annotations", json!({"io.github.proa.root.mapped-ids": "yes"}));
    let output = t.refuses(&bundle);
    t.proa_says(&output, "\"yes\" is neither idmap nor ridmap");
    Ok(())
}

fn what_cannot_be_mapped(t: &Test<'_>) -> Done {
    // Not a bind mount.
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).mount("/data", "tmpfs", "tmpfs", &["idmap"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6]: ids can be mapped for a bind mount only");
    // A file system that cannot.
    let mut bundle = t.bundle();
    bundle.user_namespace(100_000).bind(std::path::Path::new("/proc/sys"), "/data", &["bind", "idmap"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6] \"/data\": map ids: invalid argument");
    Ok(())
}

fn faulty_mappings(t: &Test<'_>) -> Done {
    let dir = owned(t, "dir", 0, 0);
    for lines in [map(&[(0, 100, 0)]), map(&[(0, 100, 10), (5, 200, 10)]), map(&[(0, u32::MAX, 10)])] {
        let mut bundle = t.bundle();
        bundle.push("/mounts", mapped(&dir, "/data", &["bind", "idmap"], &lines, &lines));
        let output = t.refuses(&bundle);
        t.proa_says(&output, "mounts[6].uidMappings");
    }
    Ok(())
}

fn features_says_so(t: &Test<'_>) -> Done {
    let text = t.call(&["features"]).output().ok().stdout();
    let features: Value = serde_json::from_str(&text).expect("no JSON");
    assert_eq!(features["linux"]["mountExtensions"]["idmap"]["enabled"], true);
    Ok(())
}
