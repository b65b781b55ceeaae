//! How far one image may still go, shared by all layers that are being unpacked.

use super::Limits;
use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

/// What may still be used.
pub(super) struct Budget {
    limits: Limits,
    bytes: AtomicU64,
    entries: AtomicU64,
}

/// What one layer has taken. It goes back when the layer is given up.
pub(super) struct Share {
    budget: Arc<Budget>,
    bytes: AtomicU64,
    entries: AtomicU64,
}

impl Budget {
    pub(super) fn new(limits: Limits) -> Arc<Budget> {
        Arc::new(Budget { limits, bytes: AtomicU64::new(limits.bytes), entries: AtomicU64::new(limits.entries) })
    }
}

impl Share {
    pub(super) fn of(budget: &Arc<Budget>) -> Share {
        Share { budget: budget.clone(), bytes: AtomicU64::new(0), entries: AtomicU64::new(0) }
    }

    pub(super) fn take_bytes(&self, bytes: u64) -> io::Result<()> {
        if take(&self.budget.bytes, &self.bytes, bytes) {
            return Ok(());
        }
        let limit = self.budget.limits.bytes;
        Err(io::Error::other(format!("the image unpacks to more than {limit} bytes, which is the limit")))
    }

    pub(super) fn take_entry(&self) -> io::Result<()> {
        if take(&self.budget.entries, &self.entries, 1) {
            return Ok(());
        }
        Err(io::Error::other(format!("the image has more than {} entries", self.budget.limits.entries)))
    }
}

impl Drop for Share {
    fn drop(&mut self) {
        self.budget.bytes.fetch_add(*self.bytes.get_mut(), Ordering::Relaxed);
        self.budget.entries.fetch_add(*self.entries.get_mut(), Ordering::Relaxed);
    }
}

fn take(left: &AtomicU64, taken: &AtomicU64, amount: u64) -> bool {
    let there = left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| left.checked_sub(amount)).is_ok();
    if there {
        taken.fetch_add(amount, Ordering::Relaxed);
    }
    there
}
