//! One connection: bytes read, held back as the toxics say, and written.

use std::collections::HashMap;
use std::sync::atomic::Ordering;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use fastrand::Rng;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::{TcpStream, UnixStream};
use tokio::sync::{mpsc, watch};
use tokio::time::{Instant, sleep, sleep_until};

use super::{Counters, Direction, Orders, Route, Toxic, ToxicId, Upstream};

/// Bytes that are read at once.
const PIECE: usize = 64 * 1024;

/// Pieces that are held at once.
const PIECES: usize = 16;

/// Why a connection ends before both its directions have.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum End {
    /// One of its sides is gone. The other is told.
    Broken,
    /// A toxic closes it.
    Close,
    /// It is to be reset.
    Reset,
}

/// Serves a client until both directions have ended or one is cut.
pub(super) async fn serve(client: TcpStream, route: Route, number: u64) {
    match &route.upstream {
        Upstream::Tcp(address) => match TcpStream::connect(address).await {
            Ok(mut server) => {
                let _ = server.set_nodelay(true);
                let (reader, writer) = server.split();
                if between(client, reader, writer, &route, number).await {
                    let _ = server.set_zero_linger();
                }
            }
            Err(_) => refuse(&client, &route.counters),
        },
        Upstream::Unix(path) => match UnixStream::connect(path).await {
            Ok(mut server) => {
                let (reader, writer) = server.split();
                between(client, reader, writer, &route, number).await;
            }
            Err(_) => refuse(&client, &route.counters),
        },
    }
}

fn refuse(client: &TcpStream, counters: &Counters) {
    counters.refused.fetch_add(1, Ordering::AcqRel);
    let _ = client.set_zero_linger();
}

/// Passes on what client and server say. Whether the server's side is to be reset as well.
async fn between(
    mut client: TcpStream,
    from_server: impl AsyncRead + Unpin,
    to_server: impl AsyncWrite + Unpin,
    route: &Route,
    number: u64,
) -> bool {
    let _ = client.set_nodelay(true);
    let end = {
        let (from_client, to_client) = client.split();
        let both = async {
            let up = pass(from_client, to_server, Way::new(Direction::Up, route, number));
            let down = pass(from_server, to_client, Way::new(Direction::Down, route, number));
            tokio::try_join!(up, down).map_or_else(Some, |_| None)
        };
        tokio::select! {
            end = both => end,
            () = reset(route.orders.clone()) => Some(End::Reset),
        }
    };
    if matches!(end, Some(End::Close | End::Reset)) {
        route.counters.cuts.fetch_add(1, Ordering::AcqRel);
    }
    let resets = matches!(end, Some(End::Reset | End::Broken));
    if resets {
        let _ = client.set_zero_linger();
    }
    resets
}

/// Waits until all connections are to be reset, or the proxy is gone.
async fn reset(mut orders: watch::Receiver<Orders>) {
    let before = orders.borrow_and_update().resets;
    // The sender goes with the proxy.
    let _ = orders.wait_for(|orders| orders.resets != before).await;
}

/// Passes a direction on, up to its end. Reading goes on while writing waits, as long as there is room.
async fn pass(mut from: impl AsyncRead + Unpin, mut to: impl AsyncWrite + Unpin, mut way: Way<'_>) -> Result<(), End> {
    let (pieces, mut arrived) = mpsc::channel::<(Instant, Bytes)>(PIECES);
    let reading = async move {
        let mut buffer = BytesMut::new();
        while let Ok(room) = pieces.reserve().await {
            buffer.reserve(PIECE);
            match from.read_buf(&mut buffer).await {
                Ok(0) => break,
                Ok(_) => room.send((Instant::now(), buffer.split().freeze())),
                Err(_) => return Err(End::Broken),
            }
        }
        Ok(())
    };
    let writing = async {
        while let Some((arrival, piece)) = arrived.recv().await {
            way.deliver(arrival, piece, &mut to).await?;
        }
        way.end(&mut to).await
    };
    tokio::try_join!(reading, writing).map(|_| ())
}

/// The runtime's timer takes a millisecond even for what is over.
async fn until(instant: Instant) {
    if instant > Instant::now() {
        sleep_until(instant).await;
    }
}

/// A direction of a connection, and what its toxics remember of it.
struct Way<'a> {
    direction: Direction,
    orders: watch::Receiver<Orders>,
    counters: &'a Counters,
    rng: Rng,
    /// Bytes that have passed a limit.
    passed: HashMap<ToxicId, u64>,
    /// Nothing is delivered before what came before it.
    due: Instant,
    /// When a bandwidth lets more through.
    free: Instant,
}

