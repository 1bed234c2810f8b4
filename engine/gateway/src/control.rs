//! Requests of the data port that the control plane answers: the model repository.

use bettong_frame::{Error, Result};
use bytes::Bytes;
use tokio::sync::oneshot;

use crate::shared::Shared;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ControlMethod {
    /// Deploy a pipeline, or a model by itself.
    Load,
    /// Undeploy a pipeline.
    Unload,
    /// List everything that could be deployed.
    RepositoryIndex,
}

impl ControlMethod {
    /// Name, as the control plane knows it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Load => "load",
            Self::Unload => "unload",
            Self::RepositoryIndex => "repository_index",
        }
    }
}

/// One question with the way for its answer. Dropped unanswered, it answers an internal error.
pub struct ControlCall {
    /// What is asked.
    pub method: ControlMethod,
    /// About which model; empty for all.
    pub model: String,
    reply: oneshot::Sender<Result<Bytes>>,
}

impl ControlCall {
    /// Answer with a protobuf payload, or with why not.
    pub fn answer(self, outcome: Result<Bytes>) {
        // The client may have left meanwhile.
        let _ = self.reply.send(outcome);
    }
}

/// Takes questions; must not block.
pub type Control = Box<dyn Fn(ControlCall) + Send + Sync>;

/// Ask the control plane and wait for its answer, as a request that is under way like any other.
pub async fn ask(shared: &Shared, method: ControlMethod, model: &str) -> Result<Bytes> {
    let _permit = shared.admit(model.len())?;
    let (reply, answer) = oneshot::channel();
    (shared.control)(ControlCall { method, model: model.to_owned(), reply });
    answer.await.unwrap_or_else(|_| Err(Error::internal("the control plane did not answer")))
}
