//! Documents as they are found: those of the spec's own tests, and such as runtimes and engines write (see
//! `samples/README.md`).

use super::mend::mend;
use super::shape::CONFIG;
use super::{compare, disagreement, ours};
use crate::config::unknown_properties;
use serde_json::Value;

macro_rules! samples {
    ($($path:literal)*) => {
        [$(($path, include_str!(concat!("../samples/", $path)))),*]
    };
}

pub(super) const GOOD: [(&str, &str); 12] = samples! {
    "spec-good/linux-netdevice.json"
    "spec-good/linux-rdma.json"
    "spec-good/minimal-for-start.json"
    "spec-good/minimal.json"
    "spec-good/spec-example.json"
    "engines/containerd-cri.json"
    "engines/crun-spec-rootless.json"
    "engines/crun-spec.json"
    "engines/docker.json"
    "engines/podman.json"
    "engines/runc-spec-rootless.json"
    "engines/runc-spec.json"
};

const BAD: [(&str, &str); 4] = samples! {
    "spec-bad/invalid-json.json"
    "spec-bad/linux-hugepage.json"
    "spec-bad/linux-netdevice.json"
    "spec-bad/linux-rdma.json"
};

#[test]
fn good_samples_are_read_alike() {
    for (name, text) in GOOD {
        let document: Value = serde_json::from_str(text).unwrap();
        assert_eq!(disagreement(&document), None, "{name}");
        assert!(ours(&document).is_ok(), "{name}");
        // Nothing that is found in the world needs mending.
        let [document, mended] = [&document, &mend(&document)].map(|d| compare::normal(&CONFIG, d));
        assert_eq!(compare::difference(&document, &mended), None, "{name}");
    }
}

#[test]
fn good_samples_have_no_unknown_properties() {
    for (name, text) in GOOD {
        let expected: &[&str] =
            if name.ends_with("spec-example.json") { &["linux.resources.oomScoreAdj"] } else { &[] };
        assert_eq!(unknown_properties(text), expected, "{name}");
    }
}

#[test]
fn bad_samples_are_refused_by_name() {
    let errors = BAD.map(|(_, text)| super::parse_spec(text).err().map(|error| error.to_string()));
    let expected = [
        Some("config.json: key must be a string at line 1 column 2"),
        // Of the right type, so the plan refuses it: "64kB" is no size with a prefix of `K`, `M` or `G`.
        None,
        Some(
            "config.json: linux.netDevices.eth0.name: invalid type: integer `23`, expected a string at line 9 column 26",
        ),
        Some(
            "config.json: linux.resources.rdma.mlx5_1.hcaHandles: \
             invalid type: string \"not a uint32\", expected u32 at line 10 column 48",
        ),
    ];
    assert_eq!(errors.each_ref().map(Option::as_deref), expected);
    for (name, text) in &BAD[1..] {
        assert_eq!(disagreement(&serde_json::from_str(text).unwrap()), None, "{name}");
    }
}
