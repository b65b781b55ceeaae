//! `proa events`: what a container uses, and when the kernel kills in it for want of memory, in runc's JSON.

mod json;

use super::{App, is_read, json_line, print, with_record};
use crate::error::{Context, Error, Result, bad};
use crate::state::{Status, view};
use cgroup::{Cgroup, Usage};
use json::{Event, Stats};
use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;
use std::time::{Duration, Instant};

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let interval = match app.value("interval") {
        Some(text) => {
            let parsed = duration(text).filter(|interval| !interval.is_zero());
            parsed.ok_or_else(|| {
                bad("--interval", format_args!("{text:?} is no duration above zero, such as 5s or 500ms"))
            })?
        }
        None => Duration::from_secs(5),
    };
    with_record(app, |_, dir, record| {
        let (status, init) = view(dir, record)?;
        let stopped = || Error::Usage(format!("container with id {} is not running", dir.id));
        let (Status::Created | Status::Running | Status::Paused, Some(init)) = (status, init) else {
            return Err(stopped());
        };
        if record.cgroup.is_disabled() {
            return Err(Error::Usage(format!("container {} has no cgroup that counts what it uses", dir.id)));
        }
        let cgroup = record.cgroup.open()?.ok_or_else(stopped)?;
        if app.flag("stats") {
            return match cgroup.usage()? {
                Some(usage) => print(&stats(&dir.id, &usage)?),
                None => Err(stopped()),
            };
        }
        follow(&dir.id, &cgroup, &init, interval)
    })
}

fn stats(id: &str, usage: &Usage) -> Result<String> {
    json_line(&Event { kind: "stats", id, data: Some(Stats::new(usage)) })
}

/// Until the container ends, or nobody reads any more.
fn follow(id: &str, cgroup: &Cgroup, init: &crate::state::Process, interval: Duration) -> Result<()> {
    let mut watch = cgroup.watch_oom()?;
    let mut next = Instant::now();
    loop {
        let now = Instant::now();
        if now >= next {
            let Some(usage) = cgroup.usage()? else { return Ok(()) };
            if !is_read(&stats(id, &usage)?)? {
                return Ok(());
            }
            next = now + interval;
        }
        let left = next.saturating_duration_since(Instant::now());
        let timeout = Timespec { tv_sec: left.as_secs() as i64, tv_nsec: left.subsec_nanos().into() };
        let pidfd = init.pidfd();
        let mut fds = vec![PollFd::new(pidfd, PollFlags::IN)];
        fds.extend(watch.as_ref().map(|watch| PollFd::from_borrowed_fd(watch.fd(), PollFlags::IN)));
        match poll(&mut fds, Some(&timeout)) {
            Err(Errno::INTR) => continue,
            done => done.context(|| "poll".to_owned())?,
        };
        let ended = !fds[0].revents().is_empty();
        drop(fds);
        if let Some(watch) = &mut watch {
            for _ in 0..watch.new_kills(cgroup)? {
                if !is_read(&json_line(&Event { kind: "oom", id, data: None })?)? {
                    return Ok(());
                }
            }
        }
        if ended {
            return Ok(());
        }
    }
}

/// As Go reads them: `1m30s`, `500ms`, `1.5h`.
fn duration(text: &str) -> Option<Duration> {
    let mut rest = text;
    let mut total = Duration::ZERO;
    while !rest.is_empty() {
        let digits = rest.find(|c: char| !c.is_ascii_digit() && c != '.')?;
        let (number, after) = rest.split_at(digits);
        let letters = after.find(|c: char| c.is_ascii_digit() || c == '.').unwrap_or(after.len());
        let (unit, after) = after.split_at(letters);
        let seconds = match unit {
            "ns" => 1e-9,
            "us" | "µs" => 1e-6,
            "ms" => 1e-3,
            "s" => 1.0,
            "m" => 60.0,
            "h" => 3600.0,
            _ => return None,
        };
        total = total.checked_add(Duration::try_from_secs_f64(number.parse::<f64>().ok()? * seconds).ok()?)?;
        rest = after;
    }
    // As long as Go's: 292 years.
    (!text.is_empty() && total.as_nanos() <= i64::MAX as u128).then_some(total)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        for (text, milliseconds) in
            [("5s", 5000), ("500ms", 500), ("1m30s", 90_000), ("1.5h", 5_400_000), ("0.25s", 250)]
        {
            assert_eq!(duration(text), Some(Duration::from_millis(milliseconds)), "{text}");
        }
        for text in ["", "5", "s", "-1s", "1x", "1..2s", "99999999999999999999h", "4000000000000000h", "9223372037s"] {
            assert_eq!(duration(text), None, "{text}");
        }
    }
}
