//! The HTTP sink against a real server.
#![cfg(feature = "http")]

#[path = "../benches/local_server/mod.rs"]
mod local_server;

use std::net::TcpListener;
use std::time::{Duration, Instant};

use local_server::{Answer, LocalServer};
use serde::Serialize;
use swarm_batcher::Outcome;
use swarm_batcher::telemetry::{
    AttemptError, Encoder, EndpointError, HttpSink, HttpSinkBuilder, Payload, PostError, encode_item,
};

const MILLISECOND: Duration = Duration::from_millis(1);

#[derive(Serialize)]
struct Reading {
    id: u64,
    cpu: f64,
}

fn payload(ids: std::ops::Range<u64>) -> Payload {
    let items: Vec<_> = ids.map(|id| encode_item(&Reading { id, cpu: 0.5 }).expect("encodes")).collect();
    Encoder::new().and_then(|mut encoder| encoder.encode(&items)).expect("encodes")
}

/// A sink whose waits are short, and what else is said.
fn sink_to(endpoint: &str, set: impl FnOnce(HttpSinkBuilder) -> HttpSinkBuilder) -> HttpSink {
    set(HttpSink::builder(endpoint).backoff(MILLISECOND, 2 * MILLISECOND)).build().expect("an endpoint")
}

fn sink_with(server: &LocalServer, set: impl FnOnce(HttpSinkBuilder) -> HttpSinkBuilder) -> HttpSink {
    sink_to(&server.endpoint(), set)
}

fn sink(server: &LocalServer) -> HttpSink {
    sink_with(server, |sink| sink)
}

fn one_attempt(sink: HttpSinkBuilder) -> HttpSinkBuilder {
    sink.max_attempts(1)
}

async fn post(sink: &HttpSink, ids: std::ops::Range<u64>) -> Result<(), PostError> {
    let payload = payload(ids);
    sink.post(payload.body, payload.items).await
}

/// The status that the last attempt was answered with.
fn status(error: &PostError) -> Option<u16> {
    match error.last() {
        AttemptError::Status { status, .. } => Some(*status),
        _ => None,
    }
}

#[tokio::test]
async fn each_item_arrives_once_with_the_headers_of_the_wire() {
    let server = LocalServer::start();
    let sink = sink_with(&server, |sink| sink.header("Authorization", "Bearer x"));
    post(&sink, 0..100).await.expect("accepted");
    let seen = server.seen();
    assert_eq!(seen.malformed, [""; 0]);
    assert_eq!((seen.requests, seen.items), (1, 100));
    assert_eq!(seen.ids, (0..100).collect::<Vec<_>>());
    let length = seen.body_bytes.to_string();
    for (name, value) in [
        ("content-type", "application/msgpack"),
        ("content-encoding", "zstd"),
        ("x-batch-size", "100"),
        ("content-length", &length),
        ("host", &server.address().to_string()),
        ("authorization", "Bearer x"),
    ] {
        let values: Vec<_> = seen.headers.iter().filter(|(n, _)| n == name).map(|(_, v)| v.as_str()).collect();
        assert_eq!(values, [value], "{name}");
    }
}

#[tokio::test]
async fn requests_one_after_another_share_a_connection_whatever_the_answer() {
    let server = LocalServer::start();
    let text = "x".repeat(10_000);
    server.script([Answer::Accept, Answer::Refuse(500, None, text.clone()), Answer::Refuse(400, None, text)]);
    let sink = sink(&server);
    post(&sink, 0..1).await.expect("accepted");
    let error = post(&sink, 1..2).await.expect_err("refused for good after one retry");
    assert_eq!((status(&error), error.attempts()), (Some(400), 2));
    post(&sink.clone(), 2..3).await.expect("accepted");
    let seen = server.seen();
    assert_eq!((seen.connections, seen.requests, seen.ids), (1, 4, vec![0, 2]));
}

