//! How containerd and a shim that is being started find each other, in both dialects.
//!
//! Until 2.2 the shim gets a protobuf Any of the runtime's options on its standard input and answers with JSON or a bare
//! address; since 2.3 it gets a BootstrapParams and answers with a BootstrapResult, both protobuf. Bytes of the one can
//! be read as the other: they are told apart by whether id and namespace are those of the command line.

use containerd_shim_protos::bootstrap_api::{BootstrapParams, BootstrapResult};
use protobuf::Message;
use protobuf::well_known_types::any::Any;

use crate::args::Args;

/// The version of the task service that is spoken here; 2 is served as well.
const VERSION: u32 = 3;
const PROTOCOL: &str = "ttrpc";

/// What containerd says of itself and wants of the shim.
#[derive(Debug, Default)]
pub(crate) struct Params {
    /// In the dialect since 2.3.
    modern: bool,
    /// What the protobuf version of the answer may be at most, in the older dialect.
    max_version: u32,
    /// containerd's gRPC socket.
    pub(crate) grpc_address: String,
    /// containerd's ttrpc socket, where events go.
    pub(crate) ttrpc_address: String,
    /// Empty in the older dialect.
    pub(crate) version: String,
    /// Where sockets of shims are to be, if not at the usual place.
    pub(crate) socket_dir: Option<String>,
    /// Whether more is to be logged.
    pub(crate) debug: bool,
    /// The options of the runtime, where the dialect has them here.
    pub(crate) options: Option<Any>,
}

impl Params {
    /// Reads what came on standard input; `environment` is asked for TTRPC_ADDRESS and MAX_SHIM_VERSION.
    ///
    /// # Errors
    /// One line: the bytes are neither.
    pub(crate) fn parse(
        input: &[u8],
        args: &Args,
        environment: impl Fn(&str) -> Option<String>,
    ) -> Result<Params, String> {
        if let Ok(params) = BootstrapParams::parse_from_bytes(input)
            && params.instance_id == args.id
            && params.namespace == args.namespace
        {
            return Ok(Params {
                modern: true,
                max_version: VERSION,
                version: params.containerd_version,
                grpc_address: params.containerd_grpc_address,
                ttrpc_address: params.containerd_ttrpc_address,
                socket_dir: params.socket_dir.filter(|dir| !dir.is_empty()),
                debug: args.debug || params.log_level.value() < 0,
                options: params.extensions.into_iter().find_map(|it| it.value.into_option()),
            });
        }
        let options = Any::parse_from_bytes(input)
            .map_err(|error| format!("standard input is neither BootstrapParams nor Any: {error}"))?;
        Ok(Params {
            modern: false,
            max_version: environment("MAX_SHIM_VERSION").and_then(|it| it.parse().ok()).unwrap_or(0),
            version: String::new(),
            grpc_address: args.address.clone(),
            ttrpc_address: environment("TTRPC_ADDRESS").unwrap_or_default(),
            socket_dir: None,
            debug: args.debug,
            options: (!options.type_url.is_empty()).then_some(options),
        })
    }

    /// The answer: all that may be printed.
    pub(crate) fn answer(&self, address: &str) -> Vec<u8> {
        if self.modern {
            let result = BootstrapResult {
                version: VERSION as i32,
                address: address.to_owned(),
                protocol: PROTOCOL.to_owned(),
                ..Default::default()
            };
            // Nothing in it can fail to be encoded.
            return result.write_to_bytes().unwrap_or_default();
        }
        match self.max_version {
            // Older than the JSON answer.
            0 | 1 => address.as_bytes().to_vec(),
            most => {
                let version = most.min(VERSION);
                serde_json::json!({ "version": version, "address": address, "protocol": PROTOCOL })
                    .to_string()
                    .into_bytes()
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn args() -> Args {
        Args { id: "one".into(), namespace: "ns".into(), address: "/c.sock".into(), ..Args::default() }
    }

    #[test]
    fn both_dialects_are_told_apart() {
        let params = BootstrapParams {
            instance_id: "one".into(),
            namespace: "ns".into(),
            containerd_ttrpc_address: "/t.sock".into(),
            socket_dir: Some("/s".into()),
            ..Default::default()
        };
        let modern = Params::parse(&params.write_to_bytes().unwrap(), &args(), |_| None).unwrap();
        assert_eq!((modern.ttrpc_address.as_str(), modern.socket_dir.as_deref()), ("/t.sock", Some("/s")));
        let result = BootstrapResult::parse_from_bytes(&modern.answer("unix:///x")).unwrap();
        assert_eq!((result.version, result.address.as_str(), result.protocol.as_str()), (3, "unix:///x", "ttrpc"));

        let options = Any { type_url: "containerd.runc.v1.Options".into(), value: vec![8, 1], ..Default::default() };
        let old = |name: &str| Some(if name == "MAX_SHIM_VERSION" { "2" } else { "/t" }.to_owned());
        let old = Params::parse(&options.write_to_bytes().unwrap(), &args(), old).unwrap();
        assert!(!old.modern && old.options.is_some());
        let json: serde_json::Value = serde_json::from_slice(&old.answer("unix:///x")).unwrap();
        assert_eq!(json["version"], 2);

        let oldest = Params::parse(b"", &args(), |_| None).unwrap();
        assert_eq!(oldest.answer("unix:///x"), b"unix:///x");
        assert!(Params::parse(&[0xff; 3], &args(), |_| None).is_err());
    }
}
