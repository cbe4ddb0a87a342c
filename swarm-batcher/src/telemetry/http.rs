//! Delivers bodies by HTTP POST, with retries.

mod body;
mod builder;
mod error;
mod retry_after;
#[cfg(feature = "tls")]
mod tls;

use std::fmt;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use bytes::Bytes;
use http_body_util::BodyExt;
use hyper::body::{Body, Incoming};
use hyper::header::{HeaderMap, HeaderName, HeaderValue, RETRY_AFTER};
use hyper::{Method, Request, Response, Uri};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use tokio::time::{Instant, sleep, timeout_at};

use body::{AttemptBody, Taken};
pub use builder::HttpSinkBuilder;
pub use error::{AttemptError, EndpointError, PostError};

use crate::error::Outcome;
pub(super) use retry_after::parse_retry_after;

const MESSAGE_PACK: HeaderValue = HeaderValue::from_static("application/msgpack");
const ZSTD: HeaderValue = HeaderValue::from_static("zstd");
const BATCH_SIZE: HeaderName = HeaderName::from_static("x-batch-size");

/// An answer up to this size is read to its end, so that its connection can be used again.
const READ_OF_ANSWER: usize = 64 << 10;
/// How much of an answer an error keeps.
const KEPT_OF_ANSWER: usize = 200;

/// Sends bodies made by an [`Encoder`](super::Encoder) to one endpoint by HTTP/1.1, over connections that are kept and used again.
///
/// A clone shares the connections. Needs a tokio runtime with time and I/O.
///
/// ```no_run
/// use swarm_batcher::telemetry::{Encoder, HttpSink, encode_item};
///
/// # async fn deliver() -> Result<(), Box<dyn std::error::Error>> {
/// let sink = HttpSink::new("http://127.0.0.1:4318/telemetry")?;
/// let payload = Encoder::new()?.encode(&[encode_item("started")?])?;
/// sink.post(payload.body, payload.items).await?;
/// # Ok(())
/// # }
/// ```
#[derive(Clone)]
pub struct HttpSink {
    client: Client,
    endpoint: Uri,
    headers: HeaderMap,
    settings: Settings,
}

#[derive(Clone)]
enum Client {
    Plain(legacy::Client<HttpConnector, AttemptBody>),
    #[cfg(feature = "tls")]
    Tls(legacy::Client<hyper_rustls::HttpsConnector<HttpConnector>, AttemptBody>),
}

#[derive(Clone, Debug)]
struct Settings {
    timeout: Duration,
    max_attempts: u32,
    backoff_base: Duration,
    backoff_cap: Duration,
    max_retry_after: Duration,
}

impl Default for Settings {
    fn default() -> Self {
        let seconds = Duration::from_secs;
        Self {
            timeout: seconds(5),
            max_attempts: 5,
            backoff_base: seconds(1),
            backoff_cap: seconds(10),
            max_retry_after: seconds(60),
        }
    }
}

impl fmt::Debug for HttpSink {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("HttpSink")
            .field("endpoint", &self.endpoint)
            .field("headers", &self.headers)
            .field("settings", &self.settings)
            .finish_non_exhaustive()
    }
}

impl HttpSink {
    /// A sink with the defaults of [`HttpSinkBuilder`].
    ///
    /// # Errors
    /// [`EndpointError`] if the endpoint is no absolute URL with scheme `http`, or `https` and the feature `tls`.
    pub fn new(endpoint: &str) -> Result<Self, EndpointError> {
        Self::builder(endpoint).build()
    }

    /// Sets a sink up.
    #[must_use]
    pub fn builder(endpoint: &str) -> HttpSinkBuilder {
        HttpSinkBuilder::new(endpoint)
    }

