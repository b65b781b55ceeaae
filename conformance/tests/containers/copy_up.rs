//! `tmpcopyup`: a tmpfs that begins with what it covers.

use std::fs;
use std::os::unix::fs::{PermissionsExt, lchown, symlink};

use conformance::runtime::Kind;
use conformance::test::{Done, Test};

crate::cases! {
    "C-16" => tmpcopyup_copies_what_is_covered,
    "" => tmpcopyup_follows_nothing,
    "" => tmpcopyup_that_does_not_fit,
    "" => tmpcopyup_is_for_a_tmpfs,
}

fn tmpcopyup_copies_what_is_covered(t: &Test<'_>) -> Done {
    let mut bundle = t.bundle();
    let dir = bundle.inside("/full");
    fs::create_dir_all(dir.join("deep/er")).expect("cannot make directories");
    fs::write(dir.join("deep/er/file"), vec![b'x'; 200_000]).expect("cannot write");
    symlink("deep/er/file", dir.join("link")).expect("cannot link");
    fs::set_permissions(dir.join("deep/er/file"), fs::Permissions::from_mode(0o4711)).expect("cannot chmod");
    fs::set_permissions(&dir, fs::Permissions::from_mode(0o1775)).expect("cannot chmod");
    lchown(&dir, Some(11), Some(12)).expect("cannot chown");
    lchown(dir.join("link"), Some(13), Some(14)).expect("cannot chown");
    bundle.mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "ro"]);
    let text = t.sh(
        &mut bundle,
        "cd /full; stat -c '%a %u:%g' .; stat -c '%u:%g' link; stat -c '%a %s' deep/er/file; readlink link; \
         find . | wc -l; touch new 2>/dev/null || echo read-only",
    );
    assert_eq!(text, "1775 11:12\n13:14\n4711 200000\ndeep/er/file\n5\nread-only\n");
    assert!(!dir.join("new").exists());
    Ok(())
}

fn tmpcopyup_follows_nothing(t: &Test<'_>) -> Done {
    let secret = t.make_file("secret", "of the host");
    let mut bundle = t.bundle();
    let dir = bundle.inside("/full");
    fs::create_dir_all(&dir).expect("cannot make a directory");
    symlink(&secret, dir.join("file")).expect("cannot link");
    symlink(t.base(), dir.join("dir")).expect("cannot link");
    nix::unistd::mkfifo(&dir.join("fifo"), nix::sys::stat::Mode::S_IRUSR).expect("cannot make a fifo");
    bundle.mount("/full", "tmpfs", "tmpfs", &["tmpcopyup"]);
    let text = t.sh(&mut bundle, "cd /full; [ -L file ] && [ -L dir ] && [ -p fifo ] && ls");
    assert_eq!(text, "dir\nfifo\nfile\n");
    Ok(())
}

fn tmpcopyup_that_does_not_fit(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "says what it was about in other words")?;
    let mut bundle = t.bundle();
    fs::create_dir_all(bundle.inside("/full")).expect("cannot make a directory");
    fs::write(bundle.inside("/full/file"), vec![b'x'; 200_000]).expect("cannot write");
    bundle.mount("/full", "tmpfs", "tmpfs", &["tmpcopyup", "size=64k"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "mounts[6] \"/full\": copy up: no space left on device");
    // Deeper than anybody needs: an image may be made to exhaust whoever copies it.
    let mut bundle = t.bundle();
    fs::create_dir_all(bundle.inside(&format!("/deep{}", "/d".repeat(300)))).expect("cannot make directories");
    bundle.mount("/deep", "tmpfs", "tmpfs", &["tmpcopyup"]);
    if t.is_proa() {
        let output = t.refuses(&bundle);
        t.proa_says(&output, "mounts[6] \"/deep\": copy up: filename too long");
    }
    Ok(())
}

fn tmpcopyup_is_for_a_tmpfs(t: &Test<'_>) -> Done {
    t.proa_only("others pass it over")?;
    let mut bundle = t.bundle();
    bundle.bind(&t.make_dir("dir"), "/m", &["bind", "tmpcopyup"]);
    let output = t.refuses(&bundle);
    t.proa_says(&output, "\"tmpcopyup\": is for a tmpfs only");
    Ok(())
}
