//! Replies and errors.

use bettong_frame::{Error, ErrorKind};
use bytes::Bytes;
use serde_json::{Value, json};
use smallvec::SmallVec;

use crate::account::{Account, new_request_id};
use crate::admission::Permit;
use crate::head::Head;
use crate::shared::Shared;

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
    /// The place of its request, which is kept until it is sent.
    pub permit: Option<Permit>,
}

impl Default for Reply {
    fn default() -> Self {
        Self { status: 200, content_type: JSON, headers: SmallVec::new(), body: Bytes::new(), permit: None }
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

    /// The reply that says *error* of a request to *path*: `{"error": …}`, on native routes with the fields that their clients
    /// know.
    #[cold]
    fn error(error: &Error, path: &str) -> Self {
        let native = !path.starts_with("/v2");
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

    fn with_request_id(mut self, made: Option<Bytes>) -> Self {
        self.headers.extend(made.map(|id| ("x-request-id", String::from_utf8_lossy(&id).into_owned())));
        self
    }
}

/// The reply that says *error* of a request to *path*. It has an id even if the request has none, under which it is counted and
/// logged, so that people can speak of it.
#[cold]
pub fn failure(shared: &Shared, account: &Account<'_>, error: &Error, path: &str) -> Reply {
    let made = account.head.request_id().is_none().then(new_request_id);
    let head = Head { request_id: made.clone(), ..account.head.clone() };
    let account = if made.is_some() { &Account { head: &head, ..*account } } else { account };
    account.failed(shared, error);
    Reply::error(error, path).with_request_id(made)
}
