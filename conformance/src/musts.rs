//! The table `musts.tsv`: every rule of the runtime specification, in our words,
//! with the tests that prove it; and the check that it is true of the tests.
//!
//! One line is one rule: its id, its section, how binding it is, what it says,
//! and the proof: names of tests, then perhaps `open: ` and what is not proven
//! and why. A test is `topic::name` for one with containers, or
//! `path/of/file.rs::name` for one beside the code. A rule that binds nobody
//! (`told`, `may`, `should`) may have `-`.
//!
//! Not here: whether a test really proves its rule, which only a reader can tell.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// The ids that the table has to have: letter and highest number. They are those
/// of runtime.md with runtime-linux.md (R), bundle.md and its neighbours (B),
/// config.md (C), config-linux.md (L), features.md with features-linux.md (F).
const IDS: [(&str, u32); 5] = [("R", 42), ("B", 6), ("C", 71), ("L", 92), ("F", 17)];

const LEVELS: [&str; 6] = ["must", "must not", "should", "should not", "may", "told"];

/// What the check needs to know of a test with containers.
#[derive(Debug, Clone)]
pub struct Known {
    /// The ids it carries, with commas between them; empty for none.
    pub ids: String,
    /// `topic::name`, without the ids.
    pub name: String,
}

/// A line of the table.
#[derive(Debug)]
struct Row<'t> {
    binding: bool,
    tests: Vec<&'t str>,
    open: bool,
}

/// Everything that is wrong with `table`, given the tests with containers and
/// the workspace's directory, where those beside the code are looked for.
pub fn faults(table: &str, tests: &[Known], workspace: &Path) -> Vec<String> {
    let mut faults = Vec::new();
    let mut rows = BTreeMap::new();
    for line in table.lines().skip(1) {
        match row(line) {
            Ok((id, row)) => {
                if rows.insert(id, row).is_some() {
                    faults.push(format!("{id}: stands twice"));
                }
            }
            Err(fault) => faults.push(fault),
        }
    }
    let all = IDS.iter().flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}-{number}")));
    let all: BTreeSet<String> = all.collect();
    faults.extend(all.iter().filter(|id| !rows.contains_key(id.as_str())).map(|id| format!("{id}: missing")));
    faults.extend(rows.keys().filter(|id| !all.contains(**id)).map(|id| format!("{id}: no such rule")));
    let names: BTreeSet<&str> = tests.iter().map(|test| test.name.as_str()).collect();
    for (id, row) in &rows {
        if row.binding && row.tests.is_empty() && !row.open {
            faults.push(format!("{id}: no test, and no reason why"));
        }
        for test in &row.tests {
            if !names.contains(test) && !is_beside_the_code(workspace, test) {
                faults.push(format!("{id}: there is no test {test}"));
            }
        }
    }
    for test in tests {
        for id in test.ids.split(',').filter(|id| !id.is_empty()) {
            match rows.get(id) {
                None => faults.push(format!("{}: carries {id}, which is no rule", test.name)),
                // What has been built since must not stay open.
                Some(row) if (row.open || row.tests.is_empty()) && !row.tests.contains(&test.name.as_str()) => {
                    faults.push(format!("{id}: has no proof or is open, and does not name {}", test.name));
                }
                Some(_) => {}
            }
        }
    }
    faults
}

fn row(line: &str) -> Result<(&str, Row<'_>), String> {
    let columns: Vec<&str> = line.split('\t').collect();
    let [id, section, level, rule, proof] = columns[..] else {
        return Err(format!("not five columns: {line}"));
    };
    if let Some(level) = level.split('/').find(|level| !LEVELS.contains(level)) {
        return Err(format!("{id}: no such level: {level:?}"));
    }
    if section.is_empty() || rule.is_empty() || proof.is_empty() {
        return Err(format!("{id}: an empty column"));
    }
    let (names, why) = match proof.split_once("open:") {
        Some((names, why)) => (names, Some(why.trim())),
        None => (proof, None),
    };
    if why == Some("") {
        return Err(format!("{id}: open without a reason"));
    }
    let tests = names.split_whitespace().filter(|name| *name != "-").collect();
    Ok((id, Row { binding: level.split('/').any(|level| level.starts_with("must")), tests, open: why.is_some() }))
}

