//! The cases in which a reader of TAP goes wrong.

use super::{Diagnostic, Directive, Document, Plan, parse};

fn one(text: &str) -> Document {
    let mut documents = parse(text);
    assert_eq!(documents.len(), 1, "{documents:?}");
    documents.remove(0)
}

fn failures(document: &Document) -> Vec<usize> {
    document.points.iter().filter(|point| point.is_failure()).map(|point| point.number).collect()
}

#[test]
fn a_whole_document_of_each_version() {
    for (head, version) in [("", None), ("TAP version 13\n", Some(13)), ("TAP version 14\n", Some(14))] {
        let document = one(&format!("{head}1..2\nok 1 - first\nnot ok 2 second\n"));
        assert_eq!(document.version, version);
        assert_eq!(document.plan, Some(Plan { count: 2, skip: None }));
        assert_eq!(document.points[0].description, "first");
        assert_eq!(document.points[1].description, "second");
        assert_eq!(failures(&document), [2]);
        assert!(document.problems.is_empty(), "{:?}", document.problems);
    }
}

#[test]
fn the_plan_may_stand_at_the_end_but_not_in_the_middle() {
    assert!(one("ok 1\nok 2\n1..2\n").problems.is_empty());
    assert_eq!(one("ok 1\n1..2\nok 2\n").problems, ["points on both sides of the plan"]);
}

#[test]
fn a_plan_that_does_not_hold_is_a_problem() {
    assert_eq!(one("1..3\nok 1\nok 3\n").problems, ["planned 3 points, missing 2"]);
    assert_eq!(one("1..1\nok 1\nok 2\n").problems, ["planned 1 points, 1 beyond"]);
    assert_eq!(one("1..0\nok 1\n").problems, ["planned 0 points, 1 beyond"]);
    assert_eq!(one("ok 1\n").problems, ["no plan"]);
    assert_eq!(one("").problems, ["no plan"]);
    assert_eq!(one("1..1\nok 1\n1..1\n").problems, ["more than one plan"]);
    assert_eq!(one("1..2\nok 0\nok 1\nok 2\n").problems, ["planned 2 points, 1 beyond"]);
}

#[test]
fn numbers_may_be_missing_but_not_double() {
    let document = one("1..3\nok\nnot ok - x\nok\n");
    assert_eq!(document.points.iter().map(|point| point.number).collect::<Vec<_>>(), [1, 2, 3]);
    assert!(document.problems.is_empty());
    assert_eq!(one("1..2\nok 1\nok 1\nok 2\n").problems, ["point 1 more than once"]);
}

#[test]
fn numbers_go_on_behind_one_that_is_given() {
    let document = one("1..3\nok 2\nok\nok 1\n");
    assert_eq!(document.points.iter().map(|point| point.number).collect::<Vec<_>>(), [2, 3, 1]);
    assert!(document.problems.is_empty());
}

#[test]
fn skip_and_todo() {
    let document = one("1..5\nok 1 # SKIP no such thing\nnot ok 2 - late # TODO later\nok 3 x # skipped: why\n\
                        not ok 4 # todo\nok 5 # SKIP\n");
    let directives: Vec<_> = document.points.iter().map(|point| point.directive.clone()).collect();
    assert_eq!(
        directives,
        [
            Some(Directive::Skip("no such thing".into())),
            Some(Directive::Todo("later".into())),
            Some(Directive::Skip("why".into())),
            Some(Directive::Todo(String::new())),
            Some(Directive::Skip(String::new())),
        ]
    );
    assert!(failures(&document).is_empty());
    assert_eq!(document.points[1].description, "late");
}

#[test]
fn a_skip_that_is_not_ok_is_a_failure() {
    assert_eq!(failures(&one("1..1\nnot ok 1 # SKIP x\n")), [1]);
}

