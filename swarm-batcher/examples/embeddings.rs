//! A model that embeds texts: it takes so many tokens at once, costs by the call, and is often asked for the same text.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::error::Error;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use swarm_batcher::{Batcher, BatcherBuilder, CallOptions, from_fn};
use tokio::task::JoinSet;

type Text = Arc<str>;
type Embedding = Arc<[f32]>;

/// A stand-in for the number of tokens that the model counts.
fn tokens(text: &Text) -> u32 {
    text.split_whitespace().count() as u32 + 2
}

/// Stands for the model: it is slow to start and quick to go on.
async fn embed(texts: Vec<Text>) -> Result<Vec<Embedding>, String> {
    tokio::time::sleep(Duration::from_micros(500 + 20 * texts.len() as u64)).await;
    Ok(texts.iter().map(|text| text.bytes().map(|byte| f32::from(byte) / 255.0).collect()).collect())
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn Error>> {
    let (calls, embedded) = (Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
    let (calling, embedding) = (Arc::clone(&calls), Arc::clone(&embedded));
    let handler = from_fn(move |texts: Vec<Text>| {
        calling.fetch_add(1, Ordering::Relaxed);
        embedding.fetch_add(texts.len() as u64, Ordering::Relaxed);
        embed(texts)
    });
    let builder: BatcherBuilder<Text, Embedding, String> = Batcher::builder(handler);
    let embeddings = builder
        .max_batch_items(64)
        .max_batch_weight(512, tokens)
        .max_in_flight(2)
        .coalesce_by(Text::clone)
        .priority_levels(2)
        .default_deadline(Duration::from_secs(5))
        .build()?;

    let mut tasks = JoinSet::new();
    for number in 0..2_000 {
        let embeddings = embeddings.clone();
        tasks.spawn(async move {
            // Some texts are asked for by many, and people come before the nightly index.
            let text: Text = format!("what is the answer to question {}", number % 300).into();
            let options = CallOptions::new().level(u8::from(number % 10 == 0));
            let embedding = embeddings.with(options).call(Text::clone(&text)).await;
            embedding.map(|embedding| assert_eq!(embedding.len(), text.len()))
        });
    }
    for outcome in tasks.join_all().await {
        outcome?;
    }
    let (calls, embedded) = (calls.load(Ordering::Relaxed), embedded.load(Ordering::Relaxed));
    println!("2000 requests, {embedded} texts embedded, {calls} calls of the model");
    assert!(embedded < 2_000 && calls < 200);
    Ok(())
}
