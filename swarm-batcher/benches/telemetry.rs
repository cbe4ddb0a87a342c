//! Telemetry to a real server on this machine, which has a thread of its own. It decodes what it gets; the sum of the ids that it found is
//! the proof.

use std::hint::black_box;
use std::process::ExitCode;
use std::time::{Duration, Instant};

use bytes::Bytes;
use harness::metric::Metric;
use harness::record::{Figure, Source};
use harness::{Bench, BenchError, Suite};
use http_body_util::{BodyExt, Full};
use hyper::header::{CONTENT_TYPE, HeaderValue};
use hyper::{Method, Request};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use local_server::LocalServer;
use swarm_batcher::telemetry::{EncodedItem, Encoder, RequestBatcher, encode_item};
use telemetry_record::{Record, record};
use tokio::runtime::Runtime;

mod local_server;
mod telemetry_record;

/// Items of a flush.
const FLUSH: u64 = 100;
/// Flushes, or bodies, of a round.
const ROUND: u64 = 20;
/// Items of the long run.
const ITEMS: u64 = 5_000;
/// Requests of a round, one an item.
const POSTS: u64 = 1_000;

fn main() -> ExitCode {
    Suite::new()
        .bench("swarm-batcher/encode/100-items", encode)
        .bench("swarm-batcher/flush/100-items", flush)
        .bench("swarm-batcher/telemetry/5000-items", many_items)
        .bench("swarm-batcher/telemetry/1000-sequential-posts", sequential_posts)
        .run()
}

/// Numbers from 1, so that each of them counts in a sum.
fn records(count: u64) -> Vec<Record> {
    (1..=count).map(record).collect()
}

fn sum_of(count: u64) -> u64 {
    count * (count + 1) / 2
}

fn json_bytes(records: &[Record]) -> usize {
    records.iter().map(|record| serde_json::to_vec(record).expect("encodes").len()).sum()
}

fn runtime() -> Runtime {
    tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().expect("a runtime")
}

/// The sum of the ids that arrived since the last call.
fn arrived(server: &LocalServer) -> u64 {
    let seen = server.take();
    assert_eq!(seen.malformed, [""; 0]);
    seen.ids.iter().sum()
}

/// A hundred records become the body of a request.
fn encode(bench: &mut Bench) -> Result<(), BenchError> {
    let records = records(FLUSH);
    let mut encoder = Encoder::new().expect("memory");
    let (mut items, mut bytes) = (Vec::<EncodedItem>::new(), 0);
    let mut body = Bytes::new();
    let rounds = bench.rounds(|| {
        let start = Instant::now();
        for _ in 0..ROUND {
            items.clear();
            items.extend(black_box(&records).iter().map(|record| encode_item(record).expect("encodes")));
            let payload = encoder.encode(&items).expect("encodes");
            bytes += payload.uncompressed as u64;
            body = payload.body;
        }
        (start.elapsed(), ROUND)
    })?;
    let whole = std::collections::BTreeMap::from([("telemetry", &records)]);
    let at_once = rmp_serde::to_vec_named(&whole).expect("encodes");
    assert_eq!(zstd::bulk::decompress(&body, at_once.len()).expect("a whole frame"), at_once);
    bench.note(format!(
        "{} B of JSON, {} B of MessagePack, {} B sent",
        json_bytes(&records),
        at_once.len(),
        body.len()
    ));
    bench.proof(rounds * ROUND * at_once.len() as u64, bytes);
    Ok(())
}

/// A hundred items are added and flushed: encoded, compressed, sent, answered.
fn flush(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, server, records) = (runtime(), LocalServer::start(), records(FLUSH));
    let batcher = RequestBatcher::builder(&server.endpoint()).batch_size(FLUSH as usize).build().expect("an endpoint");
    runtime.block_on(async { batcher.start() });
    let rounds = bench.ops(
        ROUND,
        || (),
        |(), _| {
            runtime.block_on(async {
                for record in &records {
                    batcher.add(record).await.expect("room");
                }
                batcher.flush().await
            })
        },
        |()| arrived(&server),
    )?;
    bench.proof(rounds * ROUND * sum_of(FLUSH), bench.observed());
    Ok(())
}

/// Items by twenties, as the defaults are. From the first add to the last answer.
fn many_items(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, server, records) = (runtime(), LocalServer::start(), records(ITEMS));
    let batcher = RequestBatcher::new(&server.endpoint()).expect("an endpoint");
    runtime.block_on(async { batcher.start() });
    let (mut total, mut sum) = (Duration::ZERO, 0);
    let rounds = bench.rounds(|| {
        let elapsed = runtime.block_on(async {
            let start = Instant::now();
            for record in &records {
                batcher.add(record).await.expect("room");
            }
            batcher.flush().await;
            start.elapsed()
        });
        total += elapsed;
        sum += arrived(&server);
        (elapsed, ITEMS)
    })?;
    let throughput = Figure::exact(Metric::Throughput, (rounds * ITEMS) as f64 / total.as_secs_f64());
    bench.figure(Source::Round, throughput, rounds);
    let stats = batcher.stats();
    let (json, sent) = (json_bytes(&records), stats.body_bytes / rounds);
    let saved = 100.0 - sent as f64 * 100.0 / json as f64;
    let encoded = stats.encoded_bytes / rounds;
    bench.note(format!("{json} B of JSON, {encoded} B of MessagePack, {sent} B sent: {saved:.0} % saved"));
    bench.proof(rounds * sum_of(ITEMS), sum);
    Ok(())
}

/// What the batcher is there to replace: a request an item, in JSON, one after the other, by the same client.
fn sequential_posts(bench: &mut Bench) -> Result<(), BenchError> {
    let (runtime, server, records) = (runtime(), LocalServer::start(), records(POSTS));
    let endpoint: hyper::Uri = server.endpoint().parse().expect("an endpoint");
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    let client: Client<HttpConnector, Full<Bytes>> = Client::builder(TokioExecutor::new()).build(connector);
    let post = async |record: &Record| {
        let mut request = Request::new(Full::from(serde_json::to_vec(record).expect("encodes")));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = endpoint.clone();
        request.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static("application/json"));
        let answer = client.request(request).await.expect("an answer");
        assert!(answer.status().is_success());
        answer.into_body().collect().await.expect("the whole answer");
    };
    let rounds =
        bench.ops(POSTS, || (), |(), item| runtime.block_on(post(&records[item as usize])), |()| arrived(&server))?;
    bench.proof(rounds * sum_of(POSTS), bench.observed());
    Ok(())
}
