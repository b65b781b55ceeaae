//! The black-box suite for OCI runtimes: what its tests are written with.
//!
//! A test gets a [`test::Test`], asks it for a bundle, changes the bundle's
//! config.json, gives it to the runtime under test as a person would, and looks
//! at the container from inside and from outside. Nothing here links any part
//! of a runtime: it is driven by its command line alone, so that the same tests
//! run on any of them (`RUNTIME=/path/to/runc`).
//!
//! Not here: the tests themselves, which are in `tests/containers`, one file
//! per topic.
//!
//! As in every test, a mistake of the suite's own or a machine that does not
//! answer ends in a panic: each function may panic and does not say so again.

pub mod bundle;
pub mod calls;
pub mod console;
pub mod container;
pub mod holder;
pub mod image;
pub mod inject;
pub mod layout;
pub mod leaks;
pub mod look;
pub mod loop_device;
pub mod musts;
pub mod random;
pub mod reaper;
pub mod runtime;
pub mod spy;
pub mod suite;
pub mod sys;
pub mod tap;
pub mod tarball;
pub mod test;
pub mod tree;