#[tokio::test]
async fn requests_at_the_same_time_have_connections_of_their_own() {
    let server = LocalServer::start();
    let sink = sink(&server);
    let posts = (0..8).map(|n| post(&sink, n * 10..n * 10 + 10));
    for result in futures::future::join_all(posts).await {
        result.expect("accepted");
    }
    let mut seen = server.seen();
    seen.ids.sort_unstable();
    assert_eq!(seen.ids, (0..80).collect::<Vec<_>>());
    assert!(seen.connections <= 8, "{}", seen.connections);
}

#[tokio::test]
async fn server_errors_408_and_429_are_tried_again_until_one_is_accepted() {
    let server = LocalServer::start();
    server.script([500, 429, 503, 408].map(Answer::status));
    post(&sink(&server), 0..3).await.expect("the fifth attempt is accepted");
    let seen = server.seen();
    assert_eq!((seen.requests, seen.ids), (5, vec![0, 1, 2]));
}

#[tokio::test]
async fn five_attempts_are_made_and_no_more() {
    let server = LocalServer::start();
    server.script(vec![Answer::status(429); 9]);
    let error = post(&sink(&server), 0..1).await.expect_err("never accepted");
    assert_eq!((error.attempts(), status(&error), error.outcome()), (5, Some(429), Outcome::NotApplied));
    assert_eq!(error.retry_after(), None);
    assert_eq!(server.seen().requests, 5);
}

#[tokio::test]
async fn another_4xx_is_final_and_its_text_is_told() {
    let server = LocalServer::start();
    server.script([Answer::Refuse(422, None, format!("no such tenant\n{}", "x".repeat(300)))]);
    let error = post(&sink(&server), 0..1).await.expect_err("refused");
    assert_eq!((error.attempts(), error.outcome(), error.last().is_permanent()), (1, Outcome::NotApplied, true));
    let AttemptError::Status { status: 422, text } = error.last() else { panic!("{error:?}") };
    assert!(text.starts_with("no such tenant\nxxx") && text.len() == 200, "{text}");
    assert!(
        error.to_string().starts_with("given up after 1 attempts: answered with status 422: \"no such tenant\\nxxx")
    );
    assert_eq!(server.seen().requests, 1);
}

#[tokio::test]
async fn a_redirection_is_not_followed() {
    let server = LocalServer::start();
    server.script([Answer::Refuse(307, Some(("location", server.endpoint())), String::new())]);
    let error = post(&sink(&server), 0..1).await.expect_err("not followed");
    assert_eq!((error.attempts(), status(&error), error.outcome()), (1, Some(307), Outcome::NotApplied));
    assert_eq!(server.seen().requests, 1);
}

#[tokio::test]
async fn retry_after_in_seconds_is_waited_for() {
    let server = LocalServer::start();
    server.script([Answer::retry_after(503, "1")]);
    let begun = Instant::now();
    post(&sink(&server), 0..1).await.expect("the second attempt is accepted");
    assert!(begun.elapsed() >= Duration::from_secs(1), "{:?}", begun.elapsed());
}

#[tokio::test]
async fn retry_after_is_followed_up_to_the_configured_limit() {
    let server = LocalServer::start();
    let later = httpdate::fmt_http_date(std::time::SystemTime::now() + Duration::from_secs(3600));
    server.script([Answer::retry_after(429, "3600"), Answer::retry_after(429, later)]);
    let sink = sink_with(&server, |sink| sink.max_retry_after(50 * MILLISECOND));
    let begun = Instant::now();
    post(&sink, 0..1).await.expect("the third attempt is accepted");
    let waited = begun.elapsed();
    assert!(waited >= 100 * MILLISECOND && waited < Duration::from_secs(60), "{waited:?}");
}

