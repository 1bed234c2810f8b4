//! Replies and errors.

use bettong_frame::{Error, ErrorKind};
use bytes::Bytes;
use serde_json::{Value, json};
use smallvec::SmallVec;

/// Content type of JSON.
pub const JSON: &str = "application/json";

/// What goes back to the client.
#[derive(Debug)]
pub struct Reply {
    /// HTTP status.
    pub status: u16,
    /// Media type of the body.
    pub content_type: &'static str,
    /// Further headers, with names in lower case.
    pub headers: SmallVec<[(&'static str, String); 1]>,
    /// The body.
    pub body: Bytes,
}

impl Default for Reply {
    fn default() -> Self {
        Self { status: 200, content_type: JSON, headers: SmallVec::new(), body: Bytes::new() }
    }
}

impl Reply {
    /// A successful JSON reply.
    pub fn json(body: impl Into<Bytes>) -> Self {
        Self { body: body.into(), ..Self::default() }
    }

    /// *value* with *status*.
    pub fn value(status: u16, value: &Value) -> Self {
        Self { status, ..Self::json(value.to_string()) }
    }

    /// The reply that says *error*: `{"error": …}`, on *native* routes with the fields that their clients know.
    #[cold]
    pub fn error(error: &Error, native: bool) -> Self {
        let status = error.kind.http_status();
        let body = if native {
            json!({"error": error.message, "code": status, "status": "error", "source": "engine", "field": error.field})
        } else {
            json!({"error": error.message})
        };
        let mut reply = Self::value(status, &body);
        if let ErrorKind::MethodNotAllowed(method) = error.kind {
            reply.headers.push(("allow", method.to_owned()));
        }
        if let Some(after) = error.retry_after {
            // Whole seconds is all that the header can say (RFC 9110, 10.2.3); the exact time goes beside it.
            reply.headers.push(("retry-after", format!("{}", after.as_secs_f64().ceil() as u64)));
            reply.headers.push(("retry-after-ms", after.as_millis().max(1).to_string()));
        }
        reply
    }
}
