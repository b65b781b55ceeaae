//! Tests of the parser's rules.

use super::*;

/// Parses a line of words, none of which has a blank in it.
pub(super) fn line(text: &str) -> Result<Outcome<'_>, UsageError> {
    parse(&text.split_whitespace().collect::<Vec<_>>())
}

pub(super) fn run(text: &str) -> Parsed<'_> {
    match line(text) {
        Ok(Outcome::Run(parsed)) => parsed,
        other => panic!("{text}: {other:?}"),
    }
}

pub(super) fn error(text: &str) -> (String, u8) {
    let error = line(text).expect_err(text);
    (error.to_string(), error.exit_code())
}

/// The flags as one line, switches by name and the rest as `name=value`.
pub(super) fn shown(values: &Values<'_>) -> String {
    let flag = |&(flag, value): &(&'static Flag, &str)| match flag.value {
        Some(_) => format!("{}={value}", flag.long),
        None => flag.long.to_owned(),
    };
    values.0.iter().map(flag).collect::<Vec<_>>().join(" ")
}

#[test]
fn values_come_in_every_way_go_knows() {
    let ways = ["--bundle X", "--bundle=X", "-bundle X", "-bundle=X", "-b X", "-b=X", "--b X"];
    for way in ways {
        let text = format!("create {way} c1");
        assert_eq!(shown(&run(&text).values), "bundle=X", "{way}");
    }
    // The next word is the value whatever it looks like, and only the first = is a sign.
    assert_eq!(run("update --memory -1 c1").values.get("memory"), Some("-1"));
    assert_eq!(run("create --bundle --help c1").values.get("bundle"), Some("--help"));
    assert_eq!(run("create --bundle -- c1").values.get("bundle"), Some("--"));
    assert_eq!(run("create --bundle= c1").values.get("bundle"), Some(""));
    assert_eq!(run("exec -e=A=B=C c1").values.get("env"), Some("A=B=C"));
}

#[test]
fn switches_can_be_turned_on_and_off() {
    for on in ["", "=1", "=t", "=T", "=true", "=True", "=TRUE"] {
        for dashes in ["-", "--"] {
            let text = format!("run {dashes}detach{on} c1");
            assert!(run(&text).values.has("detach"), "{text}");
        }
    }
    for off in ["=0", "=f", "=F", "=false", "=False", "=FALSE"] {
        let text = format!("run -d -detach{off} c1");
        assert!(!run(&text).values.has("detach"), "{text}");
    }
    // A switch takes no value from the next word.
    assert_eq!(run("kill --all c1 9").args, ["c1", "9"]);
    assert_eq!(run("run -d c1").values.get("detach"), None);
    assert!(!run("--help=false start c1").global.has("help"));
    assert!(matches!(line("start --help=0 c1"), Ok(Outcome::Run(_))));
}

#[test]
fn the_last_value_wins_unless_all_are_wanted() {
    let parsed = run("exec -u 1 --env A=1 -e B=2 --user 2 -env=A=3 c1 sh");
    assert_eq!(parsed.values.get("user"), Some("2"));
    assert_eq!(parsed.values.all("user").collect::<Vec<_>>(), ["2"]);
    assert_eq!(parsed.values.all("env").collect::<Vec<_>>(), ["A=1", "B=2", "A=3"]);
    assert_eq!(parsed.values.get("env"), Some("A=3"));
    assert_eq!(parsed.values.get("cwd"), None);
    assert_eq!(run("--root /a --root /b list").global.get("root"), Some("/b"));
}

#[test]
fn flags_follow_positionals_but_not_those_of_another_program() {
    let parsed = run("delete c1 --force c2");
    assert_eq!((shown(&parsed.values), parsed.args), ("force".to_owned(), vec!["c1", "c2"]));
    let parsed = run("exec -t c1 ls --help -t -- x");
    assert_eq!(shown(&parsed.values), "tty");
    assert_eq!(parsed.args, ["c1", "ls", "--help", "-t", "--", "x"]);
    assert_eq!(run("ps c1 -ef").args, ["c1", "-ef"]);
}

