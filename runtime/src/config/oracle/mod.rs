//! The types of config.json held against oci-spec, and against the spec's own schema and samples.
//!
//! On every document, given or generated, both must accept the same and agree on each field, but for the differences
//! listed in `mend.rs`. What is valid beyond the types is not tested here: the plan decides that.

mod compare;
mod faults;
mod generate;
mod mend;
mod samples;
mod schema;
mod shape;
mod text;

use super::parse_spec;
use compare::{difference, normal, sort_capabilities};
use proptest::prelude::*;
use serde_json::Value;
use shape::CONFIG;

/// What proa reads in `document`, written again.
fn ours(document: &Value) -> Result<Value, String> {
    let text = document.to_string();
    let spec = parse_spec(&text).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(&spec).unwrap())
}

/// What the oracle reads.
fn theirs(document: &Value) -> Result<Value, String> {
    let spec: oci_spec::runtime::Spec =
        serde_json::from_str(&document.to_string()).map_err(|error| error.to_string())?;
    Ok(serde_json::to_value(&spec).unwrap())
}

/// Why the two do not agree on `document`, or why proa does not read what it says.
fn disagreement(document: &Value) -> Option<String> {
    let read = ours(document);
    if let Ok(read) = &read
        && let Some(at) = difference(&normal(&CONFIG, document), &normal(&CONFIG, read))
    {
        return Some(format!("written and read: {at}"));
    }

    let mended = mend::mend(document);
    match (read, ours(&mended), theirs(&mended)) {
        (Ok(_), Ok(mut ours), Ok(mut theirs)) => {
            sort_capabilities(&CONFIG, &mut ours);
            sort_capabilities(&CONFIG, &mut theirs);
            difference(&normal(&CONFIG, &ours), &normal(&CONFIG, &theirs)).map(|at| format!("proa and oracle: {at}"))
        }
        (Err(_), Err(_), Err(_)) => None,
        (read, ours, theirs) => {
            let outcomes =
                [read, ours, theirs].map(|outcome| outcome.map_or_else(|error| error, |_| "accepted".into()));
            Some(format!("{outcomes:#?} as written, and mended by proa and by the oracle"))
        }
    }
}

proptest! {
    #![proptest_config(generate::config(192))]

    #[test]
    fn both_read_every_document_alike(document in generate::document()) {
        prop_assert_eq!(disagreement(&document), None);
        prop_assert!(ours(&document).is_ok());
    }

    #[test]
    fn both_refuse_the_same_damage(document in generate::damaged()) {
        prop_assert_eq!(disagreement(&document), None);
    }

    /// "Runtimes MAY log unknown properties but MUST otherwise ignore them." (config.md, Extensibility)
    #[test]
    fn unknown_properties_change_nothing(document in generate::document()) {
        let known = normal(&CONFIG, &document);
        prop_assert_eq!(ours(&known), ours(&document));
    }
}
