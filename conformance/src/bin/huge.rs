//! `huge COUNT [noreserve]`: writes to that many huge pages of 2 MiB and says `done`, or the error of mmap(2), with
//! exit code 1. With `noreserve` a page too many is a SIGBUS.
//!
//! Runs in containers of the tests, as a static program.

use std::process::ExitCode;

use conformance::sys;

fn main() -> ExitCode {
    let mut arguments = std::env::args().skip(1);
    let count = arguments.next().and_then(|text| text.parse().ok()).expect("usage: huge COUNT [noreserve]");
    match sys::touch_huge_pages(count, 2 << 20, arguments.next().is_none()) {
        Ok(()) => println!("done"),
        Err(error) => {
            println!("{error}");
            return ExitCode::FAILURE;
        }
    }
    ExitCode::SUCCESS
}
