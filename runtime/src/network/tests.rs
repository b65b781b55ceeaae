//! What of networks needs no plugins and no namespaces.

use super::*;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::PermissionsExt;

/// A directory with networks and plugins, removed at the end.
struct Machine(PathBuf);

impl Machine {
    fn new(name: &str) -> Machine {
        let dir = std::env::temp_dir().join(format!("proa-network-{}-{name}", std::process::id()));
        for sub in ["net.d", "bin"] {
            fs::create_dir_all(dir.join(sub)).unwrap();
        }
        Machine(dir)
    }

    fn places(&self) -> Places {
        let plugins = format!("/no/such:{}", self.0.join("bin").display());
        Places { config: self.0.join("net.d"), plugins, cache: self.0.join("cache") }
    }

    fn file(&self, name: &str, value: &Value) -> &Machine {
        fs::write(self.0.join("net.d").join(name), value.to_string()).unwrap();
        self
    }

    fn plugin(&self, name: &str, mode: u32) -> &Machine {
        let file = self.0.join("bin").join(name);
        fs::write(&file, "").unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(mode)).unwrap();
        self
    }

    fn attach(&self, name: &str, publish: &[&str]) -> Result<Attachment> {
        attach_in(&self.places(), name, publish, Path::new("/usr/bin/proa"))
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
    }
}

fn list(name: &str, kinds: &[&str]) -> Value {
    let plugins: Vec<Value> = kinds.iter().map(|kind| json!({"type": kind})).collect();
    json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins})
}

#[test]
fn a_list_counts_before_a_single_plugin_and_the_first_file_before_the_second() {
    let machine = Machine::new("order");
    machine.file("10-a.conf", &json!({"cniVersion": "0.4.0", "name": "a", "type": "single"}));
    machine.file("20-a.conflist", &list("a", &["first"])).file("30-a.conflist", &list("a", &["second"]));
    machine.file("10-b.json", &json!({"cniVersion": "0.3.1", "name": "b", "type": "single"}));
    machine.file("notes.txt", &json!(1)).file("broken.conflist", &json!(1));
    let (lists, errors) = all(&machine.places()).unwrap();
    let seen: Vec<_> = lists.iter().map(|list| (list.name.as_str(), list.kinds().next().unwrap())).collect();
    assert_eq!(seen, [("a", "first"), ("b", "single")]);
    assert_eq!(errors.len(), 1);
    assert!(errors[0].to_string().ends_with("broken.conflist: is not an object"), "{}", errors[0]);
}

#[test]
fn the_newest_version_that_is_known_counts() {
    let version = |members: Value| {
        let mut value = list("a", &["b"]);
        value["cniVersion"].take();
        value.as_object_mut().unwrap().extend(members.as_object().unwrap().clone());
        conf::parse(value, Path::new("a.conflist")).map(|list| list.cni_version)
    };
    assert_eq!(version(json!({"cniVersion": "0.3.1"})).unwrap(), "0.3.1");
    assert_eq!(version(json!({"cniVersion": "0.4.0", "cniVersions": ["1.0.0", "2.0.0"]})).unwrap(), "1.0.0");
    assert!(version(json!({"cniVersion": "0.2.0"})).is_err());
    assert!(version(json!({"cniVersion": 1})).is_err());
}

