//! Containers of one pod: one shim for all of them.

use conformance::look;
use conformance::test::Done;

use super::events;
use super::fixture::{Container, Test};
use super::oracle;

crate::cases![
    containers_of_a_pod_share_a_shim,
    the_other_annotation_groups_too,
    the_first_container_may_end_first,
    a_pod_s_shim_takes_new_containers_for_long,
    without_the_annotation_each_has_its_own,
];

const SANDBOX: &str = "io.kubernetes.cri.sandbox-id";

/// A container that belongs to the group of the container `first`.
fn member(t: &Test, annotation: &str, first: &str) -> Container {
    let of = format!("{annotation}={first}");
    t.container().options(&["--null-io", "--annotation", &of]).start(&["sleep", "1000"])
}

fn containers_of_a_pod_share_a_shim() -> Done {
    let t = Test::begin();
    let first = t.sleeper();
    let shim = first.shim();
    let (second, third) = (member(&t, SANDBOX, &first.id), member(&t, SANDBOX, &first.id));
    for one in [&second, &third] {
        assert!(oracle::shims_of(&one.id).is_empty(), "{} has a shim of its own", one.id);
        assert_eq!(look::stat(one.pid()).expect("its init").ppid, shim);
    }
    // One ends, the others go on and can still be used.
    second.stop();
    second.delete().ok();
    third.sh("exit 4").exits(4);
    assert_eq!(first.status().as_deref(), Some("RUNNING"));
    third.stop();
    third.delete().ok();
    assert!(look::is_alive(shim));
    first.stop();
    first.delete().ok();
    look::eventually("the end of the shim", || !look::is_alive(shim));
    for one in [&first, &second, &third] {
        assert_eq!(one.story().iter().filter(|event| *event == "exit init 137").count(), 1, "{:?}", one.story());
    }
    t.end()
}

fn the_other_annotation_groups_too() -> Done {
    let t = Test::begin();
    let first = t.sleeper();
    let second = member(&t, "io.containerd.runc.v2.group", &first.id);
    assert_eq!(look::stat(second.pid()).expect("its init").ppid, first.shim());
    t.end()
}

fn the_first_container_may_end_first() -> Done {
    let t = Test::begin();
    let first = t.sleeper();
    let shim = first.shim();
    let second = member(&t, SANDBOX, &first.id);
    first.stop();
    first.delete().ok();
    // The shim was started for the first one; it is the second one's as well.
    assert!(look::is_alive(shim));
    second.sh("exit 5").exits(5);
    assert_eq!(second.status().as_deref(), Some("RUNNING"));
    second.stop();
    second.delete().ok();
    look::eventually("the end of the shim", || !look::is_alive(shim));
    t.end()
}

fn a_pod_s_shim_takes_new_containers_for_long() -> Done {
    let t = Test::begin();
    let first = t.sleeper();
    let shim = first.shim();
    let before = look::fds(shim).len();
    for turn in 0..20 {
        let of = format!("{SANDBOX}={}", first.id);
        let plan = t.container().options(&["--annotation", &of]);
        plan.rm(&["sh", "-c", &format!("exit {turn}")]).run().exits(turn);
    }
    let count = || look::fds(shim).len();
    assert!(
        look::eventually_within(std::time::Duration::from_secs(3), || count() <= before + 1),
        "{before} descriptors, then {}: {:?}",
        count(),
        look::fds(shim)
    );
    t.end()
}

fn without_the_annotation_each_has_its_own() -> Done {
    let t = Test::begin();
    let (first, second) = (t.sleeper(), t.sleeper());
    assert_ne!(first.shim(), second.shim());
    first.stop();
    assert_eq!(events::wait(&first.id, "exit init").status(), 137);
    assert_eq!(second.status().as_deref(), Some("RUNNING"));
    t.end()
}
