//! The settings of engines that docs/engines.md shows to users: the tests use those very texts, so that they are true.

use std::fs;
use std::path::Path;

const PAGE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs/engines.md");

/// Writes the block that follows the words `` `FILE` `` below a heading to FILE, as the page tells users to.
#[track_caller]
pub(crate) fn install(heading: &str, file: &str) {
    let text = fs::read_to_string(PAGE).unwrap_or_else(|error| panic!("{PAGE}: {error}"));
    let path = Path::new(file);
    fs::create_dir_all(path.parent().expect("a file in a directory")).expect("cannot make a directory");
    let block = block(&text, heading, file).unwrap_or_else(|| panic!("{PAGE} has no `{file}` below {heading:?}"));
    fs::write(path, block).unwrap_or_else(|error| panic!("{file}: {error}"));
}

fn block(page: &str, heading: &str, file: &str) -> Option<String> {
    let mut lines = page.lines().skip_while(|line| line.trim_start_matches('#').trim() != heading).skip(1);
    let mut section = lines.by_ref().take_while(|line| !line.starts_with('#') && !line.starts_with("```"));
    section.find(|line| line.contains(&format!("`{file}`")))?;
    let mut lines = lines.skip_while(|line| !line.starts_with("```"));
    lines.next()?;
    let lines: Vec<_> = lines.take_while(|line| !line.starts_with("```")).collect();
    Some(lines.iter().map(|line| format!("{line}\n")).collect())
}
