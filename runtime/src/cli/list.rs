//! `proa list`.

use super::state::State;
use super::{App, print};
use crate::error::{Error, Result};
use crate::state::{StateDir, StateRoot, parse_record};
use std::cell::OnceCell;

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let json = match app.value("format").unwrap_or("table") {
        "table" => false,
        "json" => true,
        other => return Err(Error::Usage(format!("--format {other:?} is neither table nor json"))),
    };
    let root = match StateRoot::open(&app.root)? {
        Some(root) => Some(root),
        None if app.root_given => {
            return Err(Error::Usage(format!("--root {}: no such directory", app.root.display())));
        }
        None => None,
    };
    let names = root.as_ref().map(StateRoot::names).transpose()?.unwrap_or_default();
    let (mut lines, mut rows) = (String::new(), vec![HEADER.map(str::to_owned)]);
    let mut users = Users::default();
    // One after another: there may be more of them than descriptors.
    for (root, name) in root.iter().flat_map(|root| names.iter().map(move |name| (root, name))) {
        if app.flag("quiet") {
            if root.find(name)?.is_some_and(|dir| dir.is_recorded()) {
                lines.push_str(name);
                lines.push('\n');
            }
            continue;
        }
        let shown = with_state(root, name, &mut users, |state| {
            if !json {
                rows.push(row(state));
                return Ok(());
            }
            lines.push(if lines.is_empty() { '[' } else { ',' });
            lines.push_str(super::json_line(state)?.trim_end());
            Ok(())
        });
        match shown {
            Ok(()) | Err(Error::NoContainer(_)) => {}
            // The others are listed all the same.
            Err(error) => log::warn!("{error}"),
        }
    }
    match (app.flag("quiet"), json, lines.is_empty()) {
        (true, _, _) => print(&lines),
        (false, false, _) => print(&columns(rows)),
        // As runc prints a list that has nothing.
        (false, true, true) => print("null\n"),
        (false, true, false) => print(&(lines + "]\n")),
    }
}

/// One that is deleted meanwhile, or not yet recorded, is none.
fn with_state(
    root: &StateRoot,
    name: &str,
    users: &mut Users,
    show: impl FnOnce(&State<'_>) -> Result<()>,
) -> Result<()> {
    let Some(text) = root.read(name)? else { return Ok(()) };
    let record = parse_record(name, &text)?;
    let dir: OnceCell<StateDir> = OnceCell::new();
    let open = || root.container(name).map(|found| dir.get_or_init(|| found));
    let mut state = State::new(open, &record)?;
    state.owner = users.name(record.owner);
    show(&state)
}

const HEADER: [&str; 6] = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"];

fn row(state: &State<'_>) -> [String; 6] {
    [
        state.id.to_owned(),
        state.pid.to_string(),
        state.status.to_owned(),
        state.bundle.to_owned(),
        state.created.to_owned(),
        state.owner.clone(),
    ]
}

/// Columns as runc has them: as wide as the widest cell and three blanks, at least twelve. No cell ends or covers a line.
pub(super) fn columns<const N: usize>(mut rows: Vec<[String; N]>) -> String {
    let mut widths = [12; N];
    for row in &mut rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            if cell.contains(char::is_control) {
                *cell = super::printable(cell);
            }
            *width = (cell.len() + 3).max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        for (width, cell) in widths.iter().zip(row) {
            text.push_str(cell);
            text.extend(std::iter::repeat_n(' ', width - cell.len()));
        }
        text.truncate(text.trim_end_matches(' ').len());
        text.push('\n');
    }
    text
}

/// Names of the owners, from the host's /etc/passwd.
#[derive(Default)]
struct Users {
    text: Option<String>,
    /// Who was asked for last: mostly all are the same.
    last: Option<(u32, String)>,
}

impl Users {
    fn name(&mut self, uid: u32) -> String {
        if let Some((known, name)) = &self.last
            && *known == uid
        {
            return name.clone();
        }
        let text = self.text.get_or_insert_with(|| std::fs::read_to_string("/etc/passwd").unwrap_or_default());
        let found = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        let name = found.unwrap_or_else(|| format!("#{uid}"));
        self.last = Some((uid, name.clone()));
        name
    }
}

#[cfg(test)]
mod tests {
    #[test]
    fn cells_stay_in_their_lines() {
        let rows = vec![["A".to_owned(), "B".to_owned()], ["a\n\u{1b}[2J".to_owned(), "x".repeat(70_000)]];
        let text = super::columns(rows);
        assert_eq!(text.lines().count(), 2);
        assert!(text.contains("a\\n\\u{1b}[2J   x") && text.lines().nth(1).unwrap().len() > 70_000, "{text:.100}");
    }
}