impl<'a> Way<'a> {
    fn new(direction: Direction, route: &'a Route, number: u64) -> Self {
        let seed = route.seed.rotate_left(32) ^ (2 * number + u64::from(direction == Direction::Down));
        let now = Instant::now();
        Self {
            direction,
            orders: route.orders.clone(),
            counters: &route.counters,
            rng: Rng::with_seed(seed),
            passed: HashMap::new(),
            due: now,
            free: now,
        }
    }

    fn toxics(&mut self) -> Vec<(ToxicId, Toxic)> {
        let orders = self.orders.borrow_and_update();
        let here = orders.toxics.iter().filter(|(_, direction, _)| *direction == self.direction);
        here.map(|(id, _, toxic)| (*id, toxic.clone())).collect()
    }

    /// The toxics, once none of them is a black hole.
    async fn toxics_that_pass(&mut self, held: usize) -> Result<Vec<(ToxicId, Toxic)>, End> {
        let mut toxics = self.toxics();
        if toxics.iter().any(|(_, toxic)| *toxic == Toxic::BlackHole) {
            self.counters.held.fetch_add(held as u64, Ordering::AcqRel);
        }
        while toxics.iter().any(|(_, toxic)| *toxic == Toxic::BlackHole) {
            // The sender goes with the proxy.
            self.orders.changed().await.map_err(|_| End::Reset)?;
            toxics = self.toxics();
        }
        Ok(toxics)
    }

    async fn deliver(&mut self, arrival: Instant, piece: Bytes, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), End> {
        let toxics = self.toxics_that_pass(piece.len()).await?;
        let (mut wait, mut slices, mut rate, mut cut) = (Duration::ZERO, None, None, None);
        let mut passes = piece.len();
        for (id, toxic) in toxics {
            match toxic {
                Toxic::Latency { latency, jitter } => wait += latency + jitter.mul_f64(self.rng.f64()),
                Toxic::Slicer { average, variation, delay } => slices = Some((average, variation, delay)),
                Toxic::Bandwidth { rate: limit } => rate = Some(rate.map_or(limit, |rate: u64| rate.min(limit))),
                Toxic::LimitData { bytes } | Toxic::ResetAfter { bytes } => {
                    let left = bytes - *self.passed.entry(id).or_default();
                    if piece.len() as u64 >= left && left as usize <= passes {
                        passes = left as usize;
                        cut = Some(if matches!(toxic, Toxic::LimitData { .. }) { End::Close } else { End::Reset });
                    }
                    self.passed.entry(id).and_modify(|passed| *passed += (piece.len() as u64).min(left));
                }
                Toxic::BlackHole | Toxic::SlowClose { .. } => {}
            }
        }
        self.due = self.due.max(arrival + wait);
        until(self.due).await;
        let mut rest = piece.slice(..passes);
        while !rest.is_empty() {
            let mut length = rest.len();
            if let Some((average, variation, delay)) = slices {
                length = length.min(self.rng.usize(average - variation..=average + variation));
                if rest.len() < passes {
                    sleep(delay).await;
                }
            }
            if let Some(rate) = rate {
                // A tenth of a second at once, so that it flows.
                length = length.min(usize::try_from(rate / 10).unwrap_or(usize::MAX).max(1));
                until(self.free).await;
                self.free = self.free.max(Instant::now()) + Duration::from_secs_f64(length as f64 / rate as f64);
            }
            let slice = rest.split_to(length);
            to.write_all(&slice).await.map_err(|_| End::Broken)?;
            self.counters.bytes[usize::from(self.direction == Direction::Down)]
                .fetch_add(length as u64, Ordering::AcqRel);
        }
        match cut {
            None => Ok(()),
            Some(end) => {
                self.counters.lost.fetch_add((piece.len() - passes) as u64, Ordering::AcqRel);
                Err(end)
            }
        }
    }

    /// Passes on the end of a stream: the other direction may go on.
    async fn end(&mut self, to: &mut (impl AsyncWrite + Unpin)) -> Result<(), End> {
        for (_, toxic) in self.toxics_that_pass(0).await? {
            if let Toxic::SlowClose { delay } = toxic {
                sleep(delay).await;
            }
        }
        to.shutdown().await.map_err(|_| End::Broken)
    }
}
