//! Everything that can go wrong, once for all protocols.

use std::borrow::Cow;
use std::time::Duration;

/// What kind of failure it is. Each protocol has one table from kind to status.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum ErrorKind {
    /// The request is wrong and will stay wrong.
    InvalidArgument,
    /// No such model, pipeline or version.
    NotFound,
    /// It exists but does not serve now.
    Unavailable,
    /// A bound was hit; trying again later may succeed.
    ResourceExhausted,
    /// The message is larger than the server takes.
    TooLarge,
    /// The deadline passed before the answer.
    DeadlineExceeded,
    /// The client left.
    Cancelled,
    /// The protocol knows it, this server does not do it.
    Unimplemented,
    /// The route exists, but only for the method named (HTTP only).
    MethodNotAllowed(&'static str),
    /// The body's media type is not one that is read here (HTTP only).
    UnsupportedMediaType,
    /// None of the media types that the client takes can be written (HTTP only).
    NotAcceptable,
    /// The model failed on valid input, or the engine is broken.
    Internal,
}

impl ErrorKind {
    /// gRPC status code (`google.rpc.Code`).
    pub const fn grpc_code(self) -> u8 {
        match self {
            Self::Cancelled => 1,
            Self::InvalidArgument | Self::UnsupportedMediaType | Self::NotAcceptable => 3,
            Self::DeadlineExceeded => 4,
            Self::NotFound => 5,
            Self::ResourceExhausted | Self::TooLarge => 8,
            Self::Unimplemented | Self::MethodNotAllowed(_) => 12,
            Self::Internal => 13,
            Self::Unavailable => 14,
        }
    }

    /// HTTP status code.
    pub const fn http_status(self) -> u16 {
        match self {
            Self::InvalidArgument => 400,
            Self::NotFound => 404,
            Self::MethodNotAllowed(_) => 405,
            Self::NotAcceptable => 406,
            Self::TooLarge => 413,
            Self::UnsupportedMediaType => 415,
            Self::ResourceExhausted => 429,
            Self::Cancelled => 499,
            Self::Internal => 500,
            Self::Unimplemented => 501,
            Self::Unavailable => 503,
            Self::DeadlineExceeded => 504,
        }
    }

    /// Name of the gRPC status, for logs and metrics.
    pub const fn name(self) -> &'static str {
        match self.grpc_code() {
            1 => "CANCELLED",
            3 => "INVALID_ARGUMENT",
            4 => "DEADLINE_EXCEEDED",
            5 => "NOT_FOUND",
            8 => "RESOURCE_EXHAUSTED",
            12 => "UNIMPLEMENTED",
            13 => "INTERNAL",
            _ => "UNAVAILABLE",
        }
    }
}

/// A failure, with what a stranger may be told about it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct Error {
    /// What kind of failure it is.
    pub kind: ErrorKind,
    /// For people; safe to show a stranger.
    pub message: Cow<'static, str>,
    /// The input or parameter that is wrong, as the client named it.
    pub field: Option<Box<str>>,
    /// When trying again may succeed.
    pub retry_after: Option<Duration>,
}

/// Result of the engine's own functions.
pub type Result<T> = std::result::Result<T, Error>;

impl Error {
    /// An error of *kind*.
    #[cold]
    pub fn new(kind: ErrorKind, message: impl Into<Cow<'static, str>>) -> Self {
        Self { kind, message: message.into(), field: None, retry_after: None }
    }

    /// The request is wrong.
    #[cold]
    pub fn invalid(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::InvalidArgument, message)
    }

    /// The request is wrong in *field*.
    #[cold]
    pub fn invalid_field(field: &str, message: impl Into<Cow<'static, str>>) -> Self {
        Self { field: Some(field.into()), ..Self::invalid(message) }
    }

    /// The engine is broken or the model failed.
    #[cold]
    pub fn internal(message: impl Into<Cow<'static, str>>) -> Self {
        Self::new(ErrorKind::Internal, message)
    }

    /// A bound was hit; `retry_after` is when it is worth trying again.
    #[cold]
    pub fn overloaded(message: impl Into<Cow<'static, str>>, retry_after: Duration) -> Self {
        Self { retry_after: Some(retry_after), ..Self::new(ErrorKind::ResourceExhausted, message) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ALL: [ErrorKind; 12] = [
        ErrorKind::InvalidArgument,
        ErrorKind::NotFound,
        ErrorKind::Unavailable,
        ErrorKind::ResourceExhausted,
        ErrorKind::TooLarge,
        ErrorKind::DeadlineExceeded,
        ErrorKind::Cancelled,
        ErrorKind::Unimplemented,
        ErrorKind::MethodNotAllowed("GET"),
        ErrorKind::UnsupportedMediaType,
        ErrorKind::NotAcceptable,
        ErrorKind::Internal,
    ];

    #[test]
    fn every_kind_has_its_own_http_status_and_a_grpc_error_code() {
        let mut statuses: Vec<u16> = ALL.iter().map(|kind| kind.http_status()).collect();
        statuses.sort_unstable();
        statuses.dedup();
        assert_eq!(ALL.len(), statuses.len());
        assert!(ALL.iter().all(|kind| kind.grpc_code() != 0 && kind.http_status() >= 400));
    }
}
