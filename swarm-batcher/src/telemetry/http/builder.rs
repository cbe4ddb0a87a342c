//! How a sink is set up.

use std::time::Duration;

use hyper::Uri;
use hyper::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HeaderMap, HeaderName, HeaderValue, TRANSFER_ENCODING,
};
use hyper_util::client::legacy;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};

use super::{BATCH_SIZE, Client, EndpointError, HttpSink, MESSAGE_PACK, Settings, ZSTD};

/// Sets up an [`HttpSink`]. What is out of range is an error of [`build`](Self::build).
#[derive(Debug)]
pub struct HttpSinkBuilder {
    endpoint: String,
    settings: Settings,
    idle_connections: usize,
    headers: Vec<(String, HeaderValueOf)>,
    #[cfg(feature = "tls")]
    roots: Vec<Vec<u8>>,
}

/// A header's value, which may be a secret.
struct HeaderValueOf(String);

impl std::fmt::Debug for HeaderValueOf {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("…")
    }
}

const AN_HOUR: Duration = Duration::from_secs(3600);
/// A connection that nobody used for so long is closed: most servers and balancers close theirs after 60 s or more.
const IDLE_TIMEOUT: Duration = Duration::from_secs(30);

impl HttpSinkBuilder {
    pub(super) fn new(endpoint: &str) -> Self {
        Self {
            endpoint: endpoint.to_owned(),
            settings: Settings::default(),
            idle_connections: 20,
            headers: Vec::new(),
            #[cfg(feature = "tls")]
            roots: Vec::new(),
        }
    }

    /// How long one attempt may take, from the search for a connection to the end of the answer: more than zero, at most an hour.
    /// Default 5 s.
    #[must_use]
    pub fn timeout(mut self, limit: Duration) -> Self {
        self.settings.timeout = limit;
        self
    }

    /// How often a request is sent at most, from 1 to 100. Default 5.
    #[must_use]
    pub fn max_attempts(mut self, attempts: u32) -> Self {
        self.settings.max_attempts = attempts;
        self
    }

    /// The wait before the n-th retry is drawn from zero to `base · 2^(n-1)`, at most `cap` ("full jitter": M. Brooker, Exponential
    /// Backoff And Jitter, AWS Architecture Blog, 2015). `base` at most `cap`, `cap` at most an hour; zero retries at once. Default
    /// 1 s and 10 s.
    #[must_use]
    pub fn backoff(mut self, base: Duration, cap: Duration) -> Self {
        (self.settings.backoff_base, self.settings.backoff_cap) = (base, cap);
        self
    }

    /// The longest wait that a server's `Retry-After` is followed for, at most an hour; one that asks for more is asked again after
    /// this time. Zero ignores the header. Default 60 s.
    #[must_use]
    pub fn max_retry_after(mut self, limit: Duration) -> Self {
        self.settings.max_retry_after = limit;
        self
    }

    /// How many unused connections are kept for later requests, for 30 s each. Zero opens one a request. Default 20. Connections in
    /// use are as many as requests under way.
    #[must_use]
    pub fn idle_connections(mut self, connections: usize) -> Self {
        self.idle_connections = connections;
        self
    }

