//! What a container sees of files: volumes, binds, tmpfs, a read-only root.

use std::fs;

use conformance::look;
use conformance::test::Done;

use super::{call, ok, run, sh, sleeper};

crate::cases! {
    a_volume_outlives_its_container,
    a_volume_begins_with_the_images_files,
    volumes_of_another_container,
    binds,
    propagation,
    a_bind_of_a_file,
    tmpfs,
    a_root_that_is_read_only,
    shm_size,
    names_and_resolver,
}

fn a_volume_outlives_its_container() -> Done {
    ok(&["volume", "create", "lasting"]);
    sh("-v lasting:/data", "echo kept >/data/file; chown 7:7 /data/file");
    assert_eq!(
        sh("-v lasting:/data:ro", "cat /data/file; stat -c %u /data/file; touch /data/x 2>/dev/null || echo ro"),
        "kept\n7\nro"
    );
    ok(&["volume", "rm", "lasting"]);
    Ok(())
}

fn a_volume_begins_with_the_images_files() -> Done {
    assert_eq!(sh("-v filled:/etc", "ls /etc | grep -c passwd"), "1");
    ok(&["volume", "rm", "filled"]);
    // One without a name goes with a container that is removed by itself.
    let before = ok(&["volume", "ls", "-q"]);
    sh("-v /anonymous", "touch /anonymous/x");
    assert_eq!(ok(&["volume", "ls", "-q"]), before);
    Ok(())
}

fn volumes_of_another_container() -> Done {
    let first = sleeper("-v shared:/shared");
    first.sh("echo word >/shared/file");
    assert_eq!(sh(&format!("--volumes-from {}", first.id), "cat /shared/file"), "word");
    first.ok("rm -f");
    call(&["volume", "rm", "shared"]).run().ok();
    Ok(())
}

fn binds() -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    let path = dir.path().display();
    sh(&format!("-v {path}:/there"), "echo inside >/there/file");
    assert_eq!(fs::read_to_string(dir.path().join("file")).expect("written inside"), "inside\n");
    let script = "cat /there/file; touch /there/x 2>/dev/null || echo ro";
    assert_eq!(sh(&format!("-v {path}:/there:ro"), script), "inside\nro");
    assert_eq!(sh(&format!("--mount type=bind,source={path},target=/there,readonly"), script), "inside\nro");
    Ok(())
}

fn propagation() -> Done {
    let dir = tempfile::tempdir().expect("no temporary directory");
    let container = sleeper(&format!("-v {}:/there:rslave", dir.path().display()));
    let inner = dir.path().join("inner");
    fs::create_dir(&inner).expect("cannot make a directory");
    nix::mount::mount(Some("tmpfs"), &inner, Some("tmpfs"), nix::mount::MsFlags::empty(), None::<&str>)
        .expect("cannot mount");
    let seen = look::is_mounted(container.pid(), "/there/inner");
    nix::mount::umount(&inner).expect("cannot unmount");
    assert!(seen, "what is mounted on the host later is seen");
    assert!(!look::is_mounted(container.pid(), "/there/inner"));
    Ok(())
}

fn a_bind_of_a_file() -> Done {
    let file = tempfile::NamedTempFile::new().expect("no temporary file");
    fs::write(file.path(), "words").expect("cannot write");
    let options = format!("-v {}:/etc/made/for/it:ro", file.path().display());
    assert_eq!(sh(&options, "cat /etc/made/for/it; [ -f /etc/made/for/it ] && echo :"), "words:");
    Ok(())
}

fn tmpfs() -> Done {
    let script = "df -k /scratch | tail -n1 | awk '{ print $2 }'; grep ' /scratch ' /proc/mounts; \
        echo x >/scratch/y && echo fine";
    let said = sh("--tmpfs /scratch:size=1m,noexec,mode=1770", script);
    let lines: Vec<_> = said.lines().collect();
    assert_eq!((lines[0], lines[2]), ("1024", "fine"), "{said}");
    assert!(lines[1].contains("noexec") && lines[1].contains("mode=1770"), "{said}");
    Ok(())
}

fn a_root_that_is_read_only() -> Done {
    let script = "touch /x 2>/dev/null || echo ro; touch /scratch/x && echo rw; touch /dev/shm/x && echo rw";
    assert_eq!(sh("--read-only --tmpfs /scratch", script), "ro\nrw\nrw");
    run("--read-only", &["touch", "/etc/x"]).fails().says("Read-only file system");
    Ok(())
}

fn shm_size() -> Done {
    assert_eq!(sh("--shm-size 3m", "df -k /dev/shm | tail -n1 | awk '{ print $2 }'"), "3072");
    Ok(())
}

fn names_and_resolver() -> Done {
    let script = "cat /etc/resolv.conf | grep ^nameserver; grep extra /etc/hosts | cut -f1";
    assert_eq!(sh("--dns 192.0.2.1 --add-host extra:192.0.2.2", script), "nameserver 192.0.2.1\n192.0.2.2");
    Ok(())
}