#[tokio::test]
async fn what_the_last_answer_asked_for_is_told_up_to_the_configured_limit() {
    let server = LocalServer::start();
    server.script([Answer::retry_after(429, "2"), Answer::retry_after(503, "7200"), Answer::status(503)]);
    let sink = sink_with(&server, one_attempt);
    for asked in [Some(2), Some(60), None] {
        let error = post(&sink, 0..1).await.expect_err("refused");
        assert_eq!(error.retry_after(), asked.map(Duration::from_secs));
    }
}

#[tokio::test]
async fn retry_after_that_has_passed_or_is_no_time_does_not_delay() {
    let server = LocalServer::start();
    let passed = "Sun, 06 Nov 1994 08:49:37 GMT";
    server.script([Answer::retry_after(429, passed), Answer::retry_after(429, "soon")]);
    post(&sink(&server), 0..1).await.expect("the third attempt is accepted");
    assert_eq!(server.seen().requests, 3);
}

#[tokio::test]
async fn a_connection_closed_without_an_answer_is_tried_again() {
    let server = LocalServer::start();
    server.script([Answer::Close, Answer::Close]);
    post(&sink(&server), 0..3).await.expect("the third attempt is accepted");
    let seen = server.seen();
    assert_eq!((seen.requests, seen.ids), (3, vec![0, 1, 2]));
}

#[tokio::test]
async fn a_connection_lost_after_sending_leaves_the_outcome_unknown_whatever_comes_after() {
    let server = LocalServer::start();
    server.script([Answer::TakeAndClose, Answer::status(400)]);
    let error = post(&sink(&server), 7..8).await.expect_err("refused in the end");
    assert_eq!((error.last().outcome(), error.outcome()), (Outcome::NotApplied, Outcome::Unknown));
    assert_eq!(server.seen().ids, [7], "the first attempt was taken");
}

#[tokio::test]
async fn a_server_error_leaves_the_outcome_unknown() {
    let server = LocalServer::start();
    server.script([Answer::status(500)]);
    let sink = sink_with(&server, one_attempt);
    let error = post(&sink, 0..1).await.expect_err("refused");
    assert_eq!((error.attempts(), error.outcome()), (1, Outcome::Unknown));
}

#[tokio::test]
async fn a_server_that_never_answers_times_out_with_the_outcome_unknown() {
    let server = LocalServer::start();
    server.script([Answer::Hang]);
    let limit = 100 * MILLISECOND;
    let sink = sink_with(&server, |sink| sink.timeout(limit).max_attempts(1));
    let error = post(&sink, 0..1).await.expect_err("timed out");
    assert!(matches!(error.last(), AttemptError::TimedOut { sent: true, limit: l } if *l == limit), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Unknown);
    assert_eq!(error.to_string(), "given up after 1 attempts: no answer within 100ms");
    post(&sink, 1..2).await.expect("the next request is accepted");
}

#[tokio::test]
async fn a_refused_connection_is_tried_again_and_was_not_applied() {
    let free = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a free port");
    let sink = sink_to(&format!("http://{free}/telemetry"), |sink| sink.max_attempts(3));
    let error = post(&sink, 0..1).await.expect_err("nobody listens");
    assert!(matches!(error.last(), AttemptError::Connect(_)), "{error:?}");
    assert_eq!((error.attempts(), error.outcome()), (3, Outcome::NotApplied));
    assert!(error.to_string().contains("refused"), "{error}");
}

#[tokio::test]
async fn an_answer_that_is_no_http_leaves_the_outcome_unknown() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let sink = sink_to(&endpoint, one_attempt);
    let answering = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(b"SSH-2.0-OpenSSH_9\r\n\r\n").await.expect("written");
        stream
    };
    let (result, _stream) = tokio::join!(post(&sink, 0..1), answering);
    let error = result.expect_err("no HTTP");
    assert!(matches!(error.last(), AttemptError::Lost { sent: true, .. }), "{error:?}");
    assert_eq!(error.outcome(), Outcome::Unknown);
}

