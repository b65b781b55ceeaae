//! containerd with the shim under test: a daemon of the run's own, driven by `ctr`; and the shim alone, spoken to as
//! containerd does, for what `ctr` cannot ask.
//!
//! `SHIM_RUNTIME` names the shim as containerd knows it (`io.containerd.proa.v2`). With `io.containerd.runc.v2` the same
//! tests run on containerd's own shim, to tell a wrong test from a wrong shim.

mod bare;
mod bench;
mod checkpoint;
mod churn;
mod creation;
mod ctr;
mod daemon;
mod deadlines;
mod events;
mod exec;
mod fake;
mod faults;
mod fixture;
mod lifecycle;
mod logs;
mod memory;
mod mounts;
mod options;
mod oracle;
mod ordering;
mod pods;
mod protocol;
mod sandbox;
mod service;
mod shortage;
mod stdio;
mod survival;
mod task;
mod terminal;

use std::any::Any;

use crate::Case;

/// Every file of tests.
pub(crate) const TOPICS: &[&[Case]] = &[
    lifecycle::CASES,
    exec::CASES,
    checkpoint::CASES,
    protocol::CASES,
    service::CASES,
    stdio::CASES,
    terminal::CASES,
    logs::CASES,
    ordering::CASES,
    faults::CASES,
    deadlines::CASES,
    shortage::CASES,
    creation::CASES,
    pods::CASES,
    options::CASES,
    mounts::CASES,
    survival::CASES,
    sandbox::CASES,
    churn::small::CASES,
];

/// Many containers and execs.
pub(crate) const CHURN: &[&[Case]] = &[churn::CASES];

/// Measurements beside containerd's own shim.
pub(crate) const BENCH: &[&[Case]] = &[bench::CASES];

/// Starts what the tests need.
pub(crate) fn begin() -> Box<dyn Any> {
    Box::new(daemon::begin())
}
