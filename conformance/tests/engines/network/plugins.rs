//! Plugins that fail, hang and lie.

use std::fs;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use conformance::bundle::write_script;
use conformance::test::Done;
use serde_json::{Value, json};

use super::fixture::{Guest, NETWORK, PROA};
use crate::command::Call;

crate::cases! {
    the_second_one_fails,
    what_plugins_are_told,
    no_result,
    one_that_hangs,
    one_that_talks_without_end,
    one_that_fails_to_delete,
}

const RESULT: &str = r#"{"cniVersion": "1.0.0", "ips": [{"address": "192.0.2.1/24"}]}"#;

/// A directory with a network of that name whose plugins are scripts.
pub(crate) struct Network(PathBuf);

pub(crate) fn network(name: &str, scripts: &[(&str, &str)]) -> Network {
    let dir = PathBuf::from(format!("/tmp/guests/{name}-network"));
    fs::create_dir_all(dir.join("bin")).expect("cannot make a directory");
    for (kind, script) in scripts {
        write_script(&dir.join("bin").join(kind), script);
    }
    let bridge: Value = {
        let text = fs::read_to_string("/etc/cni/net.d/50-web.conflist").expect("the network of the page");
        serde_json::from_str::<Value>(&text).expect("JSON")["plugins"][0].clone()
    };
    let plugin = |(kind, _): &(&str, &str)| {
        let mut plugin = bridge.clone();
        plugin["type"] = json!(kind);
        plugin["capabilities"] = json!({"portMappings": true});
        plugin
    };
    let mut plugins: Vec<Value> = scripts.iter().map(plugin).collect();
    if name != "late" {
        plugins.insert(0, bridge.clone());
    }
    let list = json!({"cniVersion": "1.0.0", "name": name, "plugins": plugins});
    fs::write(dir.join("10-it.conflist"), list.to_string()).expect("cannot write");
    Network(dir)
}

impl Network {
    pub(crate) fn config(&self) -> String {
        self.0.display().to_string()
    }

    pub(crate) fn path(&self) -> String {
        format!("{}:/usr/lib/cni", self.0.join("bin").display())
    }

    fn name(&self) -> String {
        let name = self.0.file_name().expect("a name").to_string_lossy().into_owned();
        name.trim_end_matches("-network").to_owned()
    }

    fn guest(&self) -> Guest {
        Guest::with(&["-p", "8070:80", "--cni-config-dir", &self.config(), "--cni-path", &self.path(), &self.name()])
    }

    fn file(&self, name: &str) -> String {
        fs::read_to_string(self.0.join(name)).unwrap_or_default()
    }
}

impl Drop for Network {
    fn drop(&mut self) {
        fs::remove_dir_all(&self.0).ok();
        // The network's own.
        fs::remove_dir_all(Path::new("/var/lib/cni/networks").join(self.name())).ok();
    }
}

