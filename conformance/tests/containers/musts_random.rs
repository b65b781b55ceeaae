//! Properties of the binding rules with values by chance, the same in every run:
//! what goes in comes out, whatever it is, and what is refused leaves nothing.
//!
//! Not here: values that somebody thought of (each topic's own file).

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use conformance::look;
use conformance::random::Random;
use conformance::runtime::Kind;
use conformance::test::{Done, Test};
use serde_json::{Value, json};

crate::cases! {
    "C-29" => any_arguments_arrive,
    "C-28" => any_environment_arrives,
    "C-63" => any_annotations_come_back,
    "C-48" => any_user_is_the_programs,
    "C-34" => any_limits_are_the_programs,
    "R-25" => any_id_is_taken_or_refused,
    "C-16" => any_words_of_a_mount,
    "R-19" => any_damage_is_refused_or_does_no_harm,
}

fn any_arguments_arrive(t: &Test<'_>) -> Done {
    let mut random = Random::new(1);
    let mut bundle = t.bundle();
    for round in 0..8 {
        let mut args = vec!["/bin/sh".to_owned(), "-c".into(), "cat /proc/$$/cmdline; :".into()];
        args.extend((0..40).map(|_| random.text(60)));
        bundle.process("args", json!(args));
        let seen = t.prints(&bundle);
        let seen: Vec<&str> = seen.split_terminator('\0').collect();
        assert_eq!(seen, args, "round {round}");
    }
    Ok(())
}

fn any_environment_arrives(t: &Test<'_>) -> Done {
    let mut random = Random::new(2);
    let mut bundle = t.bundle();
    for round in 0..8 {
        let mut expected: Vec<(String, String)> = vec![("HOME".into(), "/".into())];
        let mut env = vec!["HOME=/".to_owned()];
        for _ in 0..30 {
            let name = random.text(3).replace('=', "x") + &random.word("ABä_", 1) + "N";
            let value = random.text(40);
            env.push(format!("{name}={value}"));
            match expected.iter_mut().find(|(other, _)| *other == name) {
                Some((_, old)) => *old = value,
                None => expected.push((name, value)),
            }
        }
        bundle.args(&["/bin/cat", "/proc/self/environ"]).process("env", json!(env));
        let seen = t.prints(&bundle);
        let mut seen: Vec<(String, String)> = seen
            .split_terminator('\0')
            .map(|entry| entry.split_once('=').map(|(name, value)| (name.into(), value.into())).expect("no ="))
            .collect();
        if !t.is_proa() {
            // Of a name that comes twice peers have the last in another place.
            seen.sort();
            expected.sort();
        }
        assert_eq!(seen, expected, "round {round}");
    }
    Ok(())
}

fn any_annotations_come_back(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Runc, "cuts a name at its first equals sign")?;
    let mut random = Random::new(3);
    for round in 0..4 {
        let mut bundle = t.sleeping_bundle();
        let log = t.file(&format!("state{round}"));
        let hook = json!({"path": "/bin/sh", "args": ["sh", "-c", format!("/bin/cat >{}", log.display())]});
        let annotations: BTreeMap<String, String> =
            (0..100).map(|number| (random.text(20) + &number.to_string(), random.text(50))).collect();
        bundle.set("annotations", json!(annotations)).set("hooks", json!({"createRuntime": [hook]}));
        let c = t.create(&bundle);
        assert_eq!(c.state()["annotations"], json!(annotations), "round {round}");
        let text = fs::read_to_string(&log).expect("the hook wrote nothing");
        let state: Value = serde_json::from_str(&text).expect("not JSON");
        assert_eq!(state["annotations"], json!(annotations), "round {round}, what the hook got");
        c.delete();
    }
    Ok(())
}

/// A number of a user or group: small ones, high ones, edges.
fn id(random: &mut Random) -> u32 {
    let any = u32::try_from(random.below(u32::MAX as usize)).unwrap_or(0);
    *random.pick(&[0, 1, 65534, 65535, 65536, i32::MAX as u32, 1 << 31, u32::MAX - 1, any % 2000, any, any])
}

