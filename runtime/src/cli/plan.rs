//! `proa plan`: what create would do, as JSON, without doing it.

use super::{App, create, pretty, print};
use crate::config::{self, Bundle};
use crate::error::Result;
use crate::plan::{Host, Plan};
use serde::Serialize;

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct Document<'a> {
    #[serde(flatten)]
    plan: &'a Plan,
    /// Properties of config.json that nothing reads: ignored as the spec has it, and listed here since a misspelt one
    /// is among them.
    unknown_properties: Vec<String>,
}

pub(super) fn command(app: &App<'_>) -> Result<()> {
    let id = match app.arg(0) {
        "" => "plan",
        id => id,
    };
    crate::state::check_id(id)?;
    let bundle = Bundle::read(app.value("bundle").unwrap_or("."), app.value("config"))?;
    let spec = config::parse_spec(&bundle.text)?;
    let options = create::options(app)?;
    let plan = Plan::new(&spec, &bundle.path, id, &options, &Host::default())?;
    let document = Document { plan: &plan, unknown_properties: config::unknown_properties(&bundle.text) };
    print(&(pretty(&document, "  ")? + "\n"))
}
