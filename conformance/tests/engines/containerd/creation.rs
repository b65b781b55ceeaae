//! Known faults of shims around the creation of a task: it takes long, it fails, the client or the init goes away.

use std::fs;
use std::time::{Duration, Instant};

use conformance::look;
use conformance::test::{Done, Skip};
use containerd_shim_protos::api;
use containerd_shim_protos::ttrpc::proto::Code;
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;

use super::bare::{self, Answer, Shim, bundle};
use super::daemon::world;
use super::faults::on_fake;
use super::fixture::Test;
use super::oracle;

crate::cases![
    a_create_that_timed_out_leaves_no_shim,
    a_create_that_timed_out_and_failed_leaves_no_shim,
    the_init_dies_during_create,
    the_init_dies_between_create_and_start,
    a_slow_create_does_not_block_state,
    a_failed_create_leaks_no_descriptor,
    a_failed_create_says_what_the_runtime_says,
    a_runtime_with_much_to_say_is_heard_out,
];

/// What containerd does when its client gave up while the runtime was at work: `Delete`, and `Shutdown` if that says
/// that there is no such task. Nobody asks again.
fn give_up_in_create(t: &Test, fails: bool) {
    let id = t.id();
    let (fake, shim, dir) = on_fake(t, &id);
    fake.slow("create", Duration::from_secs(1));
    if fails {
        fake.broken("create");
    }
    let request = shim.task(&id).create_request(&dir, &Default::default());
    let short = Duration::from_millis(300);
    let answer: Answer<api::CreateTaskResponse> = shim.call_on(bare::V3, "Create", &request, short);
    answer.expect_err("the runtime takes longer");
    let deleted = shim.task(&id).delete("");
    let pid = oracle::shims_of(&id)[0];
    shim.ask_shutdown(&id, false).ok();
    assert!(
        look::eventually_within(Duration::from_secs(10), || !look::is_alive(pid)),
        "the shim is left; Delete said {deleted:?}, State says {:?}",
        shim.task(&id).state("").map(|state| state.status)
    );
}

fn a_create_that_timed_out_leaves_no_shim() -> Done {
    let t = Test::begin();
    give_up_in_create(&t, false);
    t.end()
}

fn a_create_that_timed_out_and_failed_leaves_no_shim() -> Done {
    let t = Test::begin();
    give_up_in_create(&t, true);
    t.end()
}

fn the_init_dies_during_create() -> Done {
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    fake.late("create", Duration::from_millis(800));
    let task = shim.task(&id);
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| shim.task(&id).create(&dir));
        // The real runtime has made the container, and the shim does not know yet.
        let init = || {
            let pids = look::cgroup_dirs().into_iter().filter(|d| d.ends_with(format!("suite/{id}")));
            pids.filter_map(|d| fs::read_to_string(d.join("cgroup.procs")).ok())
                .find_map(|text| text.lines().next()?.parse::<i32>().ok())
        };
        look::eventually("the init", || init().is_some());
        std::thread::sleep(Duration::from_millis(300));
        kill(Pid::from_raw(init().expect("the init")), Signal::SIGKILL).expect("cannot kill the init");
        let begun = Instant::now();
        // Both answers are right; none is not.
        let created = creating.join().expect("no panic");
        assert!(begun.elapsed() < Duration::from_secs(5), "{created:?}");
        if created.is_ok() {
            task.start("").expect_err("it has ended");
            assert_eq!(task.wait("").expect("Wait"), 137);
            task.delete("").expect("Delete");
        }
    });
    shim.shutdown(&id);
    t.end()
}

fn the_init_dies_between_create_and_start() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    let init = task.create(&bundle.path).expect("Create");
    kill(Pid::from_raw(init), Signal::SIGKILL).expect("cannot kill the init");
    assert_eq!(task.wait("").expect("Wait"), 137);
    let refused = task.start("").expect_err("it has ended");
    assert!(refused.code == Code::FAILED_PRECONDITION || world().is_control(), "{refused:?}");
    assert_eq!(task.delete("").expect("Delete").exit_status, 137);
    shim.shutdown(&id);
    t.end()
}

fn a_slow_create_does_not_block_state() -> Done {
    if world().is_control() {
        return Err(Skip("containerd 2.1's own shim is blocked by a slow create".into()));
    }
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    // Another container in the same shim.
    let other = t.id();
    let other_bundle = bundle(&t, &other);
    other_bundle.write();
    shim.task(&other).create(&other_bundle.path).expect("Create");
    shim.task(&other).start("").expect("Start");
    fake.slow("create", Duration::from_secs(2));
    std::thread::scope(|scope| {
        let creating = scope.spawn(|| shim.task(&id).create(&dir));
        std::thread::sleep(Duration::from_millis(300));
        let begun = Instant::now();
        assert_eq!(shim.task(&other).status(), "RUNNING");
        assert_eq!(shim.task(&other).pids().expect("Pids").len(), 1);
        assert!(shim.pid(&other) > 0);
        // Of the container itself there may be nothing to say, but that at once.
        if let Err(refused) = shim.task(&id).state("") {
            assert_eq!(refused.code, Code::NOT_FOUND, "{refused:?}");
        }
        assert!(begun.elapsed() < Duration::from_secs(1), "{:?}", begun.elapsed());
        creating.join().expect("no panic").expect("Create");
    });
    shim.task(&id).delete("").expect("Delete");
    shim.task(&other).finish();
    shim.shutdown(&id);
    t.end()
}

fn a_failed_create_leaks_no_descriptor() -> Done {
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    let task = shim.task(&id);
    let io = |name: &str| {
        let log = format!("file://{}", t.path(name));
        let io = super::task::Stdio { stdout: log.clone(), stderr: log, ..Default::default() };
        // After a failed create containerd's own shim waits ten seconds in Delete for output to end.
        if world().is_control() { super::task::Stdio::default() } else { io }
    };
    let both = || {
        fake.broken("create");
        task.create_io(&dir, &io("log")).expect_err("the runtime fails");
        fake.well();
        task.create_io(&dir, &io("log")).expect("Create");
        task.delete("").expect("Delete");
    };
    (0..3).for_each(|_| both());
    let pid = oracle::shims_of(&id)[0];
    let before = look::fds(pid).len();
    (0..15).for_each(|_| both());
    // Some may be about to be closed.
    let count = || look::fds(pid).len();
    // Go keeps pipes for later use.
    let more = if world().is_control() { 64 } else { 1 };
    assert!(look::eventually_within(Duration::from_secs(3), || count() <= before + more), "{before} to {}", count());
    shim.shutdown(&id);
    t.end()
}

fn a_failed_create_says_what_the_runtime_says() -> Done {
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    fake.broken("create");
    let refused = shim.task(&id).create(&dir).expect_err("the runtime fails");
    assert!(refused.message.contains("made to fail"), "{refused:?}");
    assert_eq!(shim.task(&id).state("").expect_err("it is not there").code, Code::NOT_FOUND);
    shim.shutdown(&id);
    t.end()
}

fn a_runtime_with_much_to_say_is_heard_out() -> Done {
    let t = Test::begin();
    let id = t.id();
    let (fake, shim, dir) = on_fake(&t, &id);
    // More than a pipe holds: who waits for the end before reading waits for ever.
    fake.broken_with("create", &"words upon words\n".repeat(20_000));
    let begun = Instant::now();
    shim.task(&id).create(&dir).expect_err("the runtime fails");
    assert!(begun.elapsed() < Duration::from_secs(5), "{:?}", begun.elapsed());
    shim.shutdown(&id);
    t.end()
}