fn any_user_is_the_programs(t: &Test<'_>) -> Done {
    let mut random = Random::new(4);
    let mut bundle = t.sleeping_bundle();
    for _ in 0..10 {
        let (uid, gid) = (id(&mut random), id(&mut random));
        let groups: Vec<u32> = (0..random.below(40)).map(|_| id(&mut random)).collect();
        let user = json!({"uid": uid, "gid": gid, "additionalGids": groups});
        bundle.process("user", user.clone());
        let c = t.start(&bundle);
        let status = c.proc_status();
        assert_eq!([status.ruid, status.euid, status.suid, status.fuid], [uid; 4], "{user}");
        assert_eq!([status.rgid, status.egid, status.sgid, status.fgid], [gid; 4], "{user}");
        let seen: BTreeSet<u32> = status.groups.iter().copied().collect();
        assert_eq!(seen, groups.into_iter().collect(), "{user}");
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

/// A soft and a hard limit of a process, as /proc/PID/limits names it.
fn limit(pid: i32, name: &str) -> [u64; 2] {
    let text = look::proc_text(pid, "limits");
    let line = text.lines().find_map(|line| line.strip_prefix(&format!("Max {name} "))).expect("no such limit");
    let mut numbers = line.split_whitespace().map(|word| word.parse().unwrap_or(u64::MAX));
    [(); 2].map(|()| numbers.next().expect("two numbers"))
}

fn any_limits_are_the_programs(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "is bound itself by the limit of a file's size")?;
    let mut random = Random::new(5);
    // Which mean little to a program that sleeps.
    let all = [
        ("CORE", "core file size"),
        ("FSIZE", "file size"),
        ("LOCKS", "file locks"),
        ("MSGQUEUE", "msgqueue size"),
        ("RSS", "resident set"),
        ("CPU", "cpu time"),
    ];
    let mut bundle = t.sleeping_bundle();
    for _ in 0..6 {
        let mut wanted = Vec::new();
        for (name, shown) in all.into_iter().filter(|_| random.below(3) > 0).collect::<Vec<_>>() {
            // Not above the suite's own, which it takes a capability to raise.
            let [_, own] = limit(std::process::id() as i32, shown);
            let hard = (60 + random.number() % (1 << (1 + random.below(40)))).min(own);
            wanted.push((name, shown, [1 + random.number() % hard, hard]));
        }
        let list: Vec<Value> = wanted
            .iter()
            .map(|(name, _, [soft, hard])| json!({"type": format!("RLIMIT_{name}"), "soft": soft, "hard": hard}))
            .collect();
        bundle.process("rlimits", json!(list));
        let c = t.start(&bundle);
        for (name, shown, expected) in &wanted {
            assert_eq!(limit(c.pid, shown), *expected, "RLIMIT_{name}");
        }
        c.call("delete").options(&["--force"]).output().ok();
    }
    Ok(())
}

fn any_id_is_taken_or_refused(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "takes nearly any file name")?;
    let mut random = Random::new(6);
    let first = "abcXYZ019_";
    let rest = "abcXYZ019_+.-";
    let bundle = t.bundle();
    for _ in 0..10 {
        // The run's word is in it, by which a cgroup of it is known.
        let id = format!("{}x{}{}", random.word(first, 1), t.tag(), random.word(rest, 40));
        t.create_call(&bundle, &id).output().ok();
        assert_eq!(t.call(&["state", &id]).output().ok().json()["id"], id.as_str());
        t.call(&["delete", &id]).output().ok();
        fs::remove_file(t.pid_file(&id)).expect("no pid file");
    }
    for _ in 0..60 {
        let mut id = format!("{}{}", t.tag(), random.word(rest, 10));
        let wrong = *random.pick(&['/', ' ', '\n', ':', 'ä', '\u{7f}', '*', '@', '%', '\\', '"', '~', '\u{2028}']);
        let place = random.below(id.len());
        id.insert(place, wrong);
        let output = t.call(&["create", "--bundle"]).arg(&bundle.path).arg(&id).output().fails();
        assert!(!output.stderr().is_empty(), "{id:?}");
    }
    let output = t.call(&["create", "--bundle"]).arg(&bundle.path).arg("x".repeat(5000)).output().fails();
    assert!(!output.stderr().is_empty());
    t.assert_nothing_left();
    Ok(())
}

