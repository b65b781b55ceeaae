//! Containers that are run by hand on networks of CNI plugins, as docs/networks.md tells users to: by proa, and by runc and
//! crun with the same hooks. After each test the machine's networks have to be what they were before.

mod crash;
mod fixture;
mod plugins;
mod reach;
mod wrong;

use std::any::Any;

use conformance::test::set_apart;

use crate::Case;
use crate::snippet;
use fixture::{Guest, NETWORK, PROA};

pub(crate) const TOPICS: &[&[Case]] = &[reach::CASES, crash::CASES, plugins::CASES, wrong::CASES];

/// Sets the network up as docs/networks.md says.
pub(crate) fn begin() -> Box<dyn Any> {
    crate::be_in_the_root();
    set_apart("run this as root");
    crate::install(&crate::runtime(), PROA);
    snippet::install_from("networks.md", "Set up once", "/etc/cni/net.d/50-web.conflist");
    fixture::begin();
    // What is the network's own, and stays: its bridge, the chains of its firewall.
    drop(Guest::new(NETWORK, &["8080:80"]).started(&["sleep", "1000"]));
    fixture::remember();
    Box::new(())
}
