//! The logic on a made tree of plain files: there is no such hardware on most machines.

use super::*;
use std::fs;
use std::path::PathBuf;

/// Plain files that stand for resctrl on a machine with two caches: 11 bits, bandwidth in steps of 10.
struct Made(PathBuf);

impl Made {
    fn new(name: &str) -> Made {
        let made = Made(std::env::temp_dir().join(format!("proa-rdt-{}-{name}", std::process::id())));
        fs::create_dir(&made.0).unwrap();
        for dir in ["info", "info/MB", "mon_groups"] {
            fs::create_dir(made.0.join(dir)).unwrap();
        }
        made.put("info/last_cmd_status", "ok\n");
        made.put("info/MB/bandwidth_gran", "10\n");
        made.put("tasks", "");
        made.put("schemata", "    L3:0=7ff;1=7ff\n    MB:0=100;1=100\n");
        made
    }

    fn put(&self, file: &str, text: &str) {
        fs::write(self.0.join(file), text).unwrap();
    }

    fn get(&self, file: &str) -> String {
        fs::read_to_string(self.0.join(file)).unwrap()
    }

    fn has(&self, path: &str) -> bool {
        self.0.join(path).exists()
    }

    fn tree(&self) -> Tree<'_> {
        Tree { base: &self.0, make, unmake: |path| fs::remove_dir_all(path).map_err(errno) }
    }

    fn apply(&self, rdt: &IntelRdt) -> std::result::Result<Vec<String>, String> {
        self.tree().apply(rdt, 77).map_err(|error| error.to_string())
    }
}

impl Drop for Made {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).unwrap();
    }
}

fn errno(error: std::io::Error) -> Errno {
    Errno::from_io_error(&error).unwrap()
}

/// mkdir(2) in resctrl; there is no room for a group named full, or a file in the one named broken.
fn make(path: &Path) -> io::Result<()> {
    if path.ends_with("full") {
        return Err(Errno::NOSPC);
    }
    fs::create_dir(path).map_err(errno)?;
    if !path.ends_with("broken") {
        fs::write(path.join("tasks"), "").map_err(errno)?;
    }
    if !path.parent().unwrap().ends_with("mon_groups") {
        fs::write(path.join("schemata"), "").map_err(errno)?;
        fs::create_dir(path.join("mon_groups")).map_err(errno)?;
    }
    Ok(())
}

fn lines(lines: &[&str]) -> Vec<String> {
    lines.iter().map(|line| (*line).to_owned()).collect()
}

fn closid(group: &str, compared: &[&str], schemata: &[&str]) -> IntelRdt {
    let schemata = lines(&[compared, schemata].concat());
    IntelRdt { group: group.to_owned(), shared: true, schemata, compared: lines(compared), monitor: None }
}

fn own(id: &str, compared: &[&str], schemata: &[&str]) -> IntelRdt {
    IntelRdt { shared: false, ..closid(id, compared, schemata) }
}

fn monitored(rdt: IntelRdt, id: &str) -> IntelRdt {
    IntelRdt { monitor: Some(id.to_owned()), ..rdt }
}

#[test]
fn a_group_named_after_the_container_is_made_and_removed() {
    let made = Made::new("own");
    let rdt = own("c1", &["L3:0=7f0;1=1f", "MB:0=20;1=70"], &["L2:0=f"]);
    let groups = made.apply(&rdt).unwrap();
    assert_eq!(groups, ["c1"]);
    assert_eq!(made.get("c1/schemata"), "L3:0=7f0;1=1f\nMB:0=20;1=70\nL2:0=f\n");
    assert_eq!(made.get("c1/tasks"), "77\n");
    made.tree().remove(&groups);
    assert!(!made.has("c1"));
    made.tree().remove(&groups);
}

#[test]
fn without_lines_no_schemata_file_is_touched() {
    let made = Made::new("bare");
    let before = made.get("schemata");
    assert_eq!(made.apply(&own("c1", &[], &[])).unwrap(), ["c1"]);
    assert_eq!((made.get("c1/schemata"), made.get("schemata")), (String::new(), before));
}

#[test]
fn a_group_that_was_there_is_not_removed() {
    let made = Made::new("kept");
    make(&made.0.join("c1")).unwrap();
    assert_eq!(made.apply(&own("c1", &["L3:0=f"], &[])), Ok(Vec::new()));
    assert_eq!(made.get("c1/schemata"), "L3:0=f\n");
    assert_eq!(made.apply(&own("c1", &[], &["L3:0=f"])), Ok(Vec::new()));
}

