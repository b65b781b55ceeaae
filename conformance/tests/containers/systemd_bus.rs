//! The systemd driver when something breaks: proa killed, many at once, a bus that is not there or says nothing.

use std::os::unix::net::UnixListener;
use std::path::Path;
use std::time::Duration;

use conformance::runtime::Output;
use conformance::test::{Done, Test};
use nix::sys::signal::Signal;

use crate::systemd::{is_known, needs, unit_of};

crate::cases! {
    "" => killed_at_any_moment,
    "" => many_at_once,
    "" => no_bus_but_systemd,
    "" => a_bus_that_closes,
    "" => a_bus_that_never_answers,
}

fn killed_at_any_moment(t: &Test<'_>) -> Done {
    needs(t)?;
    // From well before the scope is made until well after, on a machine as slow as an emulated one.
    for step in 0..14 {
        let id = t.id();
        let running = t.create_call(&t.sleeping_bundle(), &id).global("--systemd-cgroup").spawn();
        std::thread::sleep(Duration::from_millis(step * 25));
        running.kill(Signal::SIGKILL);
        running.wait(&t.runtime);
        t.call(&["delete", "--force", &id]).output().ok();
        assert!(!is_known(&unit_of(&id)), "after {step} steps");
        t.assert_nothing_left();
    }
    Ok(())
}

fn many_at_once(t: &Test<'_>) -> Done {
    needs(t)?;
    let ids: Vec<String> = (0..12).map(|_| t.id()).collect();
    let running: Vec<_> = ids.iter().map(|id| t.run_call(&t.bundle(), id).global("--systemd-cgroup").spawn()).collect();
    for one in running {
        one.wait(&t.runtime).ok();
    }
    for id in &ids {
        assert!(!is_known(&unit_of(id)));
    }
    t.assert_nothing_left();
    Ok(())
}

fn no_bus_but_systemd(t: &Test<'_>) -> Done {
    needs(t)?;
    let id = t.id();
    let call = t.run_call(&t.bundle(), &id).global("--systemd-cgroup");
    call.env("DBUS_SYSTEM_BUS_ADDRESS", "unix:path=/nowhere").output().ok();
    assert!(!is_known(&unit_of(&id)));
    Ok(())
}

/// What a create says whose bus is at this address, which has to fail.
#[track_caller]
fn create_by(t: &Test<'_>, address: &Path) -> Output {
    let call = t.create_call(&t.bundle(), &t.id()).global("--systemd-cgroup");
    call.env("DBUS_SYSTEM_BUS_ADDRESS", format!("unix:path={}", address.display())).output().fails()
}

fn a_bus_that_closes(t: &Test<'_>) -> Done {
    t.proa_only("in proa's words")?;
    let address = t.file("bus");
    let listener = UnixListener::bind(&address).expect("cannot listen");
    // A scope that was not made need not be taken back: it is asked once.
    let server = std::thread::spawn(move || drop(listener.accept()));
    let output = create_by(t, &address);
    server.join().expect("the bus has panicked");
    t.proa_says(&output, "systemd: connect for proa-");
    t.assert_clean_failure(&output);
    Ok(())
}

fn a_bus_that_never_answers(t: &Test<'_>) -> Done {
    t.proa_only("in proa's words")?;
    // A minute that not every machine needs to wait.
    needs(t)?;
    let address = t.file("bus");
    let listener = UnixListener::bind(&address).expect("cannot listen");
    let before = std::time::Instant::now();
    let output = create_by(t, &address);
    drop(listener);
    t.proa_says(&output, "no answer within");
    assert!(before.elapsed() < Duration::from_secs(90), "{:?}", before.elapsed());
    t.assert_clean_failure(&output);
    Ok(())
}
