//! Output that goes to a file or to a program that keeps logs: `file://` and `binary://`.

use std::fs;
use std::time::{Duration, Instant};

use conformance::bundle::write_script;
use conformance::look;
use conformance::test::{Done, Skip};
use nix::mount::{MsFlags, mount, umount};

use super::bare::{Shim, bundle};
use super::daemon::{NAMESPACE, world};
use super::events;
use super::fixture::Test;
use super::task::Stdio;

crate::cases![
    output_goes_to_a_file,
    an_exec_s_output_goes_to_a_file,
    output_goes_to_a_program,
    a_program_that_ends_at_once_holds_up_nothing,
    a_full_disk_holds_up_nothing,
];

fn output_goes_to_a_file() -> Done {
    let t = Test::begin();
    let file = t.dir.join("not/there/yet/log");
    for turn in 1..=2 {
        let uri = format!("file://{}", file.display());
        let c = t.container().options(&["--log-uri", &uri]).start(&["sh", "-c", "echo out; echo err >&2"]);
        c.stopped();
        c.delete().ok();
        // The second container's words stand after the first one's.
        let text = fs::read_to_string(&file).expect("the log");
        assert_eq!(text.matches("out\n").count(), turn, "{text}");
        assert_eq!(text.matches("err\n").count(), turn, "{text}");
    }
    t.end()
}

fn an_exec_s_output_goes_to_a_file() -> Done {
    let t = Test::begin();
    let id = t.id();
    let bundle = bundle(&t, &id);
    let shim = Shim::start(&bundle, &id);
    let task = shim.task(&id);
    task.create(&bundle.path).expect("Create");
    task.start("").expect("Start");
    let uri = format!("file://{}", t.path("log"));
    let io = Stdio { stdout: uri.clone(), stderr: uri, ..Stdio::default() };
    task.exec_io("x", &["sh", "-c", "yes 0123456789abcde | head -c 1000000; echo err >&2"], &io).expect("Exec");
    task.start("x").expect("Start");
    assert_eq!(task.wait("x").expect("Wait"), 0);
    task.delete("x").expect("Delete");
    assert_eq!(fs::metadata(t.dir.join("log")).expect("the log").len(), 1_000_004);
    task.finish();
    shim.shutdown(&id);
    t.end()
}

fn output_goes_to_a_program() -> Done {
    let t = Test::begin();
    let (logger, dir) = (t.dir.join("logger"), t.dir.display());
    write_script(
        &logger,
        &format!(
            "echo $CONTAINER_ID $CONTAINER_NAMESPACE \"$@\" >{dir}/about\n\
             cat <&3 >{dir}/out 5>&- & cat <&4 >{dir}/err 5>&- &\nexec 3<&- 4<&- 5>&-\nwait"
        ),
    );
    let uri = format!("binary://{}?some=thing", logger.display());
    let script = "yes 0123456789abcde | head -c 1000000; echo err >&2";
    let c = t.container().options(&["--log-uri", &uri]).start(&["sh", "-c", script]);
    events::wait(&c.id, "exit init");
    let begun = Instant::now();
    c.delete().ok();
    // It is told the end of the output, and does not have to be killed.
    assert!(begun.elapsed() < Duration::from_secs(5), "deletion takes {:?}", begun.elapsed());
    // The program may be told to end before it has read all: its children read on.
    let size = |name: &str| fs::metadata(t.dir.join(name)).map_or(0, |meta| meta.len());
    look::eventually("all of the output", || size("out") == 1_000_000 && size("err") == 4);
    let about = fs::read_to_string(t.dir.join("about")).expect("the program ran");
    assert_eq!(about, format!("{} {NAMESPACE} some thing\n", c.id));
    assert_eq!(fs::read_to_string(t.dir.join("err")).expect("its output"), "err\n");
    t.end()
}

fn a_program_that_ends_at_once_holds_up_nothing() -> Done {
    let t = Test::begin();
    let logger = t.dir.join("logger");
    write_script(&logger, "exit 1");
    let uri = format!("binary://{}", logger.display());
    let plan = t.container().options(&["--log-uri", &uri]);
    // Whether the container is refused or runs with its output lost: neither it nor a shim stays behind.
    let (c, _) = plan.try_start(&["sh", "-c", "yes | head -c 1000000; exit 3"]);
    let over = || c.status().is_none_or(|status| status == "STOPPED");
    assert!(look::eventually_within(Duration::from_secs(10), over), "{:?}", c.status());
    t.end()
}

fn a_full_disk_holds_up_nothing() -> Done {
    if world().is_control() {
        return Err(Skip(
            "containerd's own shim stops reading after a failed write, and the program waits for ever".into(),
        ));
    }
    let t = Test::begin();
    let small = t.dir.join("small");
    fs::create_dir(&small).expect("cannot make a directory");
    mount(Some("none"), &small, Some("tmpfs"), MsFlags::empty(), Some("size=64k")).expect("cannot mount");
    let uri = format!("file://{}/log", small.display());
    let c = t.container().options(&["--log-uri", &uri]).start(&["sh", "-c", "yes | head -c 1000000; exit 3"]);
    // What does not fit is lost, and nothing else.
    assert_eq!(events::wait(&c.id, "exit init").status(), 3);
    c.delete().ok().told("exit code 3");
    assert!(fs::metadata(small.join("log")).expect("the log").len() > 0);
    umount(&small).expect("somebody holds the log");
    t.end()
}
