//! `--volume`, its mounts, and labels.

use super::*;

fn refused(word: &str) -> String {
    match parse(word) {
        Err(Error::Refused(sentence)) => sentence,
        other => panic!("{word:?}: {other:?}"),
    }
}

#[test]
fn what_is_asked_for() {
    let named = parse("data:/srv/./x/../y//z/").unwrap();
    assert_eq!(named.source, Source::Named("data".into()));
    assert_eq!(named.destination, "/srv/y/z");
    assert!(!named.read_only && !named.nocopy && !named.idmap && named.recursive && named.relabel.is_none());
    assert_eq!(parse("/a b:/x").unwrap().source, Source::Host("/a b".into()));
    for path in [".", "..", "./a", "../a", "./a/b", "/"] {
        assert_eq!(parse(&format!("{path}:/x")).unwrap().source, Source::Host(path.into()));
    }
    assert_eq!(parse("/x").unwrap().source, Source::Anonymous);
    let all = parse("v:/x:ro,Z,nocopy,idmap,rslave,noexec,nodev,nosuid,bind").unwrap();
    assert!(all.read_only && all.nocopy && all.idmap && !all.recursive);
    assert_eq!(all.relabel, Some(Relabel::Private));
    assert_eq!(all.propagation, "rslave");
    assert_eq!(all.flags, ["noexec", "nodev", "nosuid"]);
    assert_eq!(parse("v:/x:z,rw,rw,").unwrap().relabel, Some(Relabel::Shared));
}

#[test]
fn what_cannot_be_asked_for() {
    for (word, problem) in [
        ("", "no absolute path"),
        (":", "the source is empty"),
        ("a", "no absolute path"),
        ("/", "cannot be the container's root"),
        ("a:/..", "cannot be the container's root"),
        (":/x", "the source is empty"),
        ("a:x", "\"x\" is no absolute path"),
        ("/x:ro", "\"ro\" is no absolute path"),
        ("a:", "no absolute path"),
        ("a:/x:ro:rw", "more parts than"),
        ("a/b:/x", "a volume's name has no '/'"),
        (".a:/x", "is not of the form"),
        ("a:/x:U", "the option U is not supported"),
        ("a:/x:copy", "unknown option \"copy\""),
        ("a:/x:ro,rw", "ro and rw exclude each other"),
        ("a:/x:z,Z", "z and Z exclude each other"),
        ("a:/x:shared,slave", "shared and slave exclude each other"),
        ("/a:/x:nocopy", "nocopy is for volumes"),
        ("/a\0:/x", "it has a NUL"),
    ] {
        let sentence = refused(word);
        assert!(sentence.contains(problem) && sentence.starts_with("--volume "), "{word:?}: {sentence}");
        assert!(!sentence.contains('\n'));
    }
    refused("a:/x:\n");
    let two = [parse("a:/x").unwrap(), parse("/h:/x/./").unwrap()];
    assert_eq!(check_destinations(&two).unwrap_err().to_string(), "--volume: two of them are mounted at \"/x\"");
    check_destinations(&[parse("a:/x").unwrap(), parse("a:/x/y").unwrap()]).unwrap();
}

#[test]
fn no_word_makes_it_panic() {
    let parts = ["", ":", "/", "a", "..", ",", "ro", "U", "\u{e9}", "\n", "\0", "z", "::", "/x", "./"];
    for one in parts {
        for two in parts {
            for three in parts {
                for four in parts {
                    parse(&format!("{one}{two}{three}{four}")).ok();
                }
            }
        }
    }
}

