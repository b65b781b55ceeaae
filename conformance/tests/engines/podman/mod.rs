//! Podman, with its own client. It has no daemon: conmon runs the runtime.

mod checkpoint;
mod options;
mod pods;
mod rootless;

use std::any::Any;
use std::fs;

use conformance::test::set_apart;

use crate::Case;
use crate::cli::{self, Engine};
use crate::command::Call;
use crate::snippet;

/// Every file of tests.
pub(crate) fn topics() -> Vec<&'static [Case]> {
    [cli::TOPICS, &[options::CASES, checkpoint::CASES, pods::CASES, rootless::CASES]].concat()
}

/// Sets Podman up as docs/engines.md says.
pub(crate) fn begin() -> Box<dyn Any> {
    crate::be_in_the_root();
    set_apart("run this as root");
    crate::install(&crate::runtime(), "/usr/local/bin/proa");
    snippet::install("Podman", "/etc/containers/containers.conf.d/proa.conf");
    // For --userns auto.
    Call::new("useradd", &["--system", "containers"]).run().ok();
    for file in ["/etc/subuid", "/etc/subgid"] {
        let text = fs::read_to_string(file).expect("a list of subordinate ids");
        fs::write(file, text + "containers:300000:1000000\n").expect("cannot write");
    }
    rootless::begin();
    cli::begin(Engine { program: "podman", clear, states: &["/run/proa"] });
    Box::new(())
}

fn clear() {
    for words in [["pod", "rm", "-fa", "-t", "0"].as_slice(), &["rm", "-fa", "-t", "0", "--volumes"]] {
        Call::new("podman", words).env("PODMAN_IGNORE_CGROUPSV1_WARNING", "1").run();
    }
}
