//! Signals to all processes of a cgroup, above all the one that ends them.

use rustix::io::Errno;

use crate::error::{Context, Error};
use crate::files::write_text;
use crate::place::{Directory, Place};
use crate::{freeze, sys, walk};

const SIGKILL: i32 = libc::SIGKILL;
/// How many times new processes are looked for where the kernel cannot kill a cgroup at once.
const ROUNDS: u32 = 100;

/// Kills all. Does not wait until they have gone.
pub(crate) fn kill(place: &Place) -> Result<(), Error> {
    let at_once = match &place.unified {
        Some(directory) => kill_at_once(directory)?,
        None => false,
    };
    if at_once && place.v1.is_empty() {
        return Ok(());
    }
    // On a hybrid host a process may be in the v1 cgroups alone.
    let killed = kill_seen(place);
    let thawed = freeze::thaw_v1(place);
    killed.and(thawed)
}

/// cgroup.kill, since Linux 5.14; false without.
fn kill_at_once(directory: &Directory) -> Result<bool, Error> {
    let file = directory.file("cgroup.kill");
    match write_text(&file, "1") {
        Ok(()) => Ok(true),
        // Gone, or older; EOPNOTSUPP: a threaded cgroup.
        Err(Errno::NOENT | Errno::NODEV | Errno::OPNOTSUPP) => Ok(false),
        Err(errno) => Err(errno).context("write \"1\" to", &file),
    }
}

/// Lists the processes and kills them until there is none that was not there the time before. Where the first blow
/// left new ones, the v1 freezer holds them for the next: what forks faster than it is killed then cannot.
fn kill_seen(place: &Place) -> Result<(), Error> {
    let mut seen = Vec::new();
    for round in 0..ROUNDS {
        let mut pids = processes(place)?;
        if pids.iter().all(|pid| seen.contains(pid)) {
            return Ok(());
        }
        if round > 0 {
            freeze::hold_v1(place)?;
            pids = processes(place)?;
        }
        signal_each(&pids, SIGKILL)?;
        freeze::thaw_v1(place)?;
        seen = pids;
    }
    let path = place.directories().next().map(Directory::full).unwrap_or_default();
    Err(Error::KillTimeout { path, rounds: ROUNDS })
}

/// Sends a signal to each process. One born meanwhile may miss it, but not SIGKILL.
pub(crate) fn signal(place: &Place, signal: i32) -> Result<(), Error> {
    if signal == SIGKILL {
        return kill(place);
    }
    signal_each(&processes(place)?, signal)
}

fn signal_each(pids: &[i32], signal: i32) -> Result<(), Error> {
    for pid in pids {
        match sys::kill(*pid, signal) {
            Ok(()) | Err(Errno::SRCH) => {}
            Err(errno) => {
                return Err(errno).context(&format!("send signal {signal} to"), &format!("process {pid}"));
            }
        }
    }
    Ok(())
}

/// The processes of all hierarchies, sorted, each once.
pub(crate) fn processes(place: &Place) -> Result<Vec<i32>, Error> {
    let mut pids = Vec::new();
    for directory in place.directories() {
        walk::processes(&directory.full(), &mut pids)?;
    }
    pids.sort_unstable();
    pids.dedup();
    Ok(pids)
}

#[cfg(test)]
mod tests {
    use std::process::{Command, Stdio};

    use super::*;
    use crate::Host;

    /// As where there is no cgroup.kill, or on cgroup v1, whichever this host has.
    #[test]
    fn processes_that_multiply_are_killed_one_by_one() {
        let place = Host::detect().unwrap().place(None, &format!("proa-test-kill-{}", std::process::id())).unwrap();
        let cgroup = match place.create() {
            Err(error) if matches!(error.errno(), Some(libc::EACCES | libc::EPERM | libc::EROFS)) => {
                return println!("SKIPPED: {error}");
            }
            result => result.unwrap(),
        };
        let script = "read _; f() { for i in $(seq 200); do sleep 1000 & sleep 0.005; done; }; f & f & f & f";
        let mut shell = Command::new("sh").args(["-c", script]).stdin(Stdio::piped()).spawn().unwrap();
        let joined = cgroup.join(shell.id() as i32, false);
        drop(shell.stdin.take());
        std::thread::sleep(std::time::Duration::from_millis(200));
        let many = processes(&place).map(|pids| pids.len());
        let killed = kill_seen(&place);
        let left = processes(&place);
        // Whatever happened, nothing stays.
        let cleaned = cgroup.kill().and_then(|()| cgroup.remove());
        shell.kill().unwrap();
        shell.wait().unwrap();
        joined.unwrap();
        killed.unwrap();
        cleaned.unwrap();
        println!("{} processes, {} of them still ending after the kill", many.unwrap(), left.unwrap().len());
    }
}
