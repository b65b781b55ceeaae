//! The settings that docs/engines.md and docs/networks.md show to users: the tests use those very texts, so that they are true.

use std::fs;
use std::path::Path;

const DOCS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../docs");

/// Writes the block that follows the words `` `FILE` `` below a heading of docs/engines.md to FILE, as the page tells users
/// to.
#[track_caller]
pub(crate) fn install(heading: &str, file: &str) {
    install_from("engines.md", heading, file);
}

/// The same of another page.
#[track_caller]
pub(crate) fn install_from(page: &str, heading: &str, file: &str) {
    let page = format!("{DOCS}/{page}");
    let text = fs::read_to_string(&page).unwrap_or_else(|error| panic!("{page}: {error}"));
    let path = Path::new(file);
    fs::create_dir_all(path.parent().expect("a file in a directory")).expect("cannot make a directory");
    let block = block(&text, heading, file).unwrap_or_else(|| panic!("{page} has no `{file}` below {heading:?}"));
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
