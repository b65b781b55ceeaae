//! `-info`: what this shim is, and what its runtime can do.

use std::io::{Read, Write};
use std::process::Command;

use containerd_shim_protos::types::introspection::{RuntimeInfo, RuntimeVersion};
use protobuf::well_known_types::any::Any;
use protobuf::{Message, MessageField};

use crate::options::Options;
use crate::runtime::{call_alone, program};

/// containerd reads the runtime's features under this name, as JSON.
const FEATURES: &str = "types.containerd.io/opencontainers/runtime-spec/1/features/Features";

/// Answers containerd.
///
/// # Errors
/// One line: the options are not understood, or the runtime has not answered in time, or was killed.
pub(crate) fn info() -> Result<(), String> {
    let mut input = Vec::new();
    std::io::stdin().read_to_end(&mut input).map_err(|error| format!("standard input: {error}"))?;
    let any = Any::parse_from_bytes(&input).map_err(|error| format!("standard input is no Any: {error}"))?;
    let options = Options::from_any(Some(&any))?;
    let mut command = Command::new(program(&options.binary_name));
    command.arg("features");
    let features = match call_alone(command, "features") {
        Ok(value) => Some(Any { type_url: FEATURES.to_owned(), value, ..Default::default() }),
        Err(error) if error.is_cut_off() => return Err(error.to_string()),
        // A runtime without the command is one without special features.
        Err(_) => None,
    };
    let version = RuntimeVersion {
        version: env!("CARGO_PKG_VERSION").to_owned(),
        revision: option_env!("PROA_COMMIT").unwrap_or_default().to_owned(),
        ..Default::default()
    };
    let info = RuntimeInfo {
        name: "io.containerd.proa.v2".to_owned(),
        version: MessageField::some(version),
        options: (!any.type_url.is_empty()).then_some(any).into(),
        features: features.into(),
        ..Default::default()
    };
    let bytes = info.write_to_bytes().map_err(|error| format!("answer: {error}"))?;
    std::io::stdout().write_all(&bytes).map_err(|error| format!("answer: {error}"))
}
