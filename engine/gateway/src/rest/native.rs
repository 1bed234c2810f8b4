//! TEMPORARY until the codec lands.
use std::sync::Arc;
use bettong_frame::{Error, Result};
use bytes::Bytes;
use http::Response;
use super::RestRequest;
use crate::shared::Shared;
pub async fn infer(_: &Arc<Shared>, _: &RestRequest, _: &str, _: &str) -> Result<Response<Bytes>> {
    Err(Error::internal("not yet"))
}
