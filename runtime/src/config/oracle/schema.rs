//! The types of config.json held against the JSON schema of the spec: all its properties are known, no others are, each
//! has the type that the schema gives it, and the generator makes use of all.

use super::generate::{self, number};
use super::shape::{CONFIG, FOREIGN, Shape};
use super::{disagreement, ours};
use crate::config::unknown_properties;
use proptest::strategy::{Strategy, ValueTree};
use proptest::test_runner::TestRunner;
use serde_json::{Value, json};
use std::collections::BTreeSet;

/// The places of all properties that have a value in `value`, read as a document.
fn places_with_value(value: &mut Value) -> BTreeSet<String> {
    let mut places = BTreeSet::new();
    CONFIG.visit(value, &mut |path, _, value| {
        if !value.is_null() {
            places.insert(path.to_owned());
        }
    });
    places
}

#[test]
fn every_property_of_the_schema_is_known_and_kept() {
    let document = CONFIG.example();
    assert_eq!(unknown_properties(&document.to_string()), [""; 0]);
    // What is written has no other names than what was read.
    assert_eq!(ours(&document).unwrap(), document);
    assert_eq!(disagreement(&document), None);
    assert_eq!(CONFIG.places().len(), 279);
}

#[test]
fn what_is_for_other_platforms_is_told() {
    let mut document = CONFIG.example();
    for place in FOREIGN {
        document[place.replace("process.", "/")] = json!(1);
    }
    document["process"]["commandLine"] = document.as_object_mut().unwrap().remove("/commandLine").unwrap();
    let mut unknown = unknown_properties(&document.to_string());
    unknown.sort_unstable();
    assert_eq!(unknown, FOREIGN);
}

/// `document` with `value` at `place`, and the path that an error there names.
fn example_with(place: &str, value: &Value) -> (Value, String) {
    let mut document = CONFIG.example();
    let mut path = place.replace("[]", "[0]");
    CONFIG.visit(&mut document, &mut |at, shape, there| {
        if at == place {
            *there = value.clone();
        }
        if let Shape::Map(names, _) = shape
            && let Some(rest) = path.strip_prefix(&format!("{at}.*"))
        {
            path = format!("{at}.{}{rest}", names[0]);
        }
    });
    (document, path)
}

#[test]
fn values_of_another_type_are_errors_that_name_the_property() {
    let kinds = [json!(true), json!(7), json!(1.5), json!("7"), json!([7]), json!({"7": 7})];
    let mut errors = 0;
    CONFIG.visit(&mut CONFIG.example(), &mut |place, shape, right| {
        let same_kind = |kind: &Value| match shape {
            Shape::Int { .. } => kind.is_u64(),
            // `[7]` and `{"7": 7}` may fail on what is in them.
            _ => std::mem::discriminant(kind) == std::mem::discriminant(right),
        };
        for kind in kinds.iter().filter(|kind| !same_kind(kind)) {
            let (document, path) = example_with(place, kind);
            let error = ours(&document).expect_err(place);
            let start =
                if path.is_empty() { "config.json: invalid".into() } else { format!("config.json: {path}: invalid") };
            assert!(error.starts_with(&start), "{start}: {error}");
            errors += 1;
        }
    });
    assert_eq!(errors, 5 * 279);
}

/// Where the types are wider than the schema, as the oracle's are, and it is for the plan to refuse what is beyond.
const WIDER: [&str; 8] = [
    "hooks.createContainer[].timeout",
    "hooks.createRuntime[].timeout",
    "hooks.poststart[].timeout",
    "hooks.poststop[].timeout",
    "hooks.prestart[].timeout",
    "hooks.startContainer[].timeout",
    "linux.devices[].fileMode",
    "process.ioPriority.priority",
];

#[test]
fn numbers_have_the_bounds_of_the_schema() {
    let mut numbers = 0;
    CONFIG.visit(&mut CONFIG.example(), &mut |place, shape, _| {
        let &Shape::Int { min, max } = shape else { return };
        numbers += 1;
        let accepts = |n: i128| ours(&example_with(place, &number(n)).0).is_ok();
        assert!(accepts(min) && accepts(max), "{place}");
        let wider = WIDER.contains(&place);
        assert_eq!(accepts(max + 1), wider && max < i64::MAX.into(), "{place}");
        assert_eq!(accepts(min - 1), wider && min != 0, "{place}");
    });
    assert_eq!(numbers, 84);
}

#[test]
fn the_generator_makes_use_of_everything() {
    let mut runner = TestRunner::new(generate::config(1));
    let mut used = BTreeSet::new();
    let (mut accepted, mut refused) = (0, 0);
    for _ in 0..60 {
        used.append(&mut places_with_value(&mut generate::document().new_tree(&mut runner).unwrap().current()));
        let damaged = generate::damaged().new_tree(&mut runner).unwrap().current();
        *(if ours(&damaged).is_ok() { &mut accepted } else { &mut refused }) += 1;
    }
    assert_eq!(CONFIG.places().difference(&used).collect::<Vec<_>>(), [""; 0]);
    assert!(accepted >= 4 && refused >= 20, "{accepted} {refused}");
}
