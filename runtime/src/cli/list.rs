//! `proa list`.

use super::state::State;
use super::{App, print};
use crate::error::{Error, Result};
use crate::state::{StateDir, StateRoot};

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
    let (mut lines, mut rows) = (String::new(), vec![HEADER.map(str::to_owned)]);
    let mut users = Users::default();
    // One after another: there may be more of them than descriptors.
    for name in root.as_ref().map(StateRoot::names).transpose()?.unwrap_or_default() {
        let Some(dir) = root.as_ref().map(|root| root.find(&name)).transpose()?.flatten() else { continue };
        if app.flag("quiet") {
            if dir.is_recorded() {
                lines.push_str(&name);
                lines.push('\n');
            }
            continue;
        }
        let shown = with_state(&dir, &mut users, |state| {
            if !json {
                rows.push(row(state));
                return Ok(());
            }
            lines.push(if lines.is_empty() { '[' } else { ',' });
            lines.push_str(super::json_line(state)?.trim_end());
            Ok(())
        });
        // The others are listed all the same.
        if let Err(error) = shown {
            log::warn!("{error}");
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
fn with_state(dir: &StateDir, users: &mut Users, show: impl FnOnce(&State<'_>) -> Result<()>) -> Result<()> {
    let Some(text) = dir.read()? else { return Ok(()) };
    let record = dir.parse(&text)?;
    let mut state = State::new(dir, &record)?;
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
pub(super) fn columns<const N: usize>(rows: Vec<[String; N]>) -> String {
    let mut widths = [12; N];
    let rows: Vec<[String; N]> = rows.into_iter().map(|row| row.map(|cell| super::printable(&cell))).collect();
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (cell.len() + 3).max(*width);
        }
    }
    let mut text = String::new();
    for row in &rows {
        let mut line = String::new();
        for (width, cell) in widths.iter().zip(row) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width - cell.len()));
        }
        text.push_str(line.trim_end());
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
