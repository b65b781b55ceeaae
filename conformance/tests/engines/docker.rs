//! docker, with its own client.

use std::any::Any;

use crate::Case;

/// Every file of tests.
pub(crate) const TOPICS: &[&[Case]] = &[];

/// Starts what the tests need.
pub(crate) fn begin() -> Box<dyn Any> {
    Box::new(())
}
