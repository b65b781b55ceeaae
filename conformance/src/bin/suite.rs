//! Runs the Open Container Initiative's validation suite against runtimes and
//! reports. `make conformance` calls it; see conformance/README.md.

use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::Duration;

use clap::Parser;
use conformance::suite::driver::{Driver, programs};
use conformance::suite::knowledge::{BUILT_IN, Knowledge, Setting};
use conformance::suite::record::Record;
use conformance::suite::{Error, expect, report};

/// Runs the OCI validation suite against container runtimes.
#[derive(Debug, Parser)]
#[command(name = "suite")]
struct Options {
    /// Only programs with one of these in their name
    programs: Vec<String>,
    /// The folder that conformance/suite/build prints
    #[arg(long, value_name = "DIR")]
    suite: Option<PathBuf>,
    /// Where this runs, which decides what is expected
    #[arg(long, value_enum, default_value = "host")]
    setting: Setting,
    /// The runtime to test
    #[arg(long, value_name = "PATH", default_value = "target/release/proa")]
    runtime: PathBuf,
    /// More runtimes, by path or by name
    #[arg(long, value_name = "NAMES", value_delimiter = ' ')]
    compare: Vec<String>,
    /// Where runtimes named to --compare are; else on the PATH
    #[arg(long, value_name = "DIR")]
    peers: Option<PathBuf>,
    /// Seconds that a program may take
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    timeout: u64,
    /// Fail unless proa does what this file says (conformance/suite/programs)
    #[arg(long, value_name = "FILE")]
    expect: Option<PathBuf>,
    /// Expect nothing in this setting
    #[arg(long, value_name = "SETTING")]
    no_expect: Vec<Setting>,
    /// Write a report for machines
    #[arg(long, value_name = "FILE")]
    json: Option<PathBuf>,
    /// Write a report in JUnit's XML
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// Write a report for people, FILE.html or FILE.md
    #[arg(long, value_name = "FILE")]
    report: Vec<PathBuf>,
    /// Run nothing, but report what earlier calls wrote with --json
    #[arg(long, value_name = "FILE", num_args = 1..)]
    from: Vec<PathBuf>,
    /// Print the names of the programs and end
    #[arg(long)]
    list: bool,
}

fn main() -> ExitCode {
    env_logger::init();
    match run(&Options::parse()) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => ExitCode::FAILURE,
        Err(error) => {
            eprintln!("suite: {error}");
            ExitCode::from(2)
        }
    }
}

/// Whether all was as expected.
fn run(options: &Options) -> Result<bool, Error> {
    let knowledge = match &options.expect {
        Some(path) => Knowledge::read(path)?,
        None => Knowledge::parse(BUILT_IN, "conformance/suite/programs")?,
    };
    let mut records = if options.from.is_empty() {
        let suite = options.suite.as_deref().ok_or_else(|| Error::Usage("--suite is missing".to_owned()))?;
        let names = programs(suite, &options.programs)?;
        if options.list {
            println!("{}", names.join("\n"));
            return Ok(true);
        }
        vec![measure(options, suite, &knowledge, &names)?]
    } else {
        options.from.iter().map(|path| Record::read(path)).collect::<Result<Vec<_>, _>>()?
    };
    records.iter_mut().for_each(|record| record.explain(&knowledge));
    print!("{}", report::text(&records));
    if let (Some(path), [record]) = (&options.json, records.as_slice()) {
        record.write(path)?;
    }
    if let Some(path) = &options.junit {
        std::fs::write(path, report::junit(&records)).map_err(Error::file("write", path))?;
    }
    for path in &options.report {
        report::write(&records, path)?;
    }
    if options.expect.is_none() {
        return Ok(true);
    }
    let counts = |record: &&Record| !options.no_expect.iter().any(|setting| setting.name() == record.setting);
    let differences: Vec<String> = records.iter().filter(counts).flat_map(expect::check).collect();
    differences.iter().for_each(|line| println!("not as expected: {line}"));
    Ok(differences.is_empty())
}

fn measure(options: &Options, suite: &Path, knowledge: &Knowledge, names: &[String]) -> Result<Record, Error> {
    let mut runtimes = vec![find(&options.runtime.to_string_lossy(), None)?];
    for name in options.compare.iter().filter(|name| !name.is_empty()) {
        runtimes.push(find(name, options.peers.as_deref())?);
    }
    let limit = Duration::from_secs(options.timeout);
    let driver = Driver { suite, knowledge, setting: options.setting, limit };
    driver.run(&runtimes, names, |runtime, program| {
        let word = program.verdict.word();
        eprintln!("{:9} {runtime:6} {:34} {word:10} {:6.1} s", options.setting.name(), program.name, program.seconds);
    })
}

/// A runtime by path, or by name in `peers` or on the PATH.
fn find(name: &str, peers: Option<&Path>) -> Result<PathBuf, Error> {
    let path = Path::new(name);
    let found = if name.contains('/') {
        path.exists().then(|| path.to_owned())
    } else {
        let dirs = peers.map(Path::to_owned).into_iter();
        let paths = std::env::var_os("PATH").unwrap_or_default();
        let mut all = dirs.chain(std::env::split_paths(&paths)).map(|dir| dir.join(name));
        all.find(|path| path.exists())
    };
    let found = found.ok_or_else(|| Error::Usage(format!("there is no runtime {name}")))?;
    // The programs are started elsewhere.
    std::path::absolute(&found).map_err(Error::file("resolve", &found))
}