#[test]
fn a_hash_is_not_always_a_directive() {
    for (line, description) in [
        (r"not ok 1 - escaped \# TODO is text", "escaped # TODO is text"),
        (r"not ok 1 - a backslash \\", r"a backslash \"),
        ("not ok 1 - number #1", "number #1"),
        ("not ok 1 - colour #SKIP-less", "colour"),
        ("not ok 1 - c# TODO", "c# TODO"),
        ("not ok 1 - # TODOS are many", "# TODOS are many"),
        ("not ok 1 - plain # comment", "plain # comment"),
    ] {
        let document = one(&format!("1..1\n{line}\n"));
        assert_eq!(document.points[0].description, description, "{line}");
        assert_eq!(failures(&document), [1], "{line}");
    }
    let document = one(r"not ok 1 - ends in \\ # TODO x".to_owned().as_str());
    assert_eq!(document.points[0].description, r"ends in \");
    assert_eq!(document.points[0].directive, Some(Directive::Todo("x".into())));
}

#[test]
fn a_whole_document_may_be_skipped() {
    let document = one("TAP version 13\n1..0 # SKIP not on this machine\n");
    assert_eq!(document.plan, Some(Plan { count: 0, skip: Some("not on this machine".into()) }));
    assert!(document.problems.is_empty());
    assert_eq!(one("1..0\n").plan, Some(Plan { count: 0, skip: None }));
}

#[test]
fn words_that_only_begin_like_tap() {
    let document = one("1..1\nokay\nok: yes\nnot okay\n1..x\n  ok 7\nTAP versions\nok 1\n");
    assert_eq!(document.points.len(), 1);
    assert_eq!(document.other, ["okay", "ok: yes", "not okay", "1..x", "  ok 7", "TAP versions"]);
    assert!(document.problems.is_empty());
}

#[test]
fn a_description_that_begins_with_a_number() {
    let document = one("1..2\nok 1 2nd of many\nok 2nd\n");
    assert_eq!(document.points[0].description, "2nd of many");
    assert_eq!((document.points[1].number, document.points[1].description.as_str()), (2, "2nd"));
}

#[test]
fn not_ok_inside_a_yaml_block_is_text() {
    let text = "TAP version 13\n  ---\n  {\n    \"stderr\": \"\",\n    \"stdout\": \"TAP version 13\\nnot ok 1 - x\\n\"\n  }\n  ...\n\
                ok 1 - outer\n  ---\n  text: |\n    not ok 2 - deeper\n\n    1..9\n  not ok 3\n  ...\n1..1\n";
    let document = one(text);
    assert_eq!(document.points.len(), 1);
    assert!(failures(&document).is_empty());
    assert!(document.problems.is_empty(), "{:?}", document.problems);
    assert_eq!(document.detached.len(), 1);
    assert_eq!(document.detached[0].field("stdout").as_deref(), Some("TAP version 13\nnot ok 1 - x\n"));
    assert_eq!(
        document.points[0].diagnostic.as_ref().map(|block| block.text.as_str()),
        Some("text: |\n  not ok 2 - deeper\n\n  1..9\nnot ok 3")
    );
}

#[test]
fn a_second_block_belongs_to_no_point() {
    let document = one("1..1\nok 1\n  ---\n  error: one\n  ...\n  ---\n  error: two\n  ...\n");
    assert_eq!(document.points[0].diagnostic, Some(Diagnostic { text: "error: one".into() }));
    assert_eq!(document.detached, [Diagnostic { text: "error: two".into() }]);
}

#[test]
fn a_block_without_an_end() {
    let document = one("1..2\nok 1\n  ---\n  error: x\nnot ok 2\n");
    assert_eq!(document.problems, ["a YAML block without an end"]);
    assert_eq!(failures(&document), [2]);
    assert_eq!(one("1..1\nok 1\n  ---\n  error: x\n").problems, ["a YAML block without an end"]);
}

#[test]
fn fields_of_json_and_of_plain_yaml() {
    let json = Diagnostic { text: "{\n  \"error\": \"exit status 1\",\n  \"actual\": 3999\n}".into() };
    assert_eq!(json.field("error").as_deref(), Some("exit status 1"));
    assert_eq!(json.field("actual").as_deref(), Some("3999"));
    assert_eq!(json.field("none"), None);
    let yaml = Diagnostic { text: "error: 'it: broke'\nlevel: MUST\nerrors: no".into() };
    assert_eq!(yaml.field("error").as_deref(), Some("it: broke"));
    assert_eq!(yaml.field("level").as_deref(), Some("MUST"));
}

#[test]
fn subtests_count_by_their_point_alone() {
    let text = "TAP version 14\n1..2\n# Subtest: inner\n    1..2\n    ok 1\n    not ok 2 - inner\n      ---\n      error: deep\n      ...\n\
                not ok 1 - outer\nok 2\n";
    let document = one(text);
    assert_eq!(failures(&document), [1]);
    let subtest = document.points[0].subtest.as_ref().expect("the subtest");
    assert_eq!(failures(subtest), [2]);
    assert_eq!(subtest.points[1].diagnostic, Some(Diagnostic { text: "error: deep".into() }));
    assert!(document.points[1].subtest.is_none());
    assert!(document.problems.is_empty(), "{:?}", document.problems);
}

#[test]
fn a_subtest_that_contradicts_its_point() {
    let document = one("1..1\n    1..1\n    not ok 1\nok 1 - outer\n");
    assert_eq!(document.problems, ["point 1 is ok, but not its subtest"]);
    let document = one("1..1\n    1..2\n    ok 1\nok 1\n");
    assert_eq!(document.problems, ["in the subtest of point 1: planned 2 points, missing 2"]);
    let document = one("1..1\nok 1\n    1..1\n    ok 1\n");
    assert_eq!(document.problems, ["a subtest of 1 points without a point"]);
}

#[test]
fn indented_text_is_no_subtest() {
    let document = one("1..1\n    goroutine 1 [running]:\nok 1\n");
    assert_eq!(document.other, ["goroutine 1 [running]:"]);
    assert!(document.problems.is_empty());
}

#[test]
fn a_bail_out_needs_no_plan() {
    let document = one("1..5\nok 1\nBail out! no disk\n");
    assert_eq!(document.bail_out.as_deref(), Some("no disk"));
    assert!(document.problems.is_empty());
}

#[test]
fn comments_belong_to_the_point_before_them() {
    let document = one("# head\n1..1\nnot ok 1 - limit\n# expect: 1, actual: 2\n#not ok 2\n");
    assert_eq!(document.comments, ["head"]);
    assert_eq!(document.points[0].comments, ["expect: 1, actual: 2", "not ok 2"]);
}

#[test]
fn strict_makes_other_lines_problems() {
    assert_eq!(one("1..1\npragma +strict\nnoise\nok 1\n").problems, ["a line that is no TAP: noise"]);
    assert!(one("1..1\npragma +strict\npragma -strict\nnoise\nok 1\n").problems.is_empty());
}

#[test]
fn a_program_that_prints_two_documents() {
    let documents = parse("TAP version 13\nok 1\nok 2\n1..2\nTAP version 13\nnot ok 1\n1..1\n");
    assert_eq!(documents.len(), 2);
    assert!(documents.iter().all(|document| document.problems.is_empty()));
    assert_eq!(failures(&documents[1]), [1]);
}

#[test]
fn a_version_line_at_once_after_another_begins_no_points() {
    let documents = parse("TAP version 13\nTAP version 13\nok 1\n1..1\n");
    assert_eq!(documents.len(), 2);
    assert_eq!(documents[0].problems, ["no plan"]);
}

#[test]
fn line_ends_of_other_systems() {
    let document = one("1..1\r\nok 1 - x\r\n  ---\r\n  error: y\r\n  ...\r\n");
    assert_eq!(document.points[0].diagnostic, Some(Diagnostic { text: "error: y".into() }));
    assert!(document.problems.is_empty());
}