fn any_words_of_a_mount(t: &Test<'_>) -> Done {
    t.peer_differs(Kind::Crun, "keeps ro where rw follows")?;
    let mut random = Random::new(7);
    let pairs = [
        ("ro", "rw"),
        ("nosuid", "suid"),
        ("nodev", "dev"),
        ("noexec", "exec"),
        ("nodiratime", "diratime"),
        ("nosymfollow", "symfollow"),
    ];
    let times: [(&[&str], Option<&str>); 6] = [
        (&[], Some("relatime")),
        (&["noatime"], Some("noatime")),
        (&["noatime", "atime"], Some("relatime")),
        (&["strictatime"], None),
        (&["strictatime", "nostrictatime"], Some("relatime")),
        (&["relatime", "norelatime"], Some("relatime")),
    ];
    for _ in 0..4 {
        let mut bundle = t.sleeping_bundle();
        let mut wanted = Vec::new();
        for number in 0..25 {
            let (time, shown) = *random.pick(&times);
            let mut words: Vec<&str> = time.to_vec();
            let mut expected: BTreeSet<&str> = shown.into_iter().collect();
            for _ in 0..random.below(9) {
                let (set, clear) = *random.pick(&pairs);
                let word = *random.pick(&[set, clear]);
                words.push(word);
                if word == set {
                    expected.insert(set);
                } else {
                    expected.remove(set);
                }
            }
            bundle.mount(&format!("/at/{number}"), "tmpfs", "tmpfs", &words);
            wanted.push((words.join(","), expected));
        }
        let c = t.create(&bundle);
        for (number, (words, expected)) in wanted.iter().enumerate() {
            let options = look::mount(c.pid, &format!("/at/{number}")).mount_options;
            let seen: BTreeSet<&str> = options.keys().map(String::as_str).filter(|word| *word != "rw").collect();
            assert_eq!(seen, *expected, "{words}");
        }
        c.delete();
    }
    Ok(())
}

/// The pointers of everything in a document.
fn pointers(value: &Value, at: &str, found: &mut Vec<String>) {
    let mut below = |name: String, value: &Value| {
        found.push(format!("{at}/{name}"));
        pointers(value, &format!("{at}/{name}"), found);
    };
    match value {
        Value::Object(map) => map.iter().for_each(|(name, value)| below(name.clone(), value)),
        Value::Array(list) => list.iter().enumerate().for_each(|(index, value)| below(index.to_string(), value)),
        _ => {}
    }
}

fn any_damage_is_refused_or_does_no_harm(t: &Test<'_>) -> Done {
    t.proa_only("peers leave much behind")?;
    let mut random = Random::new(8);
    let mut bundle = t.sleeping_bundle();
    bundle.set("annotations", json!({"a": "b"})).namespace("cgroup", None);
    bundle.linux("devices", json!([{"path": "/dev/x", "type": "c", "major": 1, "minor": 5, "fileMode": 438}]));
    bundle.linux("sysctl", json!({"net.ipv4.ip_forward": "1"})).process("oomScoreAdj", json!(500));
    bundle.process("ioPriority", json!({"class": "IOPRIO_CLASS_BE", "priority": 4}));
    bundle.set("hooks", json!({"createRuntime": [{"path": "/bin/true", "args": ["true"], "timeout": 5}]}));
    let whole = bundle.config.clone();
    let mut places = Vec::new();
    pointers(&whole, "", &mut places);
    let odd = [
        Value::Null,
        json!(true),
        json!(-1),
        json!(1.5),
        json!(1e300),
        json!(u64::MAX),
        json!(i64::MIN),
        json!(4_294_967_295_u32),
        json!(""),
        json!("x"),
        json!("/"),
        json!("../.."),
        json!("\u{0}"),
        json!("x".repeat(5000)),
        json!([]),
        json!([[]]),
        json!([null]),
        json!({}),
        json!({"": {}}),
        json!({"type": "x", "path": 5}),
    ];
    let (mut refused, mut made) = (0, 0);
    for _ in 0..90 {
        bundle.config = whole.clone();
        let place = random.pick(&places);
        let value = random.pick(&odd);
        *bundle.config.pointer_mut(place).expect("no such property") = value.clone();
        let id = t.id();
        let output = t.create_call(&bundle, &id).output();
        if output.status.success() {
            made += 1;
            t.call(&["start", &id]).output();
            t.call(&["delete", "--force", &id]).output().ok();
            fs::remove_file(t.pid_file(&id)).expect("no pid file");
        } else {
            refused += 1;
            let said = output.fails().stderr();
            let text: String = value.to_string().chars().take(40).collect();
            assert!(said.lines().count() == 1 && !said.contains("panicked"), "{place} is {text}: {said}");
            assert!(!t.pid_file(&id).exists(), "{place} is {text}");
        }
    }
    assert!(refused > 30 && made > 8, "{refused} refused, {made} made");
    t.assert_nothing_left();
    Ok(())
}