/// Whether `FILE::NAME` is a unit test: a function `NAME` of the file that has
/// `#[test]` just before it, other attributes aside.
fn is_beside_the_code(workspace: &Path, test: &str) -> bool {
    let Some((file, name)) = test.split_once(".rs::") else { return false };
    let Ok(text) = fs::read_to_string(workspace.join(format!("{file}.rs"))) else { return false };
    let mut marked = false;
    for line in text.lines().map(str::trim) {
        if line == "#[test]" {
            marked = true;
        } else if !line.starts_with("#[") {
            if marked && line.starts_with(&format!("fn {name}(")) {
                return true;
            }
            marked = false;
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/..");

    /// A table without a fault: every id, each with the proof `topic::test`.
    fn good() -> Vec<String> {
        let ids = IDS.iter().flat_map(|(letter, last)| (1..=*last).map(move |number| format!("{letter}-{number}")));
        let lines = ids.map(|id| format!("{id}\tfile.md#section\tmust\tA rule.\ttopic::test"));
        ["id\tsection\tlevel\trule\tproof".to_owned()].into_iter().chain(lines).collect()
    }

    fn known(ids: &str, name: &str) -> Known {
        Known { ids: ids.to_owned(), name: name.to_owned() }
    }

    /// The faults of the good table when the line of `id` is `line`.
    fn with(id: &str, line: &str) -> Vec<String> {
        let mut table = good();
        let place = table.iter().position(|line| line.starts_with(&format!("{id}\t"))).expect("a line");
        line.clone_into(&mut table[place]);
        faults(&table.join("\n"), &[known("", "topic::test"), known("R-2", "topic::other")], Path::new(WORKSPACE))
    }

    #[test]
    fn a_good_table_has_no_faults() {
        assert_eq!(with("R-2", &good()[2]), [""; 0]);
        assert_eq!(with("R-2", "R-2\ts\tmust\tA rule.\ttopic::test topic::other open: half of it"), [""; 0]);
        assert_eq!(with("R-3", "R-3\ts\tmust not\tA rule.\topen: why"), [""; 0]);
        assert_eq!(with("R-3", "R-3\ts\ttold\tA rule.\t-"), [""; 0]);
    }

    #[test]
    fn a_test_has_to_exist() {
        assert_eq!(with("R-3", "R-3\ts\tmust\tA rule.\ttopic::nosuch"), ["R-3: there is no test topic::nosuch"]);
        let beside = |name: &str| with("R-3", &format!("R-3\ts\tmust\tA rule.\tconformance/src/musts.rs::{name}"));
        assert_eq!(beside("a_test_has_to_exist"), [""; 0]);
        assert_eq!(beside("is_beside_the_code").len(), 1, "a function that is no test");
        assert_eq!(beside("a_test_has_to").len(), 1, "a part of a name");
    }

    #[test]
    fn every_rule_has_its_line_once() {
        assert_eq!(with("R-3", "R-2\ts\tmust\tA rule.\ttopic::test"), ["R-2: stands twice", "R-3: missing"]);
        assert_eq!(with("R-3", "R-43\ts\tmust\tA rule.\ttopic::test"), ["R-3: missing", "R-43: no such rule"]);
    }

    #[test]
    fn a_binding_rule_needs_a_test_or_a_reason() {
        assert_eq!(with("R-3", "R-3\ts\tmay/must\tA rule.\t-"), ["R-3: no test, and no reason why"]);
        assert_eq!(with("R-3", "R-3\ts\tmust\tA rule.\topen: ")[0], "R-3: open without a reason");
        assert_eq!(with("R-3", "R-3\ts\tmust\tA rule.\t")[0], "R-3: an empty column");
        assert_eq!(with("R-3", "R-3\ts\tperhaps\tA rule.\t-")[0], "R-3: no such level: \"perhaps\"");
        assert_eq!(with("R-3", "R-3 s must")[0], "not five columns: R-3 s must");
    }

    #[test]
    fn what_a_test_carries_is_in_the_table() {
        let tests = [known("", "topic::test"), known("R-4,X-1", "topic::other")];
        let found = faults(&good().join("\n"), &tests, Path::new(WORKSPACE));
        assert_eq!(found, ["topic::other: carries X-1, which is no rule"]);
    }

    #[test]
    fn what_is_proven_does_not_stay_open() {
        let fault = ["R-2: has no proof or is open, and does not name topic::other"];
        assert_eq!(with("R-2", "R-2\ts\tmust\tA rule.\topen: not built"), fault);
        assert_eq!(with("R-2", "R-2\ts\ttold\tA rule.\t-"), fault);
    }
}
