//! Buffers that go from one thread to another, and back to be filled again. Not a channel of the standard library: its
//! thread-locals would be more than musl has room for beside the thread, which then asks the kernel for memory at each
//! start of the program, also of one that has no second thread.

use std::collections::VecDeque;
use std::io;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};

/// Full buffers that may wait.
const WAITING: usize = 4;

/// One side fills buffers, the other takes them.
#[derive(Default)]
pub(super) struct Exchange {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Default)]
struct State {
    full: VecDeque<Vec<u8>>,
    used: Vec<Vec<u8>>,
    /// How the side that fills has ended.
    end: Option<io::Result<()>>,
    /// The side that takes is gone.
    gone: bool,
}

impl Exchange {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn wait(&self, busy: impl Fn(&State) -> bool) -> MutexGuard<'_, State> {
        self.changed.wait_while(self.lock(), |state| busy(state)).unwrap_or_else(PoisonError::into_inner)
    }

    /// A buffer to fill.
    pub(super) fn empty(&self) -> Vec<u8> {
        self.lock().used.pop().unwrap_or_default()
    }

    /// Hands over a full buffer, when there is room for it. False: nobody wants it any more.
    pub(super) fn send(&self, buffer: Vec<u8>) -> bool {
        let mut state = self.wait(|state| state.full.len() == WAITING && !state.gone);
        state.full.push_back(buffer);
        self.changed.notify_all();
        !state.gone
    }

    /// There are no more buffers.
    pub(super) fn end(&self, result: io::Result<()>) {
        self.lock().end = Some(result);
        self.changed.notify_all();
    }

    /// The next full buffer, for one that has been used; none at the end.
    pub(super) fn receive(&self, used: Vec<u8>) -> io::Result<Option<Vec<u8>>> {
        let mut state = self.wait(|state| state.full.is_empty() && state.end.is_none());
        state.used.push(used);
        self.changed.notify_all();
        match state.full.pop_front() {
            Some(buffer) => Ok(Some(buffer)),
            None => state.end.replace(Ok(())).unwrap_or(Ok(())).map(|()| None),
        }
    }

    /// Nobody takes buffers any more.
    pub(super) fn leave(&self) {
        self.lock().gone = true;
        self.changed.notify_all();
    }
}
