//! Checkpoint and restore by CRIU: containers of real programs are frozen into images and go on from them.
//!
//! Each case is tried on runc, on crun and on `RUNTIME`. A case fails if `RUNTIME` fails it; of the others the outcome is
//! only told, in the table that follows the case and again at the end. `PEERS=` (empty) leaves the others out.

mod connections;
mod failures;
mod flags;
mod hooks;
mod hostile;
mod life;
mod memory;
mod streams;
mod stricter;
mod subject;
mod surroundings;
mod table;
mod trees;

use std::any::Any;

use conformance::test::set_apart;

use crate::Case;

/// Every file of tests.
pub(crate) const TOPICS: &[&[Case]] = &[
    life::CASES,
    connections::CASES,
    trees::CASES,
    memory::CASES,
    streams::CASES,
    surroundings::CASES,
    hooks::CASES,
    failures::CASES,
    flags::CASES,
    stricter::CASES,
    hostile::CASES,
];

/// Measurements beside runc and crun.
pub(crate) const BENCH: &[&[Case]] = &[memory::BENCH];

/// Sets this process apart; what is returned prints the whole table at the end.
pub(crate) fn begin() -> Box<dyn Any> {
    crate::be_in_the_root();
    set_apart("run this as root");
    Box::new(table::begin())
}