    /// Sends a body of `items` items until the server answers with success, at most [`max_attempts`](HttpSinkBuilder::max_attempts)
    /// times. Headers: `Content-Type: application/msgpack`, `Content-Encoding: zstd`, `X-Batch-Size`.
    ///
    /// What is tried again: no connection, a lost one, no answer in time, 408, 429, 5xx. Before that it waits by the configured
    /// [`backoff`](HttpSinkBuilder::backoff), and not less than the answer's `Retry-After` within
    /// [`max_retry_after`](HttpSinkBuilder::max_retry_after).
    ///
    /// # Cancellation
    /// A future that is dropped sends nothing more. Whether the attempt under way arrived is not known.
    ///
    /// # Errors
    /// [`PostError`], which says whether the body may have arrived.
    ///
    /// # Panics
    /// Outside of a tokio runtime with time and I/O.
    pub async fn post(&self, body: Bytes, items: usize) -> Result<(), PostError> {
        let (mut attempts, mut outcome) = (0, Outcome::NotApplied);
        loop {
            attempts += 1;
            let Err(Failure { error, retry_after }) = self.attempt(body.clone(), items).await else { return Ok(()) };
            if error.outcome() == Outcome::Unknown {
                outcome = Outcome::Unknown;
            }
            if error.is_permanent() || attempts >= self.settings.max_attempts {
                return Err(PostError { attempts, outcome, last: Arc::new(error), retry_after });
            }
            sleep(self.settings.wait(attempts, retry_after)).await;
        }
    }

    /// The bounds of the waits before retries.
    pub(super) fn waits(&self) -> (Duration, Duration) {
        (self.settings.backoff_base, self.settings.backoff_cap)
    }

    async fn attempt(&self, body: Bytes, items: usize) -> Result<(), Failure> {
        let limit = self.settings.timeout;
        let deadline = Instant::now() + limit;
        let (request, taken) = self.request(body, items);
        let answer = match timeout_at(deadline, self.client.request(request)).await {
            Ok(Ok(answer)) => answer,
            Ok(Err(error)) if error.is_connect() => return Err(AttemptError::Connect(error.into()).into()),
            Ok(Err(error)) => return Err(AttemptError::Lost { cause: error.into(), sent: taken.get() }.into()),
            Err(_) => return Err(AttemptError::TimedOut { limit, sent: taken.get() }.into()),
        };
        let status = answer.status();
        let retry_after = retry_after(&answer).map(|asked| asked.min(self.settings.max_retry_after));
        let mut kept = Vec::new();
        // The status has been said: it counts, whether or not the rest of the answer arrives.
        let _ = timeout_at(deadline, read_to_end(answer.into_body(), &mut kept)).await;
        if status.is_success() {
            return Ok(());
        }
        let text = String::from_utf8_lossy(&kept).into_owned();
        Err(Failure { error: AttemptError::Status { status: status.as_u16(), text }, retry_after })
    }

    fn request(&self, body: Bytes, items: usize) -> (Request<AttemptBody>, Taken) {
        let (body, taken) = AttemptBody::new(body);
        let mut request = Request::new(body);
        *request.method_mut() = Method::POST;
        *request.uri_mut() = self.endpoint.clone();
        *request.headers_mut() = self.headers.clone();
        request.headers_mut().insert(BATCH_SIZE, HeaderValue::from(items));
        (request, taken)
    }
}

impl Client {
    fn request(&self, request: Request<AttemptBody>) -> legacy::ResponseFuture {
        match self {
            Self::Plain(client) => client.request(request),
            #[cfg(feature = "tls")]
            Self::Tls(client) => client.request(request),
        }
    }
}

impl Settings {
    /// Before the retry that follows `attempts` attempts.
    fn wait(&self, attempts: u32, retry_after: Option<Duration>) -> Duration {
        let doubled = self.backoff_base.saturating_mul(1_u32.checked_shl(attempts - 1).unwrap_or(u32::MAX));
        let jittered = doubled.min(self.backoff_cap).mul_f64(fastrand::f64());
        jittered.max(retry_after.unwrap_or_default())
    }
}

/// A failed attempt, and how long the server wants to be left alone.
struct Failure {
    error: AttemptError,
    retry_after: Option<Duration>,
}

impl From<AttemptError> for Failure {
    fn from(error: AttemptError) -> Self {
        Self { error, retry_after: None }
    }
}

fn retry_after(answer: &Response<Incoming>) -> Option<Duration> {
    let value = answer.headers().get(RETRY_AFTER)?;
    parse_retry_after(value.as_bytes(), SystemTime::now())
}

/// Reads an answer to its end, if that is not too far, and keeps its beginning.
async fn read_to_end(mut body: Incoming, kept: &mut Vec<u8>) {
    let mut read = 0;
    while !body.is_end_stream() && read <= READ_OF_ANSWER {
        let Some(Ok(frame)) = body.frame().await else { return };
        let Ok(data) = frame.into_data() else { continue };
        read += data.len();
        kept.extend_from_slice(&data[..data.len().min(KEPT_OF_ANSWER - kept.len())]);
    }
}