fn the_second_one_fails() -> Done {
    let error = r#"{"cniVersion": "1.0.0", "code": 11, "msg": "try again later", "details": "the moon\nis full"}"#;
    let script = format!("[ $CNI_COMMAND = DEL ] || {{ printf %s '{error}'; exit 1; }}");
    let network = network("failing", &[("moody", &script)]);
    let mut guest = network.guest();
    let said = guest.try_create(&["sleep", "1000"]).fails();
    let said = said.says(r#"network "failing": plugin "moody", ADD: error 11: try again later: the moon is full"#);
    assert_eq!(said.err.trim().lines().count(), 1, "{}", said.err);
    assert!(!guest.record().exists());
    // One that has no words of the form.
    write_script(&network.0.join("bin/moody"), "[ $CNI_COMMAND = DEL ] || { echo panic: no moon >&2; exit 2; }");
    let said = guest.try_create(&["sleep", "1000"]).fails();
    said.says(r#"plugin "moody", ADD: exited with status 2, its last output: panic: no moon"#);
    write_script(&network.0.join("bin/moody"), "[ $CNI_COMMAND = DEL ] || kill -SEGV $$");
    guest.try_create(&["sleep", "1000"]).fails().says("was killed by signal 11, without a word");
    Ok(())
}

fn what_plugins_are_told() -> Done {
    let script = format!(
        "cat >/tmp/guests/told-network/$CNI_COMMAND; env >/tmp/guests/told-network/$CNI_COMMAND.env; \
         ls -l /proc/$$/fd >/tmp/guests/told-network/$CNI_COMMAND.fds; echo '{RESULT}'"
    );
    let network = network("told", &[("ear", &script)]);
    let guest = network.guest().started(&["sleep", "1000"]);
    let pid = guest.pid();
    let told: Value = serde_json::from_str(&network.file("ADD")).expect("JSON");
    assert_eq!((&told["name"], &told["cniVersion"], &told["type"]), (&json!("told"), &json!("1.0.0"), &json!("ear")));
    let ports = json!([{"hostPort": 8070, "containerPort": 80, "protocol": "tcp"}]);
    assert_eq!(told["runtimeConfig"], json!({"portMappings": ports}));
    assert!(told["capabilities"].is_null());
    assert!(told["prevResult"]["interfaces"].is_array(), "the result of the plugin before: {told}");
    let namespace = format!("/var/lib/proa/networks/{}/netns", guest.id);
    let mut env: Vec<String> = network.file("ADD.env").lines().map(str::to_owned).collect();
    env.retain(|line| !["PWD=", "SHLVL=", "_=", "OLDPWD="].iter().any(|own| line.starts_with(own)));
    env.sort();
    let path = network.path();
    let wanted = [
        "CNI_COMMAND=ADD".to_owned(),
        format!("CNI_CONTAINERID={}", guest.id),
        "CNI_IFNAME=eth0".to_owned(),
        format!("CNI_NETNS={namespace}"),
        format!("CNI_PATH={path}"),
        "PATH=/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin".to_owned(),
    ];
    assert_eq!(env, wanted);
    // Its standard streams, the lock of the network, the directory that is listed or the script.
    assert!(network.file("ADD.fds").lines().count() <= 7, "{}", network.file("ADD.fds"));
    super::fixture::kill(pid);
    guest.call(&["delete", &guest.id]).run().ok();
    let told: Value = serde_json::from_str(&network.file("DEL")).expect("JSON");
    assert_eq!(told["prevResult"]["ips"][0]["address"], "192.0.2.1/24", "its own result, the last: {told}");
    assert_eq!(told["runtimeConfig"], json!({"portMappings": ports}));
    assert!(network.file("DEL.env").contains(&format!("CNI_NETNS={namespace}")), "which is kept for the plugins");
    Ok(())
}

fn no_result() -> Done {
    for (name, output) in [("silent", ":"), ("wordy", "echo hello"), ("listing", "echo '[]'")] {
        let network = network(name, &[(name, output)]);
        let said = network.guest().try_create(&["sleep", "1000"]).fails();
        said.says(&format!("plugin {name:?}, ADD: succeeded without a result"));
    }
    Ok(())
}

fn one_that_hangs() -> Done {
    let network = network("slow", &[("sloth", "[ $CNI_COMMAND = DEL ] || { sleep 999 & sleep 999; }")]);
    let begun = Instant::now();
    let said = network.guest().try_create(&["sleep", "1000"]).fails();
    said.says("plugin \"sloth\", ADD: ran longer than 30 seconds and was killed");
    assert!(begun.elapsed() < Duration::from_secs(45), "{:?}", begun.elapsed());
    Ok(())
}

fn one_that_talks_without_end() -> Done {
    let script = format!("head -c 100m /dev/zero | tr '\\0' x; head -c 100m /dev/zero >&2; echo '{RESULT}'");
    let network = network("loud", &[("parrot", &script)]);
    let said = network.guest().try_create(&["sleep", "1000"]).fails();
    said.says("plugin \"parrot\", ADD: succeeded without a result");
    Ok(())
}

fn one_that_fails_to_delete() -> Done {
    let error = r#"{"code": 5, "msg": "not today"}"#;
    let script = format!(
        "[ $CNI_COMMAND = ADD ] && {{ echo '{RESULT}'; exit; }}; [ -e /tmp/guests/sulking-network/today ] || \
         {{ echo '{error}'; exit 1; }}"
    );
    let counter = "echo $CNI_COMMAND >>/tmp/guests/sulking-network/calls";
    let last = format!("{counter}; echo '{RESULT}'");
    let network = network("sulking", &[("sulk", &script), ("count", &last)]);
    let guest = network.guest().started(&["sleep", "1000"]);
    super::fixture::kill(guest.pid());
    let said = guest.call(&["delete", &guest.id]).run().ok();
    said.says("plugin \"sulk\", DEL: error 5: not today");
    assert!(guest.record().exists(), "it is not forgotten");
    let prune = || Call::new(PROA, &["network", "prune"]).run();
    prune().fails().says("not today");
    fs::write(network.0.join("today"), "").expect("cannot write");
    assert_eq!(prune().text(), guest.id);
    assert_eq!(network.file("calls"), "ADD\nDEL\n", "what was taken back once is not again");
    assert!(Guest::new(NETWORK, &[]).bundle.path.exists());
    Ok(())
}
