//! The services that a stamping workflow asks: what their callers implement.

use std::collections::BTreeMap;
use std::future::Future;

use event_store::BoxFuture;

use crate::error::ErrorCode;
use crate::workflow::StepError;

/// Why a service has no answer.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ServiceError {
    /// It could not be reached. Tried again.
    #[error("not reached: {0}")]
    Connection(String),
    /// It took too long; whether it did anything is not known. Tried again.
    #[error("no answer in time: {0}")]
    Timeout(String),
    /// It does not take what it was given. Not tried again, and no fault of the service.
    #[error("refused: {0}")]
    Invalid(String),
    /// Anything else. Tried again.
    #[error("{0}")]
    Failed(String),
}

impl ServiceError {
    /// `CONNECTION_ERROR`, `TIMEOUT`, `VALIDATION_ERROR` or `OPERATION_FAILED`.
    #[must_use]
    pub fn code(&self) -> ErrorCode {
        match self {
            Self::Connection(_) => ErrorCode::ConnectionError,
            Self::Timeout(_) => ErrorCode::Timeout,
            Self::Invalid(_) => ErrorCode::ValidationError,
            Self::Failed(_) => ErrorCode::OperationFailed,
        }
    }

    /// Whether the same call may go better the next time.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Invalid(_))
    }

    pub(super) fn into_step_error(self) -> StepError {
        let text = self.to_string();
        let error = if self.is_retryable() { StepError::retryable(text) } else { StepError::terminal(text) };
        error.code(self.code())
    }
}

/// What is to be stamped.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct StampRequest {
    /// The id that the workflow gives the stamp, the same in each attempt.
    pub stamp_id: String,
    /// The same in each attempt of this workflow, and in no other one's.
    pub idempotency_key: String,
    /// BLAKE3 of the content, in hexadecimal.
    pub file_hash: String,
    /// Bytes of the content.
    pub file_size_bytes: u64,
    /// Where it is from.
    pub file_path: String,
    /// What it is.
    pub content_type: String,
    /// Whose it is.
    pub namespace: String,
    /// The workflow.
    pub workflow_id: String,
    /// What else is to stand in the stamp.
    pub metadata: BTreeMap<String, String>,
}

impl StampRequest {
    /// A request to stamp what has this hash; the stamp's id is its idempotency key.
    pub fn of(stamp_id: impl Into<String>, file_hash: impl Into<String>, namespace: impl Into<String>) -> Self {
        let stamp_id = stamp_id.into();
        Self {
            idempotency_key: stamp_id.clone(),
            stamp_id,
            file_hash: file_hash.into(),
            file_size_bytes: 0,
            file_path: String::new(),
            content_type: String::new(),
            namespace: namespace.into(),
            workflow_id: String::new(),
            metadata: BTreeMap::new(),
        }
    }
}

/// A stamp.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stamp {
    /// Which it is.
    pub stamp_id: String,
    /// What it says.
    pub stamp_data: BTreeMap<String, String>,
}

/// Makes stamps.
///
/// # Cancellation
/// A call that takes too long is dropped.
pub trait StampingService: Send + Sync + 'static {
    /// Makes a stamp. The same [`StampRequest::idempotency_key`] again is the same stamp: a process that dies asks again.
    fn stamp(&self, request: &StampRequest) -> impl Future<Output = Result<Stamp, ServiceError>> + Send;

    /// Makes up to 100 stamps, in the order of the requests; one after the other unless the service knows better.
    fn stamp_batch(&self, requests: &[StampRequest]) -> impl Future<Output = Result<Vec<Stamp>, ServiceError>> + Send {
        async move {
            let mut stamps = Vec::with_capacity(requests.len());
            for request in requests {
                stamps.push(self.stamp(request).await?);
            }
            Ok(stamps)
        }
    }
}

/// Makes stamps in this process: the id that the workflow gives, and what the original's stamps say.
#[derive(Debug, Clone, Copy, Default)]
pub struct LocalStamps;

impl StampingService for LocalStamps {
    async fn stamp(&self, request: &StampRequest) -> Result<Stamp, ServiceError> {
        let fixed = [
            ("stamp_id", &*request.stamp_id),
            ("file_hash", &*request.file_hash),
            ("namespace", &*request.namespace),
            ("version", "1"),
            ("metadata_version", "0.1"),
        ];
        let mut stamp_data = request.metadata.clone();
        for (key, value) in [("file_path", &request.file_path), ("content_type", &request.content_type)] {
            if !value.is_empty() {
                stamp_data.insert(key.to_owned(), value.clone());
            }
        }
        stamp_data.extend(fixed.map(|(key, value)| (key.to_owned(), value.to_owned())));
        Ok(Stamp { stamp_id: request.stamp_id.clone(), stamp_data })
    }
}

/// What is to be thought about.
#[derive(Debug, Clone, PartialEq, Eq)]
#[non_exhaustive]
pub struct IntelligenceRequest {
    /// What to look at it for.
    pub context: String,
    /// The content.
    pub content: String,
    /// The workflow that asks.
    pub workflow_id: String,
}

impl IntelligenceRequest {
    /// A question.
    pub fn of(context: impl Into<String>, content: impl Into<String>, workflow_id: impl Into<String>) -> Self {
        Self { context: context.into(), content: content.into(), workflow_id: workflow_id.into() }
    }
}

/// What an intelligence service says.
#[derive(Debug, Clone, PartialEq)]
pub struct Intelligence {
    /// How it went about it.
    pub analysis_type: String,
    /// How sure it is, 0 to 1.
    pub confidence_score: f64,
    /// What it recommends.
    pub recommendations: String,
}

/// Thinks about content. Its answer is welcome and never needed.
///
/// # Cancellation
/// A call that takes too long is dropped.
pub trait IntelligenceService: Send + Sync + 'static {
    /// Answers.
    fn analyze(&self, request: &IntelligenceRequest)
    -> impl Future<Output = Result<Intelligence, ServiceError>> + Send;
}

/// A [`StampingService`] whose type is forgotten.
pub(super) trait AnyStamping: Send + Sync {
    fn stamp<'a>(&'a self, request: &'a StampRequest) -> BoxFuture<'a, Result<Stamp, ServiceError>>;
    fn stamp_batch<'a>(&'a self, requests: &'a [StampRequest]) -> BoxFuture<'a, Result<Vec<Stamp>, ServiceError>>;
}

impl<T: StampingService> AnyStamping for T {
    fn stamp<'a>(&'a self, request: &'a StampRequest) -> BoxFuture<'a, Result<Stamp, ServiceError>> {
        Box::pin(StampingService::stamp(self, request))
    }

    fn stamp_batch<'a>(&'a self, requests: &'a [StampRequest]) -> BoxFuture<'a, Result<Vec<Stamp>, ServiceError>> {
        Box::pin(StampingService::stamp_batch(self, requests))
    }
}

/// An [`IntelligenceService`] whose type is forgotten.
pub(super) trait AnyIntelligence: Send + Sync {
    fn analyze<'a>(&'a self, request: &'a IntelligenceRequest) -> BoxFuture<'a, Result<Intelligence, ServiceError>>;
}

impl<T: IntelligenceService> AnyIntelligence for T {
    fn analyze<'a>(&'a self, request: &'a IntelligenceRequest) -> BoxFuture<'a, Result<Intelligence, ServiceError>> {
        Box::pin(IntelligenceService::analyze(self, request))
    }
}