#[test]
fn closid_alone_must_exist() {
    let made = Made::new("alone");
    let error = made.apply(&closid("gold", &[], &[])).unwrap_err();
    assert_eq!(error, format!("linux.intelRdt.closID: \"gold\" is not in {}", made.0.display()));
    assert!(!made.has("gold"));
    make(&made.0.join("gold")).unwrap();
    assert_eq!(made.apply(&closid("gold", &[], &[])), Ok(Vec::new()));
    assert_eq!((made.get("gold/tasks"), made.get("gold/schemata")), ("77\n".to_owned(), String::new()));
}

#[test]
fn closid_with_lines_is_made_once_and_compared_then() {
    let made = Made::new("closid");
    let rdt = closid("gold", &["L3:0=7f0;1=1f", "MB:0=25"], &[]);
    assert_eq!(made.apply(&rdt), Ok(Vec::new()), "it is not the container's to remove");
    assert_eq!(made.get("gold/schemata"), "L3:0=7f0;1=1f\nMB:0=25\n");
    // As the kernel tells it.
    let told = "    MB:0= 30;1=100\n    L3:0=7f0;1=01f\n";
    made.put("gold/schemata", told);
    assert_eq!(made.apply(&rdt), Ok(Vec::new()));
    made.put("gold/schemata", told);
    let error = made.apply(&closid("gold", &["L3:0=7f0;1=f"], &[])).unwrap_err();
    let has = "linux.intelRdt.l3CacheSchema: the existing closID \"gold\" has \"L3:0=7f0;1=01f\", not \"L3:0=7f0;1=f\"";
    assert_eq!(error, has);
    let error = made.apply(&closid("gold", &["MB:0=30;2=100"], &[])).unwrap_err();
    assert!(error.starts_with("linux.intelRdt.memBwSchema: "), "{error}");
    assert_eq!(made.get("gold/schemata"), told, "a refused one changes nothing");
    // `schemata` is written without a comparison.
    assert_eq!(made.apply(&closid("gold", &[], &["L3:0=1"])), Ok(Vec::new()));
    assert_eq!(made.get("gold/schemata"), "L3:0=1\n");
}

#[test]
fn the_default_class_is_the_root() {
    let made = Made::new("root");
    assert_eq!(made.apply(&closid("/", &[], &[])), Ok(Vec::new()));
    assert_eq!(made.get("tasks"), "77\n");
    assert!(made.apply(&closid("/", &["L3:0=1"], &[])).unwrap_err().contains("closID \"/\" has"));
    let groups = made.apply(&monitored(closid("/", &["L3:0=7ff"], &[]), "c1")).unwrap();
    assert_eq!(groups, ["mon_groups/c1"]);
    assert_eq!(made.get("mon_groups/c1/tasks"), "77\n");
    made.tree().remove(&groups);
    assert!(made.has("mon_groups") && !made.has("mon_groups/c1"));
}

#[test]
fn monitoring_has_a_group_of_its_own() {
    let made = Made::new("monitor");
    let groups = made.apply(&monitored(own("c1", &[], &[]), "c1")).unwrap();
    assert_eq!(groups, ["c1/mon_groups/c1", "c1"]);
    assert_eq!(made.get("c1/mon_groups/c1/tasks"), "77\n");
    make(&made.0.join("gold")).unwrap();
    let rdt = monitored(closid("gold", &[], &[]), "c1");
    assert_eq!(made.apply(&rdt).unwrap(), ["gold/mon_groups/c1"]);
    let error = made.apply(&rdt).unwrap_err();
    assert!(error.ends_with("make the group \"gold/mon_groups/c1\": file exists"), "{error}");
    assert!(made.has("gold/mon_groups/c1"), "that one was not made by the second");
}