#[test]
fn two_dashes_end_the_flags() {
    assert_eq!(run("start -- -c1").args, ["-c1"]);
    assert_eq!(run("delete --force -- --force --").args, ["--force", "--"]);
    assert_eq!(run("exec -- c1 ls").args, ["c1", "ls"]);
    assert_eq!(run("--debug -- start c1").command.name, "start");
    assert_eq!(run("start -").args, ["-"]);
}

#[test]
fn help_and_the_version_are_found() {
    for text in ["", "-h", "--help", "-help", "help", "h", "--debug", "help help", "--", "help -h"] {
        assert!(matches!(line(text), Ok(Outcome::Help(None))), "{text}");
    }
    for command in COMMANDS {
        let name = command.name;
        let lines = ["{} -h", "{} --help", "help {}", "h {}", "--root /r {} --help"];
        for text in lines.map(|line| line.replace("{}", name)) {
            match line(&text) {
                Ok(Outcome::Help(Some(found))) => assert_eq!(found.name, name),
                other => panic!("{text}: {other:?}"),
            }
        }
    }
    assert!(matches!(line("kill c1 --help"), Ok(Outcome::Help(Some(_)))));
    for text in ["-v", "--version", "--debug -version"] {
        assert!(matches!(line(text), Ok(Outcome::Version)), "{text}");
    }
}

#[test]
fn errors_are_one_clear_line_and_have_the_status_of_runc() {
    let cases = [
        ("foo", 3, "unknown command \"foo\", see 'proa --help'"),
        ("help foo", 3, "unknown command \"foo\", see 'proa --help'"),
        ("--foo=secret", 1, "flag provided but not defined: --foo, see 'proa --help'"),
        ("create -foo c", 1, "flag provided but not defined: -foo, see 'proa create --help'"),
        ("create -bX c", 1, "flag provided but not defined: -bX, see 'proa create --help'"),
        ("start --version", 1, "flag provided but not defined: --version, see 'proa start --help'"),
        ("create -v c", 1, "flag provided but not defined: -v, see 'proa create --help'"),
        ("kill -9 c1", 1, "flag provided but not defined: -9, see 'proa kill --help'"),
        (
            "exec -td c1",
            1,
            "flag provided but not defined: -td (short flags cannot be joined), \
             see 'proa exec --help'",
        ),
        ("list --root /r", 1, "flag --root must come before the command \"list\", see 'proa --help'"),
        ("create ---bundle", 1, "bad flag syntax: ---bundle, see 'proa create --help'"),
        ("--=x", 1, "bad flag syntax: --, see 'proa --help'"),
        ("--root", 1, "flag needs an argument: --root"),
        ("create -b", 1, "flag needs an argument: --bundle"),
        ("create --no-pivot=maybe c", 1, "invalid value \"maybe\" for flag --no-pivot: neither true nor false"),
        ("create", 1, "\"create\" requires exactly 1 argument(s), 0 given; usage: proa create <container-id>"),
        ("list x", 1, "\"list\" requires exactly 0 argument(s), 1 given; usage: proa list"),
        (
            "kill",
            1,
            "\"kill\" requires a minimum of 1 argument(s), 0 given; \
             usage: proa kill <container-id> [signal]",
        ),
        (
            "kill a b c",
            1,
            "\"kill\" requires a maximum of 2 argument(s), 3 given; \
             usage: proa kill <container-id> [signal]",
        ),
    ];
    for (text, code, wanted) in cases {
        assert_eq!(error(text), (wanted.to_owned(), code), "{text}");
    }
    let newline = parse(&["a\nb"]).expect_err("no such command").to_string();
    assert_eq!(newline.lines().count(), 1);
}
