//! proa: a low-level OCI container runtime.
//!
//! The command line becomes a plan, the plan a container; see docs/architecture for the way through the modules.
#![cfg_attr(not(any(test, fuzzing)), no_main)]

mod bundle;
mod checkpoint;
mod child;
mod cli;
mod config;
mod error;
#[cfg(fuzzing)]
pub mod fuzzing;
mod hooks;
mod logging;
mod mountinfo;
mod network;
mod parent;
mod plan;
mod seccomp;
mod state;
mod sync;
mod sys;
mod time;

use std::ffi::CStr;

/// The program, called by its entry with the words of the command line; the status for the shell.
#[cfg_attr(any(test, fuzzing), allow(dead_code))]
fn run(args: &[&CStr]) -> i32 {
    sys::open_standard_streams();
    let words: Result<Vec<&str>, _> = args.iter().skip(1).map(|arg| arg.to_str()).collect();
    match words {
        Ok(words) => cli::main(&words, args),
        Err(_) => {
            logging::fail("the command line is not UTF-8");
            1
        }
    }
}