#[test]
fn what_attach_asks_for() {
    let machine = Machine::new("attach");
    let mut value = list("web", &["bridge", "portmap"]);
    value["plugins"][1]["capabilities"] = json!({"portMappings": true});
    value["plugins"][0]["dns"] = json!({"nameservers": ["192.0.2.53"]});
    machine.file("web.conflist", &value).plugin("bridge", 0o755).plugin("portmap", 0o755);
    let attachment = machine.attach("web", &["8080:80", "[::1]:53:53/udp"]).unwrap();
    assert!(attachment.new_namespace);
    assert_eq!(attachment.resolv_conf.as_deref(), Some("nameserver 192.0.2.53\n"));
    let mut config = json!({
        "hooks": {"poststop": [{"path": "/bin/true"}]},
        "linux": {"namespaces": [{"type": "network", "path": "/x"}, {"type": "pid"}]},
    });
    attachment.apply(&mut config).unwrap();
    assert_eq!(config["linux"]["namespaces"], json!([{"type": "pid"}, {"type": "network"}]));
    let add = &config["hooks"]["createRuntime"][0];
    let words: Vec<_> = add["args"].as_array().unwrap().iter().map(|word| word.as_str().unwrap()).collect();
    assert_eq!((&add["path"], words[..2].to_vec()), (&json!("/usr/bin/proa"), vec!["proa", "cni"]));
    assert!(words.ends_with(&["--network", "web", "--publish", "8080:80", "--publish", "[::1]:53:53/udp", "add"]));
    assert_eq!(config["hooks"]["poststop"].as_array().unwrap().len(), 2);
    let host = machine.attach("host", &[]).unwrap();
    host.apply(&mut config).unwrap();
    assert_eq!(config["linux"]["namespaces"], json!([{"type": "pid"}]));
    let mut empty = json!({});
    machine.attach("none", &[]).unwrap().apply(&mut empty).unwrap();
    assert_eq!(empty, json!({"linux": {"namespaces": [{"type": "network"}]}}));
    for wrong in [json!([]), json!({"linux": 1}), json!({"linux": {"namespaces": 1}}), json!({"hooks": 1})] {
        assert!(attachment.apply(&mut wrong.clone()).is_err(), "{wrong}");
    }
}

#[test]
fn what_attach_refuses() {
    let machine = Machine::new("refuses");
    machine.file("web.conflist", &list("web", &["bridge"])).plugin("bridge", 0o644);
    let said = |name: &str, publish: &[&str]| machine.attach(name, publish).unwrap_err().to_string();
    assert!(said("web", &[]).starts_with(r#"network "web": plugin "bridge" is not in /no/such, "#));
    machine.plugin("bridge", 0o755);
    assert!(machine.attach("web", &[]).is_ok());
    assert!(said("web", &["80:80"]).ends_with("no plugin of it has the capability portMappings"));
    assert!(said("lan", &[]).starts_with(r#"no network "lan" in "#));
    assert!(said("host", &["80:80"]).contains("is not for the network host"));
}

#[test]
fn containers_are_kept_apart() {
    let machine = Machine::new("cache");
    let networks = Networks::create(&machine.0.join("cache/below")).unwrap();
    let now = std::time::Duration::ZERO;
    assert!(networks.lock("a", false, now).unwrap().is_none());
    let entry = networks.lock("a", true, now).unwrap().unwrap();
    assert!(networks.lock("a", true, now).is_err(), "somebody has it");
    assert!(networks.lock("b", true, now).is_ok());
    assert!(networks.lock("../a", true, now).is_err());
    assert_eq!(networks.ids().unwrap(), ["a", "b"]);
    assert!(entry.read().unwrap().is_none());
    let network = conf::parse(list("web", &["bridge"]), Path::new("a.conflist")).unwrap();
    let record = cache::Record {
        version: cache::Record::VERSION,
        id: "a".to_owned(),
        pid: 1,
        start_time: 0,
        boot_id: "another".to_owned(),
        network,
        interface: "eth0".to_owned(),
        ports: Vec::new(),
        plugin_path: "/no/such".to_owned(),
        left: 1,
        result: None,
    };
    entry.write(&record).unwrap();
    let read = networks.read("a").unwrap().unwrap();
    assert_eq!(read.network.name, "web");
    assert!(read.init().unwrap().is_none(), "of another boot");
    assert_eq!(entry.namespace().unwrap(), "");
    let mode = fs::metadata(machine.0.join("cache/below/a/attachment.json")).unwrap().permissions().mode();
    assert_eq!(mode & 0o777, 0o600);
    // What cannot be taken back stays, and is told.
    drop(entry);
    let pruned = prune(&machine.0.join("cache/below")).unwrap();
    assert_eq!(pruned.iter().map(|pruned| pruned.done.is_ok()).collect::<Vec<_>>(), [false, true]);
    assert_eq!(networks.ids().unwrap(), ["a"]);
    networks.remove(&networks.lock("a", false, now).unwrap().unwrap()).unwrap();
    assert!(networks.ids().unwrap().is_empty());
}
