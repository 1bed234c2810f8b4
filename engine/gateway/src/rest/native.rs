//! TEMPORARY until the codec lands.
use super::{Asked, Client, Reply};
use crate::shared::Shared;
use bettong_frame::{Error, Result};
use bytes::Bytes;
use std::sync::Arc;
pub async fn infer(_: &Arc<Shared>, _: &Asked<'_>, _: Bytes, _: &mut impl Client, _: (&str, &str)) -> Result<Reply> {
    Err(Error::internal("not yet"))
}
