//! `proa list`.

use super::state::State;
use super::{App, print};
use crate::error::{Error, Result};
use crate::state::StateRoot;

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
    let mut texts = Vec::with_capacity(names.len());
    for name in &names {
        // One that is deleted meanwhile, or not yet recorded, is none.
        if let Some(root) = &root
            && let Some(dir) = root.find(name)?
        {
            match dir.read() {
                Ok(Some(text)) => texts.push((dir, text)),
                Ok(None) => {}
                // The others are listed all the same.
                Err(error) => log::warn!("{error}"),
            }
        }
    }
    if app.flag("quiet") {
        let mut lines = String::new();
        texts.iter().for_each(|(dir, _)| lines.push_str(&format!("{}\n", dir.id)));
        return print(&lines);
    }
    let mut records = Vec::with_capacity(texts.len());
    for (dir, text) in &texts {
        match dir.parse(text) {
            Ok(record) => records.push((dir, record)),
            Err(error) => log::warn!("{error}"),
        }
    }
    let mut users = Users::default();
    let mut states = Vec::with_capacity(records.len());
    for (dir, record) in &records {
        let mut state = State::new(dir, record)?;
        state.owner = users.name(record.owner);
        states.push(state);
    }
    match (json, states.is_empty()) {
        // As runc prints a list that has nothing.
        (true, true) => print("null\n"),
        (true, false) => print(&super::json_line(&states)?),
        (false, _) => print(&table(&states)),
    }
}

fn table(states: &[State<'_>]) -> String {
    let header = ["ID", "PID", "STATUS", "BUNDLE", "CREATED", "OWNER"].map(str::to_owned);
    let rows = states.iter().map(|state| {
        [
            state.id.to_owned(),
            state.pid.to_string(),
            state.status.to_owned(),
            state.bundle.to_owned(),
            state.created.to_owned(),
            state.owner.clone(),
        ]
    });
    columns(std::iter::once(header).chain(rows).collect())
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
}

impl Users {
    fn name(&mut self, uid: u32) -> String {
        let text = self.text.get_or_insert_with(|| std::fs::read_to_string("/etc/passwd").unwrap_or_default());
        let name = text.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
        });
        name.unwrap_or_else(|| format!("#{uid}"))
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
