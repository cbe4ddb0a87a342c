//! A real HTTP/1.1 server for telemetry on 127.0.0.1, on a thread of its own: it decodes what it gets and remembers what was in it.
//!
//! Connections are kept alive, each is one task, and a request costs no other. Included by tests, benches and examples by `#[path]`.
#![allow(dead_code, reason = "each includer uses a part")]

use std::collections::VecDeque;
use std::convert::Infallible;
use std::future::pending;
use std::io;
use std::net::SocketAddr;
use std::panic::resume_unwind;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::thread::{self, JoinHandle};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::header::{HeaderName, HeaderValue};
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::TokioIo;
use serde::Deserialize;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::oneshot;
use tokio::task::{JoinError, JoinSet};

/// What the server does with a request that it has read.
#[derive(Clone, Debug)]
pub(crate) enum Answer {
    /// Takes the items and answers 200.
    Accept,
    /// The same, after this time.
    AcceptAfter(Duration),
    /// Answers with this status, header and text. The items are not taken.
    Refuse(u16, Option<(&'static str, String)>, String),
    /// Takes the items, and closes the connection without an answer.
    TakeAndClose,
    /// Closes the connection without an answer.
    Close,
    /// Never answers.
    Hang,
}

impl Answer {
    pub(crate) fn status(status: u16) -> Self {
        Self::Refuse(status, None, String::new())
    }

    pub(crate) fn retry_after(status: u16, value: impl Into<String>) -> Self {
        Self::Refuse(status, Some(("retry-after", value.into())), String::new())
    }
}

/// What the server has seen.
#[derive(Clone, Debug, Default)]
pub(crate) struct Seen {
    /// Connections that were opened.
    pub(crate) connections: u64,
    /// Requests that were read to their end, whatever the answer.
    pub(crate) requests: u64,
    /// Bytes of their bodies.
    pub(crate) body_bytes: u64,
    /// Requests that were not what a receiver of telemetry understands; they were answered with 400.
    pub(crate) malformed: Vec<String>,
    /// Items that were taken.
    pub(crate) items: u64,
    /// The `id` of each item that was taken, in the order of arrival.
    pub(crate) ids: Vec<u64>,
    /// The headers of the last request.
    pub(crate) headers: Vec<(String, String)>,
}

#[derive(Default)]
struct State {
    seen: Seen,
    script: VecDeque<Answer>,
}

impl State {
    fn next_answer(&mut self) -> Answer {
        self.seen.requests += 1;
        self.script.pop_front().unwrap_or(Answer::Accept)
    }
}

type Shared = Arc<Mutex<State>>;

fn lock(state: &Shared) -> MutexGuard<'_, State> {
    state.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Runs until it is dropped, which panics if the server did.
pub(crate) struct LocalServer {
    address: SocketAddr,
    scheme: &'static str,
    state: Shared,
    stop: Option<oneshot::Sender<()>>,
    thread: Option<JoinHandle<()>>,
}

impl LocalServer {
    pub(crate) fn start() -> Self {
        Self::serve("http", |stream| async { Ok(stream) })
    }

    /// The same behind TLS, with this configuration.
    #[cfg(feature = "tls")]
    pub(crate) fn start_tls(config: rustls::ServerConfig) -> Self {
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(config));
        Self::serve("https", move |stream| acceptor.accept(stream))
    }

    /// `secure` makes of a connection what is read from and written to.
    fn serve<S, F>(scheme: &'static str, secure: impl Fn(TcpStream) -> F + Send + 'static) -> Self
    where
        F: Future<Output = io::Result<S>> + Send + 'static,
        S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + Send + 'static,
    {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a free port");
        listener.set_nonblocking(true).expect("a socket that does not block");
        let address = listener.local_addr().expect("an address");
        let (state, (stop, mut stopped)) = (Shared::default(), oneshot::channel());
        let shared = Arc::clone(&state);
        let thread = thread::spawn(move || {
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
            runtime.block_on(async move {
                let listener = TcpListener::from_std(listener).expect("a listener");
                let mut connections = JoinSet::new();
                loop {
                    tokio::select! {
                        accepted = listener.accept() => {
                            let (stream, _) = accepted.expect("a connection");
                            lock(&shared).seen.connections += 1;
                            let (securing, state) = (secure(stream), Arc::clone(&shared));
                            connections.spawn(async move {
                                if let Ok(stream) = securing.await {
                                    connection(stream, state).await;
                                }
                            });
                        }
                        Some(ended) = connections.join_next() => well(ended),
                        _ = &mut stopped => break,
                    }
                }
                while let Some(ended) = connections.try_join_next() {
                    well(ended);
                }
            });
        });
        Self { address, scheme, state, stop: Some(stop), thread: Some(thread) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("{}://{}/telemetry", self.scheme, self.address)
    }

    pub(crate) fn address(&self) -> SocketAddr {
        self.address
    }

    /// What the next requests get, in this order. Later ones are accepted.
    pub(crate) fn script(&self, answers: impl IntoIterator<Item = Answer>) {
        lock(&self.state).script.extend(answers);
    }

    pub(crate) fn seen(&self) -> Seen {
        lock(&self.state).seen.clone()
    }

    /// What was seen since the last call.
    pub(crate) fn take(&self) -> Seen {
        std::mem::take(&mut lock(&self.state).seen)
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        self.stop.take();
        let ended = self.thread.take().map(JoinHandle::join);
        // Whoever uses a server that panicked has failed; a second panic would hide why.
        if let Some(Err(payload)) = ended
            && !thread::panicking()
        {
            resume_unwind(payload);
        }
    }
}

/// A connection's panic is the server's.
fn well(ended: Result<(), JoinError>) {
    if let Err(error) = ended
        && error.is_panic()
    {
        resume_unwind(error.into_panic());
    }
}

async fn connection<S>(stream: S, state: Shared)
where
    S: tokio::io::AsyncRead + tokio::io::AsyncWrite + Unpin + 'static,
{
    let decoder = Mutex::new(Decoder::default());
    let service = service_fn(|request| answer(request, &state, &decoder));
    // A client that goes away, or an answer that closes the connection, is no error of the server.
    let _ = hyper::server::conn::http1::Builder::new().serve_connection(TokioIo::new(stream), service).await;
}

/// Closes the connection: hyper does so when a service fails.
#[derive(Debug)]
struct Closed;

impl std::fmt::Display for Closed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("closed without an answer")
    }
}

