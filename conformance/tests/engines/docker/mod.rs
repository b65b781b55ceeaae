//! Docker, with its own client and a daemon of its own, which starts a containerd.

mod daemon;
mod options;

use std::any::Any;
use std::fs;

use conformance::test::set_apart;

use crate::Case;
use crate::cli::{self, Engine};
use crate::command::Call;
use crate::snippet;

/// Every file of tests.
pub(crate) fn topics() -> Vec<&'static [Case]> {
    [cli::TOPICS, &[options::CASES, daemon::CASES]].concat()
}

const SETTINGS: &str = "/etc/docker/daemon.json";

/// Docker that is told the runtime by its path.
pub(crate) fn with_path() -> Box<dyn Any> {
    begin("By the shim that comes with containerd", "io.containerd.runc.v2")
}

/// Docker that uses proa's own shim.
pub(crate) fn with_shim() -> Box<dyn Any> {
    begin("By proa's own shim", "io.containerd.proa.v2")
}

/// Sets Docker up as docs/engines.md says. `DOCKER_RUNTIME_TYPE` in the environment names another shim than
/// `io.containerd.proa.v2`, to see which tests pass with it.
fn begin(heading: &str, shim: &str) -> Box<dyn Any> {
    crate::be_in_the_root();
    set_apart("run this as root");
    crate::install(&crate::runtime(), "/usr/local/bin/proa");
    std::os::unix::fs::symlink("/usr/local/bin/proa", "/usr/local/sbin/runc").expect("cannot link");
    snippet::install(heading, SETTINGS);
    if shim == "io.containerd.proa.v2" {
        if let Ok(other) = std::env::var("DOCKER_RUNTIME_TYPE") {
            let text = fs::read_to_string(SETTINGS).expect("just written");
            fs::write(SETTINGS, text.replace(shim, &other)).expect("cannot write");
        } else {
            crate::install(&crate::shim(), "/usr/local/bin/containerd-shim-proa-v2");
        }
    }
    daemon::start(&[]);
    cli::begin(Engine {
        program: "docker",
        clear,
        // Where the engine has the shims keep it, and where proa would by itself.
        states: &[
            "/run/docker/runtime-runc/moby",
            "/run/docker/runtime-proa/moby",
            "/run/containerd/runc/moby",
            "/run/containerd/proa/moby",
            "/run/proa",
        ],
    });
    Box::new(daemon::End)
}

fn clear() {
    let list = Call::new("docker", &["ps", "-aq"]).run().out;
    let mut words = vec!["rm", "-f", "-v"];
    words.extend(list.split_whitespace());
    if words.len() > 3 {
        Call::new("docker", &words).run();
    }
}