#[tokio::test]
async fn success_counts_although_the_rest_of_the_answer_never_arrives() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a free port");
    let endpoint = format!("http://{}", listener.local_addr().expect("an address"));
    let sink = sink_to(&endpoint, |sink| sink.timeout(200 * MILLISECOND));
    let answering = async {
        use tokio::io::{AsyncReadExt, AsyncWriteExt};
        let (mut stream, _) = listener.accept().await.expect("a connection");
        let _ = stream.read(&mut [0; 1024]).await;
        stream.write_all(b"HTTP/1.1 202 Accepted\r\ncontent-length: 10\r\n\r\nhal").await.expect("written");
        stream
    };
    let (result, _stream) = tokio::join!(post(&sink, 0..1), answering);
    result.expect("the status says so");
}

#[tokio::test]
async fn a_dropped_post_sends_nothing_more() {
    let server = LocalServer::start();
    server.script(vec![Answer::status(500); 1000]);
    let sink = sink_with(&server, |sink| sink.max_attempts(100));
    let posting = tokio::spawn(async move { post(&sink, 0..1).await });
    while server.seen().requests < 3 {
        tokio::time::sleep(MILLISECOND).await;
    }
    posting.abort();
    assert!(posting.await.is_err_and(|error| error.is_cancelled()));
    // The attempt under way may still arrive.
    tokio::time::sleep(20 * MILLISECOND).await;
    let requests = server.seen().requests;
    assert!(requests < 100);
    tokio::time::sleep(50 * MILLISECOND).await;
    assert_eq!(server.seen().requests, requests);
}

#[tokio::test]
async fn a_panic_of_the_server_fails_whoever_uses_it() {
    let server = LocalServer::start();
    server.script([Answer::retry_after(429, "no\nheader")]);
    let error = post(&sink_with(&server, one_attempt), 0..1).await.expect_err("no answer");
    assert!(matches!(error.last(), AttemptError::Lost { .. }), "{error:?}");
    let dropped = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| drop(server)));
    let message = dropped.expect_err("the panic is passed on");
    let message = message.downcast_ref::<String>().expect("a message");
    assert!(message.starts_with("a value of a header"), "{message}");
}

#[test]
fn endpoints_that_cannot_be_reached_are_refused_when_the_sink_is_built() {
    for endpoint in ["", "/telemetry", "localhost:80", "http://", "http://:80/", "http://h:99999/", "http://h:/", "a b"]
    {
        let error = HttpSink::new(endpoint).expect_err(endpoint);
        assert!(matches!(error, EndpointError::Invalid { .. }), "{endpoint}: {error:?}");
    }
    let error = HttpSink::new("ftp://host/x").expect_err("no HTTP");
    assert!(matches!(error, EndpointError::UnsupportedScheme { scheme, .. } if scheme == "ftp"));
    let error = HttpSink::new("http://user:secret@host/").expect_err("credentials");
    assert!(matches!(error, EndpointError::Credentials));
    assert!(!error.to_string().contains("secret"));
    for endpoint in ["http://host", "HTTP://host/", "http://127.0.0.1:8080/a?b=c", "http://[::1]:80/x@y"] {
        HttpSink::new(endpoint).unwrap_or_else(|error| panic!("{endpoint}: {error}"));
    }
}

#[test]
fn settings_out_of_range_are_refused_when_the_sink_is_built() {
    let builder = || HttpSink::builder("http://host");
    let hours = Duration::from_secs(7200);
    for refused in [
        builder().timeout(Duration::ZERO),
        builder().timeout(hours),
        builder().max_attempts(0),
        builder().max_attempts(101),
        builder().backoff(2 * MILLISECOND, MILLISECOND),
        builder().backoff(hours, hours),
        builder().max_retry_after(hours),
    ] {
        let described = format!("{refused:?}");
        assert!(matches!(refused.build(), Err(EndpointError::Setting(_))), "{described}");
    }
}