#[test]
fn requests_become_mounts() {
    let scratch = Scratch::new();
    let volumes = scratch.volumes();
    let locked = volumes.lock().unwrap();
    let prepare = |word: &str, userns| locked.prepare(&parse(word).unwrap(), &BTreeMap::new(), NOW, userns);
    let named = prepare("data:/x:ro,noexec,idmap", true).unwrap();
    let json = serde_json::to_string(&named.mount).unwrap();
    let source = scratch.0.join("store/volumes/data/data");
    let source = source.to_str().unwrap();
    let options = r#"["rbind","rprivate","ro","noexec","idmap"]"#;
    let expected = format!(r#"{{"destination":"/x","type":"bind","source":"{source}","options":{options}}}"#);
    assert_eq!(json, expected);
    assert_eq!((named.volume.as_deref(), named.fill), (Some("data"), true));
    // The second time it is there.
    let again = prepare("data:/y:nocopy", false).unwrap();
    assert_eq!((again.volume.as_deref(), again.fill), (Some("data"), false));
    let said = prepare("data:/x:idmap", false).unwrap_err().to_string();
    assert_eq!(said, "--volume at /x: idmap is for a container with a user namespace");
    let host = scratch.directory("host");
    let host = host.to_str().unwrap();
    let mount = prepare(&format!("{host}:/x:shared,bind"), false).unwrap();
    assert_eq!(mount.mount.options, ["bind", "shared", "rw"]);
    assert_eq!((mount.mount.source.as_str(), mount.volume, mount.fill), (host, None, false));
    let relative = prepare(".:/x", false).unwrap().mount.source;
    assert_eq!(Path::new(&relative), std::env::current_dir().unwrap());
    let said = prepare(&format!("{host}/none:/x"), false).unwrap_err().to_string();
    assert_eq!(said, format!("--volume: {host}/none: no such file or directory"));
    let anonymous = prepare("/x", false).unwrap();
    assert_eq!(anonymous.volume.as_ref().map(String::len), Some(64));
    drop(locked);
    let said = volumes.remove("data", no_uses).unwrap_err().to_string();
    assert_eq!(said, "volume data is in use by a bundle that is being made");
    assert!(volumes.prune(true, no_uses).unwrap().removed.is_empty());
    volumes.complete("data").unwrap();
    assert_eq!(volumes.list(&Uses::new()).unwrap().volumes.len(), 2);
    drop((named, again));
    volumes.remove("data", no_uses).unwrap();
}

#[test]
fn labels_are_given_to_all_below_and_to_nothing_else() {
    let scratch = Scratch::new();
    let root = scratch.directory("root/dir/deeper").parent().unwrap().parent().unwrap().to_owned();
    fs::write(root.join("dir/file"), "").unwrap();
    fs::write(scratch.path("outside"), "").unwrap();
    symlink(scratch.path("outside"), root.join("dir/link")).unwrap();
    rustix::fs::mknodat(CWD, root.join("fifo"), rustix::fs::FileType::Fifo, Mode::RWXU, 0).unwrap();
    let mounted = scratch.directory("root/mounted");
    rustix::mount::mount("tmpfs", &mounted, "tmpfs", rustix::mount::MountFlags::empty(), None).unwrap();
    // Not the attribute of SELinux: no kernel without it keeps that on every file system.
    let set = label::set_all(open_path(&root).as_fd(), c"trusted.proa", "a:b:c");
    let get = |path: &Path| {
        let mut value = [0; 64];
        rustix::fs::lgetxattr(path, "trusted.proa", &mut value[..]).map(|length| value[..length].to_vec())
    };
    let inside = get(&mounted);
    rustix::mount::unmount(&mounted, rustix::mount::UnmountFlags::DETACH).unwrap();
    set.unwrap();
    assert!(inside.is_err());
    for path in ["", "dir", "dir/deeper", "dir/file", "dir/link", "fifo"] {
        assert_eq!(get(&root.join(path)).unwrap(), b"a:b:c\0", "{path}");
    }
    assert!(get(&scratch.0.join("outside")).is_err());
    // One file.
    label::set_all(open_path(&scratch.0.join("outside")).as_fd(), c"trusted.proa", "d").unwrap();
    assert_eq!(get(&scratch.0.join("outside")).unwrap(), b"d\0");
}

#[test]
fn directories_of_the_machine_are_not_relabelled() {
    let scratch = Scratch::new();
    symlink("/usr", scratch.path("link")).unwrap();
    for path in [Path::new("/"), Path::new("/usr"), Path::new("/etc"), &scratch.0.join("link")] {
        let said = label::set_all(open_path(path).as_fd(), c"trusted.proa", "l").unwrap_err().to_string();
        assert!(said.contains("is the machine's, and is not relabelled"), "{said}");
    }
    let label = label::set_all(open_path(&scratch.0).as_fd(), c"trusted.proa", "a\0b");
    assert!(matches!(label, Err(Error::Refused(_))));
}
