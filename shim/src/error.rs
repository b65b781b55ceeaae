//! Why a call cannot be answered, as containerd tells errors apart: by their gRPC codes.

use ttrpc::Code;

/// An answer that is none.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum Error {
    /// There is no such container or process, or it is gone.
    #[error("{0}")]
    NotFound(String),
    /// There is one with this id.
    #[error("{0}")]
    AlreadyExists(String),
    /// Not in the state that it is in.
    #[error("{0}")]
    Precondition(String),
    /// The request itself is wrong.
    #[error("{0}")]
    Invalid(String),
    /// The runtime has not answered in time, and was ended.
    #[error("{0}")]
    Deadline(String),
    /// The runtime was ended by a signal: for want of memory, or by somebody.
    #[error("{0}")]
    Killed(String),
    /// The shim is about to end: another one will be started.
    #[error("the shim ends")]
    Ending,
    /// The runtime, or the kernel, says no.
    #[error("{0}")]
    Failed(String),
}

/// What fails with an [`Error`].
pub(crate) type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// Whether the runtime was ended in the middle of what it did: nobody knows how far it came.
    pub(crate) fn is_cut_off(&self) -> bool {
        matches!(self, Error::Deadline(_) | Error::Killed(_))
    }

    /// What was to be done, before the reason.
    pub(crate) fn failed(what: impl std::fmt::Display) -> impl FnOnce(std::io::Error) -> Error {
        move |error| Error::Failed(format!("{what}: {error}"))
    }
}

impl From<Error> for ttrpc::Error {
    fn from(error: Error) -> ttrpc::Error {
        // The words that containerd's own errors end in: people, and some programs, look for them.
        let (code, words) = match &error {
            Error::NotFound(_) => (Code::NOT_FOUND, ": not found"),
            Error::AlreadyExists(_) => (Code::ALREADY_EXISTS, ": already exists"),
            Error::Precondition(_) => (Code::FAILED_PRECONDITION, ": failed precondition"),
            Error::Invalid(_) => (Code::INVALID_ARGUMENT, ": invalid argument"),
            Error::Deadline(_) => (Code::DEADLINE_EXCEEDED, ": context deadline exceeded"),
            Error::Ending => (Code::UNAVAILABLE, ": unavailable"),
            Error::Killed(_) | Error::Failed(_) => (Code::UNKNOWN, ""),
        };
        ttrpc::Error::RpcStatus(ttrpc::get_status(code, format!("{error}{words}")))
    }
}
