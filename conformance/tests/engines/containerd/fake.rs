//! A runtime that is slow or fails where a test wants it: a script around the real one, which the shim is told to use.

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use conformance::bundle::write_script;

use super::daemon::world;
use super::fixture::Test;

/// The wrapper of one test.
pub(crate) struct Fake {
    dir: PathBuf,
    /// What the shim is told to use.
    pub(crate) program: PathBuf,
}

impl Fake {
    pub(crate) fn new(t: &Test) -> Self {
        let dir = t.dir.join("fake");
        fs::create_dir(&dir).expect("cannot make a directory");
        let program = dir.join("runtime");
        // The command is the first word that is one; before it stand global options and their values.
        write_script(
            &program,
            &format!(
                r#"dir={dir}
for word; do
  [ "$previous" != --log ] || log=$word
  [ "$previous" != --pid-file ] || pid_file=$word
  previous=$word
  case $word in create|start|delete|state|kill|exec|pause|resume|update|ps|run|checkpoint|restore|features)
    [ -n "$command" ] || command=$word ;;
  esac
done
echo "$command $*" >>$dir/calls
if [ -e $dir/$command.hang ]; then exec sleep 1000; fi
if [ -e $dir/$command.dies ]; then kill -KILL $$; fi
if [ -e $dir/$command.dies-half ]; then "{real}" "$@"; rm "$pid_file"; kill -KILL $$; fi
if [ -e $dir/$command.dies-late ]; then "{real}" "$@"; kill -KILL $$; fi
if [ -e $dir/$command.sleep ]; then sleep "$(cat $dir/$command.sleep)"; fi
if [ -e $dir/$command.fail ]; then
  [ -z "$log" ] || echo '{{"level":"error","msg":"made to fail","time":"2026-01-01T00:00:00Z"}}' >>"$log"
  cat $dir/$command.fail >&2
  echo "made to fail" >&2
  exit 1
fi
if [ -e $dir/$command.after ]; then "{real}" "$@"; status=$?; sleep "$(cat $dir/$command.after)"; exit $status; fi
exec "{real}" "$@""#,
                dir = dir.display(),
                real = world().runtime.display(),
            ),
        );
        Self { dir, program }
    }

    /// A command waits before it begins.
    pub(crate) fn slow(&self, command: &str, time: Duration) {
        self.set(command, "sleep", &time.as_secs_f64().to_string());
    }

    /// A command has done its work, and waits before it ends.
    pub(crate) fn late(&self, command: &str, time: Duration) {
        self.set(command, "after", &time.as_secs_f64().to_string());
    }

    /// A command does nothing, and does not end.
    pub(crate) fn hangs(&self, command: &str) {
        self.set(command, "hang", "");
    }

    /// A command is killed before it has done anything.
    pub(crate) fn dies(&self, command: &str) {
        self.set(command, "dies", "");
    }

    /// A command is killed when it has made a process, and told of it nowhere.
    pub(crate) fn dies_half(&self, command: &str) {
        self.set(command, "dies-half", "");
    }

    /// A command is killed when it has done its work.
    pub(crate) fn dies_late(&self, command: &str) {
        self.set(command, "dies-late", "");
    }

    /// A command fails and does nothing.
    pub(crate) fn broken(&self, command: &str) {
        self.set(command, "fail", "");
    }

    /// A command says this before it fails.
    pub(crate) fn broken_with(&self, command: &str, words: &str) {
        self.set(command, "fail", words);
    }

    fn set(&self, command: &str, what: &str, value: &str) {
        fs::write(self.dir.join(format!("{command}.{what}")), value).expect("cannot write");
    }

    /// All is as it was.
    pub(crate) fn well(&self) {
        for entry in fs::read_dir(&self.dir).expect("cannot list").filter_map(Result::ok) {
            if !["runtime", "calls"].iter().any(|kept| entry.file_name() == *kept) {
                fs::remove_file(entry.path()).expect("cannot remove");
            }
        }
    }

    /// The calls of the shim so far: the command, and all words.
    pub(crate) fn calls(&self) -> Vec<String> {
        let text = fs::read_to_string(self.dir.join("calls")).unwrap_or_default();
        text.lines().map(str::to_owned).collect()
    }

    /// The last call of a command.
    #[track_caller]
    pub(crate) fn call(&self, command: &str) -> String {
        let calls = self.calls();
        let last = calls.iter().rfind(|call| call.split(' ').next() == Some(command));
        last.unwrap_or_else(|| panic!("no call of {command}: {calls:?}")).clone()
    }
}