    /// Sends this header too, say `authorization`. Its value is shown in no debug output. The headers that describe the body are the
    /// sink's own.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Self {
        self.headers.push((name.into(), HeaderValueOf(value.into())));
        self
    }

    /// Trusts servers by this certificate, and others given so, instead of the system's. `der` is one X.509 certificate in DER.
    #[cfg(feature = "tls")]
    #[must_use]
    pub fn root_certificate(mut self, der: impl Into<Vec<u8>>) -> Self {
        self.roots.push(der.into());
        self
    }

    /// The sink. It connects with its first request. For an `https` endpoint the system's root certificates are read, some milliseconds,
    /// unless others were given.
    ///
    /// # Errors
    /// [`EndpointError`]: the endpoint is no URL of a supported scheme, a setting is out of range, a header cannot be sent, there
    /// are no root certificates.
    pub fn build(self) -> Result<HttpSink, EndpointError> {
        self.settings.check()?;
        let endpoint = parse(&self.endpoint)?;
        let headers = self.headers()?;
        let client = if endpoint.scheme() == Some(&hyper::http::uri::Scheme::HTTPS) {
            self.tls_client()?
        } else {
            Client::Plain(self.pool().build(tcp()))
        };
        Ok(HttpSink { client, endpoint, headers, settings: self.settings })
    }

    fn headers(&self) -> Result<HeaderMap, EndpointError> {
        let mut headers = HeaderMap::new();
        for (name, HeaderValueOf(value)) in &self.headers {
            let refused = |reason| EndpointError::Header { name: name.clone(), reason };
            let name = HeaderName::try_from(name).map_err(|_| refused("no name of a header"))?;
            let mut value = HeaderValue::try_from(value).map_err(|_| refused("its value cannot be sent"))?;
            if [CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, TRANSFER_ENCODING, BATCH_SIZE].contains(&name) {
                return Err(refused("the sink sets it"));
            }
            value.set_sensitive(true);
            headers.append(name, value);
        }
        headers.insert(CONTENT_TYPE, MESSAGE_PACK);
        headers.insert(CONTENT_ENCODING, ZSTD);
        Ok(headers)
    }

    fn pool(&self) -> legacy::Builder {
        let mut builder = legacy::Client::builder(TokioExecutor::new());
        // Without a timer, connections that were once needed would stay until the server closes them.
        builder.pool_timer(TokioTimer::new()).pool_idle_timeout(IDLE_TIMEOUT);
        builder.pool_max_idle_per_host(self.idle_connections);
        builder
    }

    #[cfg(feature = "tls")]
    fn tls_client(&self) -> Result<Client, EndpointError> {
        let mut tcp = tcp();
        tcp.enforce_http(false);
        let config = super::tls::config(&self.roots)?;
        let connector = hyper_rustls::HttpsConnectorBuilder::new()
            .with_tls_config(config)
            .https_only()
            .enable_http1()
            .wrap_connector(tcp);
        Ok(Client::Tls(self.pool().build(connector)))
    }

    #[cfg(not(feature = "tls"))]
    fn tls_client(&self) -> Result<Client, EndpointError> {
        Err(EndpointError::TlsNotCompiledIn { endpoint: self.endpoint.clone() })
    }
}

/// Without a wait for more bytes to send: a request is written at once.
fn tcp() -> HttpConnector {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector
}

impl Settings {
    fn check(&self) -> Result<(), EndpointError> {
        let problem = if self.timeout.is_zero() || self.timeout > AN_HOUR {
            "timeout: more than zero, at most an hour"
        } else if !(1..=100).contains(&self.max_attempts) {
            "max_attempts: from 1 to 100"
        } else if self.backoff_base > self.backoff_cap || self.backoff_cap > AN_HOUR {
            "backoff: base at most cap, cap at most an hour"
        } else if self.max_retry_after > AN_HOUR {
            "max_retry_after: at most an hour"
        } else {
            return Ok(());
        };
        Err(EndpointError::Setting(problem))
    }
}

fn parse(endpoint: &str) -> Result<Uri, EndpointError> {
    // Looked for in the text, because an error that shows the endpoint would show them.
    let authority = endpoint.split_once("//").map_or("", |(_, rest)| rest.split(['/', '?', '#']).next().unwrap_or(""));
    if authority.contains('@') {
        return Err(EndpointError::Credentials);
    }
    let invalid = |reason: &str| EndpointError::Invalid { endpoint: endpoint.to_owned(), reason: reason.to_owned() };
    let uri: Uri = endpoint.parse().map_err(|error: hyper::http::uri::InvalidUri| invalid(&error.to_string()))?;
    let scheme = uri.scheme_str().ok_or_else(|| invalid("it has no scheme"))?;
    if !["http", "https"].contains(&scheme) {
        return Err(EndpointError::UnsupportedScheme { endpoint: endpoint.to_owned(), scheme: scheme.to_owned() });
    }
    let host = uri.host().unwrap_or("");
    if host.is_empty() {
        return Err(invalid("it has no host"));
    }
    // A port that is no port would silently be the scheme's own.
    if authority.len() > host.len() && uri.port_u16().is_none() {
        return Err(invalid("its port is no number from 0 to 65535"));
    }
    Ok(uri)
}
