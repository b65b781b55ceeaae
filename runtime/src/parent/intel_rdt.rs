//! stub
pub(crate) fn apply(_: &crate::plan::IntelRdt, _: i32) -> crate::error::Result<Vec<String>> { Ok(Vec::new()) }
pub(crate) fn remove(_: &[String]) {}
