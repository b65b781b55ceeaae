//! What containerd tells of: one `ctr events` is read all the time, and every event is kept in the order in which it
//! came.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use conformance::look;
use serde_json::Value;

use super::ctr::ctr;
use super::daemon::{NAMESPACE, world};

/// One event of a task.
#[derive(Debug, Clone)]
pub(crate) struct Event {
    /// `/tasks/exit`
    pub(crate) topic: String,
    /// When containerd says that it was, in seconds of the day, UTC.
    pub(crate) time: f64,
    pub(crate) body: Value,
}

static EVENTS: Mutex<Vec<Event>> = Mutex::new(Vec::new());
static LISTENER: Mutex<Option<Child>> = Mutex::new(None);

/// The listener's process.
pub(crate) fn pid() -> i32 {
    LISTENER.lock().expect("a lock").as_ref().map_or(0, |child| child.id() as i32)
}

/// Begins to listen; returns when nothing is missed any more.
pub(crate) fn listen() {
    let mut child = Command::new("ctr")
        .arg("events")
        .env("CONTAINERD_ADDRESS", world().address())
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()
        .expect("cannot start ctr events");
    let lines = BufReader::new(child.stdout.take().expect("a pipe")).lines();
    std::thread::spawn(move || {
        for line in lines.map_while(Result::ok) {
            if let Some(event) = parse(&line) {
                EVENTS.lock().expect("a lock").push(event);
            }
        }
    });
    *LISTENER.lock().expect("a lock") = Some(child);
    let mut mark = 0;
    let begun = EVENTS.lock().expect("a lock").len();
    // An event of our own making that comes back is the sign.
    let came = look::eventually_within(Duration::from_secs(10), || {
        mark += 1;
        ctr(&["namespaces", "label", NAMESPACE, &format!("mark={mark}")]).run();
        ctr(&["namespaces", "create", NAMESPACE]).run();
        std::thread::sleep(Duration::from_millis(5));
        EVENTS.lock().expect("a lock").len() > begun
    });
    assert!(came, "ctr events tells of nothing");
}

/// Ends the listener.
pub(crate) fn stop() {
    if let Some(mut child) = LISTENER.lock().expect("a lock").take() {
        child.kill().ok();
        child.wait().ok();
    }
}

/// `DATE TIME +0000 UTC NAMESPACE TOPIC JSON`
fn parse(line: &str) -> Option<Event> {
    let mut words = line.splitn(7, ' ').skip(1);
    let time =
        words.next()?.split(':').try_fold(0.0, |sum, part| part.parse::<f64>().ok().map(|part| sum * 60.0 + part))?;
    let mut words = words.skip(3);
    let topic = words.next()?.to_owned();
    Some(Event { topic, time, body: serde_json::from_str(words.next()?).ok()? })
}

impl Event {
    /// The event in a few words: `create`, `exit init 3`, `exec-started e1`.
    pub(crate) fn brief(&self) -> String {
        let kind = self.topic.trim_start_matches("/tasks/");
        let container = self.body["container_id"].as_str().unwrap_or_default();
        let which = match self.body["exec_id"].as_str().or(self.body["id"].as_str()) {
            Some(id) if id == container => "init",
            Some(id) => id,
            None => "",
        };
        match kind {
            // protobuf's JSON leaves zeros out.
            "exit" => format!("exit {which} {}", self.status()),
            _ => format!("{kind} {which}").trim_end().to_owned(),
        }
    }

    pub(crate) fn status(&self) -> u64 {
        self.body["exit_status"].as_u64().unwrap_or(0)
    }
}

/// All events of a container's task so far, in order.
pub(crate) fn of(id: &str) -> Vec<Event> {
    let all = EVENTS.lock().expect("a lock");
    all.iter().filter(|event| event.topic.starts_with("/tasks/") && event.body["container_id"] == id).cloned().collect()
}

/// All events of a container's task so far, in a few words each.
pub(crate) fn story(id: &str) -> Vec<String> {
    of(id).iter().map(Event::brief).collect()
}

/// Waits for an event whose words begin with `start`.
#[track_caller]
pub(crate) fn wait(id: &str, start: &str) -> Event {
    let find = || of(id).into_iter().find(|event| event.brief().starts_with(start));
    let came = look::eventually_within(Duration::from_secs(15), || find().is_some());
    assert!(came, "no event {start:?} of {id}: {:?}", story(id));
    find().expect("it came")
}

/// Where in the story this stands, which must be there exactly once.
#[track_caller]
pub(crate) fn place(story: &[String], start: &str) -> usize {
    let places: Vec<usize> = (0..story.len()).filter(|at| story[*at].starts_with(start)).collect();
    assert_eq!(places.len(), 1, "{start:?} is not there exactly once: {story:?}");
    places[0]
}
