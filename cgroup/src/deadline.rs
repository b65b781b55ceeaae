//! Waiting that ends: for a cgroup to have frozen, or its processes to have gone.

use std::os::fd::BorrowedFd;
use std::thread::sleep;
use std::time::{Duration, Instant};

use rustix::event::{PollFd, PollFlags, Timespec, poll};
use rustix::io::Errno;

/// A moment, and pauses up to it that grow from 0.1 ms to 20 ms.
pub(crate) struct Deadline {
    start: Instant,
    limit: Duration,
    pause: Duration,
}

impl Deadline {
    pub(crate) fn after(limit: Duration) -> Deadline {
        Deadline { start: Instant::now(), limit, pause: Duration::from_micros(100) }
    }

    /// Waits a little, or says that the time is over.
    pub(crate) fn pause(&mut self) -> bool {
        match self.next() {
            Some(pause) => {
                sleep(pause);
                true
            }
            None => false,
        }
    }

    /// Waits a little, or less if `file`, which must have been read before, reports a change (see kernfs: POLLPRI).
    /// Pauses all the same as the kernel holds reports back for 10 ms after another one.
    pub(crate) fn pause_for_change(&mut self, file: BorrowedFd<'_>) -> Result<bool, Errno> {
        let Some(pause) = self.next() else {
            return Ok(false);
        };
        let timeout = Timespec { tv_sec: pause.as_secs() as i64, tv_nsec: pause.subsec_nanos().into() };
        match poll(&mut [PollFd::from_borrowed_fd(file, PollFlags::PRI)], Some(&timeout)) {
            Ok(_) | Err(Errno::INTR) => Ok(true),
            Err(errno) => Err(errno),
        }
    }

    fn next(&mut self) -> Option<Duration> {
        let left = self.limit.checked_sub(self.start.elapsed()).filter(|left| !left.is_zero())?;
        let pause = self.pause.min(left);
        self.pause = (self.pause * 2).min(Duration::from_millis(20));
        Some(pause)
    }
}