impl std::error::Error for Closed {}

impl From<Infallible> for Closed {
    fn from(never: Infallible) -> Self {
        match never {}
    }
}

async fn answer(
    request: Request<Incoming>,
    state: &Shared,
    decoder: &Mutex<Decoder>,
) -> Result<Response<Full<Bytes>>, Closed> {
    let (parts, body) = request.into_parts();
    let body = body.collect().await.map_err(|_| Closed)?.to_bytes();
    let ids = decoder.lock().unwrap_or_else(PoisonError::into_inner).decode(&parts, &body);
    let mut answer = lock(state).next_answer();
    if let Answer::AcceptAfter(wait) = answer {
        tokio::time::sleep(wait).await;
        answer = Answer::Accept;
    }
    let answer = {
        let seen = &mut lock(state).seen;
        seen.body_bytes += body.len() as u64;
        let headers = parts.headers.iter();
        seen.headers =
            headers.map(|(name, value)| (name.to_string(), String::from_utf8_lossy(value.as_bytes()).into())).collect();
        match ids {
            Err(problem) => {
                seen.malformed.push(problem);
                Answer::status(400)
            }
            Ok(ids) => {
                if matches!(answer, Answer::Accept | Answer::TakeAndClose) {
                    seen.items += ids.len() as u64;
                    seen.ids.extend(ids);
                }
                answer
            }
        }
    };
    match answer {
        Answer::Accept | Answer::AcceptAfter(_) => Ok(Response::new(Full::default())),
        Answer::Refuse(status, header, text) => {
            let mut response = Response::new(Full::from(text));
            *response.status_mut() = StatusCode::from_u16(status).expect("a status");
            if let Some((name, value)) = header {
                let value = HeaderValue::try_from(value).expect("a value of a header");
                response.headers_mut().insert(HeaderName::from_static(name), value);
            }
            Ok(response)
        }
        Answer::TakeAndClose | Answer::Close => Err(Closed),
        Answer::Hang => pending().await,
    }
}

#[derive(Deserialize)]
struct Telemetry {
    telemetry: Vec<Numbered>,
}

#[derive(Deserialize)]
struct Numbered {
    id: u64,
}

#[derive(Default)]
struct Decoder {
    zstd: zstd::bulk::Decompressor<'static>,
    content: Vec<u8>,
}

impl Decoder {
    /// The ids of a request's items, decoded in one shot as the strictest receiver does. One item may also come as plain JSON.
    fn decode(&mut self, parts: &hyper::http::request::Parts, body: &[u8]) -> Result<Vec<u64>, String> {
        let header = |name| parts.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or("");
        if (&parts.method, parts.uri.path()) != (&Method::POST, "/telemetry") {
            return Err(format!("{} {}", parts.method, parts.uri));
        }
        if (header("content-type"), header("content-encoding")) == ("application/json", "") {
            let item: Numbered = serde_json::from_slice(body).map_err(|error| error.to_string())?;
            return Ok(vec![item.id]);
        }
        if (header("content-type"), header("content-encoding")) != ("application/msgpack", "zstd") {
            return Err(format!("{:?}", parts.headers));
        }
        let size = zstd::zstd_safe::get_frame_content_size(body).map_err(|error| format!("{error:?}"))?;
        let size = size.ok_or("the frame does not state its size")?;
        self.content.clear();
        self.content.reserve(usize::try_from(size).map_err(|error| error.to_string())?);
        self.zstd.decompress_to_buffer(body, &mut self.content).map_err(|error| error.to_string())?;
        let read: Telemetry = rmp_serde::from_slice(&self.content).map_err(|error| error.to_string())?;
        if header("x-batch-size") != read.telemetry.len().to_string() {
            return Err(format!("{} items, announced {}", read.telemetry.len(), header("x-batch-size")));
        }
        Ok(read.telemetry.into_iter().map(|item| item.id).collect())
    }
}