#[test]
fn a_failure_takes_back_what_was_made() {
    let made = Made::new("failure");
    made.put("info/last_cmd_status", "Out of CLOSIDs\n");
    let error = made.apply(&own("full", &[], &[])).unwrap_err();
    assert_eq!(error, "linux.intelRdt: make the group \"full\": no space left on device (Out of CLOSIDs)");
    for rdt in [own("c1", &["L3:0=1"], &[]), closid("c1", &["L3:0=1"], &[])] {
        for monitor in ["full", "broken", "..", "a/b", ""] {
            made.apply(&monitored(rdt.clone(), monitor)).unwrap_err();
            assert!(!made.has("c1"), "{monitor}");
        }
    }
    assert!(made.apply(&own("broken", &[], &[])).unwrap_err().contains("/broken/tasks: no such file"));
    assert!(!made.has("broken"));
    make(&made.0.join("gold")).unwrap();
    made.apply(&monitored(closid("gold", &[], &[]), "broken")).unwrap_err();
    assert!(made.has("gold/tasks") && !made.has("gold/mon_groups/broken"));
}

#[test]
fn a_line_that_the_kernel_refuses() {
    let made = Made::new("refused");
    make(&made.0.join("c1")).unwrap();
    fs::remove_file(made.0.join("c1/schemata")).unwrap();
    std::os::unix::fs::symlink("/dev/full", made.0.join("c1/schemata")).unwrap();
    let error = made.apply(&own("c1", &[], &["L3:0=5"])).unwrap_err();
    assert!(error.ends_with("c1/schemata: too many levels of symbolic links"), "no link is followed: {error}");
    let tree = Tree::new(Path::new("/dev"));
    let error = tree.write("full", lines(&["L3:0=5\n"])).unwrap_err().to_string();
    assert_eq!(error, "linux.intelRdt: write /dev/full: \"L3:0=5\": no space left on device");
}

#[test]
fn no_name_leaves_the_tree() {
    let made = Made::new("names");
    for name in ["", ".", "..", "../x", "a/b", "/x", "a\n", "a\0", "info", "mon_data", "mon_groups"] {
        let error = made.apply(&own(name, &["L3:0=1"], &[])).unwrap_err();
        assert!(error.ends_with("cannot be the name of a group"), "{error}");
    }
    for path in ["", "/", "..", "c1/..", "c1/x", "info", "info/MB", "mon_groups", "c1/mon_groups/..", "../x"] {
        assert!(!is_made_by_us(path), "{path}");
    }
    assert!(!is_made_by_us("c1/mon_groups/c1/x") && !is_made_by_us("mon_groups/mon_groups/c1"));
    made.tree().remove(&lines(&["info", "../x", "mon_groups"]));
    assert!(made.has("info") && made.has("mon_groups"));
}

#[test]
fn lines_are_compared_by_resource_and_domain() {
    for (found, line) in [
        ("    L3:0=7f0;1=1f", "L3:1=1f;0=7F0"),
        ("L3:0=00f;1=fff", "L3: 0 = f"),
        ("L3:0=f", "L3:0=0xf"),
        ("MB:0=100", "MB:0=100"),
        ("MB:0= 30;1=100", "MB:0=21"),
        ("L3CODE:0=f", "L3CODE:0=f"),
    ] {
        assert!(covers(found, line, 10), "{found} {line}");
    }
    for (found, line) in [
        ("L3:0=7f0", "L3:0=7f1"),
        ("L3:0=7f0", "L3:0=7f0;1=f"),
        ("L3:0=7f0", "MB:0=7f0"),
        ("L3CODE:0=f", "L3:0=f"),
        ("L3:0=10", "L3:0=9"),
        ("MB:0=20", "MB:0=21"),
        ("MB:0=30", "MB:0=18446744073709551615"),
        ("L3:0=f", "L3:0=f;"),
        ("L3:0=f", "L3:"),
        ("L3:0=f", "L3"),
        ("", "L3:0=f"),
        ("L3:0=f", "L3:0=0x"),
    ] {
        assert!(!covers(found, line, 10), "{found} {line}");
    }
    assert!(!covers("MB:0=5", "MB:0=4", 0), "a step of zero rounds nothing");
}

/// Works where resctrl is not mounted, and only there.
#[test]
fn a_machine_without_it() {
    let mounted = Path::new(BASE).join("schemata").exists();
    if mounted {
        println!("SKIPPED: this machine has resctrl");
        return;
    }
    let error = apply(&own("c1", &[], &[]), 1).unwrap_err().to_string();
    assert_eq!(error, "linux.intelRdt: resctrl is not mounted at /sys/fs/resctrl");
    remove(&lines(&["c1"]));
}