#[test]
fn headers_that_cannot_be_sent_or_are_the_sinks_own_are_refused_and_values_stay_secret() {
    for (name, value) in [("a b", "c"), ("x", "a\nb"), ("Content-Type", "text/plain"), ("X-Batch-Size", "1")] {
        let error = HttpSink::builder("http://host").header(name, value).build().expect_err(name);
        assert!(matches!(error, EndpointError::Header { .. }), "{error:?}");
    }
    let builder = HttpSink::builder("http://host").header("authorization", "Bearer secret");
    let shown = format!("{builder:?}");
    let sink = builder.build().expect("an endpoint");
    assert!(!format!("{shown}{sink:?}").contains("secret"));
}

#[cfg(not(feature = "tls"))]
#[test]
fn https_without_the_feature_is_refused_when_the_sink_is_built() {
    let error = HttpSink::new("https://host/").expect_err("no TLS");
    assert!(matches!(error, EndpointError::TlsNotCompiledIn { .. }), "{error:?}");
}

#[test]
fn the_parts_are_send_and_sync() {
    fn check<T: Send + Sync>(_: &T) {}
    fn check_send<T: Send>(_: &T) {}
    let sink = HttpSink::new("http://host").expect("an endpoint");
    check(&sink);
    check_send(&sink.post(bytes::Bytes::new(), 0));
}

#[cfg(feature = "tls")]
mod tls {
    use std::sync::Arc;

    use rustls::ServerConfig;
    use rustls::crypto::ring::default_provider;
    use rustls::pki_types::PrivateKeyDer;

    use super::*;

    /// A server and the certificate it shows, signed by itself.
    fn server() -> (LocalServer, Vec<u8>) {
        let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
        let config = ServerConfig::builder_with_provider(Arc::new(default_provider()))
            .with_safe_default_protocol_versions()
            .expect("versions")
            .with_no_client_auth()
            .with_single_cert(vec![signed.cert.der().clone()], key)
            .expect("a configuration");
        (LocalServer::start_tls(config), signed.cert.der().to_vec())
    }

    #[tokio::test]
    async fn a_trusted_server_gets_the_items_over_one_connection() {
        let (server, certificate) = server();
        let sink = sink_with(&server, |sink| sink.root_certificate(certificate));
        post(&sink, 0..10).await.expect("accepted");
        post(&sink, 10..20).await.expect("accepted");
        let seen = server.seen();
        assert_eq!((seen.connections, seen.ids), (1, (0..20).collect()));
    }

    #[tokio::test]
    async fn a_server_that_is_not_trusted_gets_nothing() {
        let ((server, _), (_, other)) = (server(), server());
        let sink = sink_with(&server, |sink| sink.root_certificate(other).max_attempts(2));
        let error = post(&sink, 0..1).await.expect_err("not trusted");
        assert!(matches!(error.last(), AttemptError::Connect(_)), "{error:?}");
        assert_eq!((error.outcome(), server.seen().requests), (Outcome::NotApplied, 0));
        assert!(error.to_string().contains("certificate"), "{error}");
    }

    #[tokio::test]
    async fn a_server_that_does_not_shake_hands_times_out_and_was_not_applied() {
        let silent = TcpListener::bind("127.0.0.1:0").expect("a free port");
        let endpoint = format!("https://{}/", silent.local_addr().expect("an address"));
        let (_, certificate) = server();
        let sink =
            sink_to(&endpoint, |sink| sink.root_certificate(certificate).timeout(50 * MILLISECOND).max_attempts(2));
        let error = post(&sink, 0..1).await.expect_err("timed out");
        assert!(matches!(error.last(), AttemptError::TimedOut { sent: false, .. }), "{error:?}");
        assert_eq!((error.attempts(), error.outcome()), (2, Outcome::NotApplied));
    }

    #[test]
    fn what_is_no_certificate_is_refused_when_the_sink_is_built() {
        let error = HttpSink::builder("https://host").root_certificate(*b"none").build().expect_err("no certificate");
        assert!(matches!(error, EndpointError::Tls(_)), "{error:?}");
    }
}
