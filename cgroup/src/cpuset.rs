//! cgroup v1's cpuset: a new cgroup has no processors and no memory nodes, and takes in no process until it has.

use crate::error::{Context, Error};
use crate::files::{TEXT, read_text, write_text};
use crate::path::{join, parent};
use crate::place::Directory;

/// Gives a cgroup, and those above it that have none, the processors and memory nodes of the nearest one above that
/// has some.
pub(crate) fn fill(directory: &Directory) -> Result<(), Error> {
    for name in ["cpuset.cpus", "cpuset.mems"] {
        fill_file(directory, name)?;
    }
    Ok(())
}

fn fill_file(directory: &Directory, name: &str) -> Result<(), Error> {
    let mut buffer = [0; TEXT];
    let mut empty = Vec::new();
    let mut level = directory.path.as_str();
    let value = loop {
        let file = join(&join(&directory.mount, level), &format!("/{name}"));
        let value = read_text(&file, &mut buffer).context("read", &file)?;
        if !value.is_empty() {
            break value.to_owned();
        }
        if level == "/" {
            // Nothing to hand down: joining will say that it is not possible.
            return Ok(());
        }
        empty.push(file);
        level = parent(level);
    };
    for file in empty.iter().rev() {
        write_text(file, &value).context("write to", file)?;
    }
    Ok(())
}
