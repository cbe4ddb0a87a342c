//! What a proxy does to bytes, seen from both sides.

mod support;

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use ephemeral_postgres::{Direction, Error, Proxy, Toxic, Upstream};
use support::fast;
use tokio::io::{AsyncReadExt, AsyncWriteExt, ErrorKind};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;
use tokio::time::{sleep, timeout};
use tokio_postgres::NoTls;

/// A server that sends back what it gets, and says how much that was and how its connection ended.
async fn echo() -> (SocketAddr, JoinHandle<(usize, std::io::Result<()>)>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let address = listener.local_addr().expect("bound");
    let served = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.expect("accepted");
        let (mut total, mut buffer) = (0, vec![0; 4096]);
        loop {
            match stream.read(&mut buffer).await {
                Ok(0) => break (total, stream.shutdown().await),
                Ok(length) => {
                    total += length;
                    if let Err(error) = stream.write_all(&buffer[..length]).await {
                        break (total, Err(error));
                    }
                }
                Err(error) => break (total, Err(error)),
            }
        }
    });
    (address, served)
}

async fn through() -> (Proxy, TcpStream, JoinHandle<(usize, std::io::Result<()>)>) {
    let (address, served) = echo().await;
    let proxy = Proxy::with_seed(Upstream::Tcp(address), 7).await.expect("a proxy");
    let stream = TcpStream::connect(proxy.address()).await.expect("connected");
    stream.set_nodelay(true).expect("set");
    (proxy, stream, served)
}

async fn round_trip(stream: &mut TcpStream, text: &[u8]) -> Vec<u8> {
    stream.write_all(text).await.expect("sent");
    let mut answer = vec![0; text.len()];
    stream.read_exact(&mut answer).await.expect("answered");
    answer
}

#[tokio::test]
async fn bytes_pass_as_they_are_with_their_end_and_are_counted() {
    let (proxy, mut stream, served) = through().await;
    let mut rng = fastrand::Rng::with_seed(1);
    let sent: Vec<u8> = (0..10_000_000).map(|_| rng.u8(..)).collect();
    let (mut from, mut to) = stream.split();
    let sending = async {
        to.write_all(&sent).await.expect("sent");
        // Half-closed: the answer still comes.
        to.shutdown().await.expect("shut");
    };
    let receiving = async {
        let mut received = Vec::new();
        from.read_to_end(&mut received).await.expect("received");
        received
    };
    let ((), received) = tokio::join!(sending, receiving);
    assert!(received == sent, "{} bytes came back", received.len());
    assert!(matches!(served.await.expect("served"), (10_000_000, Ok(()))));
    let counts = proxy.counts();
    assert_eq!((counts.bytes_up, counts.bytes_down, counts.connections), (10_000_000, 10_000_000, 1));
    assert_eq!((counts.cuts, counts.lost, counts.held, counts.refused), (0, 0, 0, 0));
}

#[tokio::test]
async fn latency_is_felt_both_ways_and_does_not_queue_up() {
    let (proxy, mut stream, _served) = through().await;
    let latency = Duration::from_millis(50);
    let toxic = Toxic::Latency { latency, jitter: Duration::ZERO };
    let ids = [Direction::Up, Direction::Down].map(|direction| proxy.add(direction, toxic.clone()).expect("added"));
    let start = Instant::now();
    assert_eq!(round_trip(&mut stream, b"there and back").await, b"there and back");
    assert!(start.elapsed() >= 2 * latency, "{:?}", start.elapsed());
    // Ten pieces, one after the other, wait at the same time.
    let start = Instant::now();
    for _ in 0..10 {
        stream.write_all(b"piece").await.expect("sent");
        sleep(Duration::from_millis(2)).await;
    }
    let mut answer = [0; 50];
    stream.read_exact(&mut answer).await.expect("answered");
    assert!((2 * latency..5 * latency).contains(&start.elapsed()), "{:?}", start.elapsed());
    ids.into_iter().for_each(|id| proxy.remove(id));
    let start = Instant::now();
    round_trip(&mut stream, b"x").await;
    assert!(start.elapsed() < latency, "{:?}", start.elapsed());
}

#[tokio::test]
async fn bandwidth_is_kept_within_a_tenth_of_a_second() {
    let (proxy, mut stream, _served) = through().await;
    proxy.add(Direction::Up, Toxic::Bandwidth { rate: 1_000_000 }).expect("added");
    let start = Instant::now();
    assert_eq!(round_trip(&mut stream, &[7; 300_000]).await.len(), 300_000);
    assert!((180..1000).contains(&start.elapsed().as_millis()), "{:?}", start.elapsed());
}

#[tokio::test]
async fn slices_are_small_and_all_arrive() {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
    let proxy = Proxy::start(Upstream::Tcp(listener.local_addr().expect("bound"))).await.expect("a proxy");
    let toxic = Toxic::Slicer { average: 10, variation: 5, delay: Duration::from_millis(5) };
    proxy.add(Direction::Up, toxic).expect("added");
    let mut stream = TcpStream::connect(proxy.address()).await.expect("connected");
    let (mut server, _) = listener.accept().await.expect("accepted");
    let text: Vec<u8> = (0..100).collect();
    stream.write_all(&text).await.expect("sent");
    let (mut received, mut sizes, mut buffer) = (Vec::new(), Vec::new(), [0; 100]);
    while received.len() < 100 {
        let length = server.read(&mut buffer).await.expect("read");
        sizes.push(length);
        received.extend_from_slice(&buffer[..length]);
    }
    assert_eq!(received, text);
    assert!(sizes.len() >= 4 && sizes[0] <= 15, "{sizes:?}");
}

#[tokio::test]
async fn limit_lets_so_many_bytes_pass_and_closes_both_sides() {
    let (proxy, mut stream, served) = through().await;
    round_trip(&mut stream, b"before").await;
    proxy.add(Direction::Down, Toxic::LimitData { bytes: 4 }).expect("added");
    stream.write_all(b"abcdefgh").await.expect("sent");
    let mut received = Vec::new();
    stream.read_to_end(&mut received).await.expect("closed, not reset");
    assert_eq!(received, b"abcd");
    let (total, _) = served.await.expect("served");
    assert_eq!(total, 14, "the server got all");
    let counts = proxy.counts();
    assert_eq!((counts.cuts, counts.lost, counts.bytes_down), (1, 4, 10));
}

#[tokio::test]
async fn limit_of_nothing_loses_the_answer_and_not_the_question() {
    let (proxy, mut stream, served) = through().await;
    proxy.add(Direction::Down, Toxic::ResetAfter { bytes: 0 }).expect("added");
    stream.write_all(b"question").await.expect("sent");
    let error = stream.read(&mut [0; 8]).await.expect_err("reset");
    assert_eq!(error.kind(), ErrorKind::ConnectionReset);
    let (total, end) = served.await.expect("served");
    assert_eq!((total, end.expect_err("reset").kind()), (8, ErrorKind::ConnectionReset));
    assert_eq!((proxy.counts().cuts, proxy.counts().lost), (1, 8));
}

#[tokio::test]
async fn black_hole_is_silent_and_gives_back_what_it_held() {
    let (proxy, mut stream, _served) = through().await;
    let hole = proxy.add(Direction::Up, Toxic::BlackHole).expect("added");
    stream.write_all(b"hello").await.expect("sent");
    let mut answer = [0; 5];
    timeout(Duration::from_millis(100), stream.read(&mut answer)).await.expect_err("silence");
    assert_eq!((proxy.counts().held, proxy.counts().bytes_up), (5, 0));
    proxy.remove(hole);
    timeout(Duration::from_secs(5), stream.read_exact(&mut answer)).await.expect("in time").expect("healed");
    assert_eq!(&answer, b"hello");
}

#[tokio::test]
async fn black_hole_holds_the_end_of_a_stream_too() {
    let (proxy, mut stream, served) = through().await;
    proxy.add(Direction::Up, Toxic::BlackHole).expect("added");
    stream.shutdown().await.expect("shut");
    sleep(Duration::from_millis(100)).await;
    assert!(!served.is_finished());
    proxy.heal();
    timeout(Duration::from_secs(5), served).await.expect("in time").expect("served").1.expect("closed");
}

#[tokio::test]
async fn slow_close_passes_the_end_on_later() {
    let (proxy, mut stream, served) = through().await;
    proxy.add(Direction::Up, Toxic::SlowClose { delay: Duration::from_millis(100) }).expect("added");
    let start = Instant::now();
    stream.shutdown().await.expect("shut");
    served.await.expect("served").1.expect("closed");
    assert!(start.elapsed() >= Duration::from_millis(100));
}

#[tokio::test]
async fn all_connections_are_reset_at_once_and_new_ones_are_taken() {
    let server = fast().await;
    let proxy = Proxy::start(Upstream::of(server.config()).expect("a socket")).await.expect("a proxy");
    let config = proxy.config(server.config());
    let mut clients = Vec::new();
    for _ in 0..5 {
        let (client, connection) = config.connect(NoTls).await.expect("connected");
        clients.push((client, tokio::spawn(connection)));
    }
    proxy.reset_all();
    for (client, connection) in clients {
        connection.await.expect("ended").expect_err("by a reset");
        client.query("SELECT 1", &[]).await.expect_err("it is gone");
    }
    assert_eq!(proxy.counts().cuts, 5);
    let (client, connection) = config.connect(NoTls).await.expect("connected");
    tokio::spawn(connection);
    assert_eq!(client.query_one("SELECT 1", &[]).await.expect("an answer").get::<_, i32>(0), 1);
}

#[tokio::test]
async fn closed_port_refuses_and_opens_again_at_the_same_address() {
    let (proxy, mut stream, _served) = through().await;
    round_trip(&mut stream, b"taken").await;
    proxy.refuse().await;
    let error = TcpStream::connect(proxy.address()).await.expect_err("refused");
    assert_eq!(error.kind(), ErrorKind::ConnectionRefused);
    assert_eq!(round_trip(&mut stream, b"the open one goes on").await, b"the open one goes on");
    proxy.accept_again().await.expect("opened");
    proxy.accept_again().await.expect("open already");
    TcpStream::connect(proxy.address()).await.expect("taken");
}

#[tokio::test]
async fn client_of_a_server_that_is_not_there_is_cut() {
    let nobody = TcpListener::bind("127.0.0.1:0").await.expect("bound").local_addr().expect("bound");
    let proxy = Proxy::start(Upstream::Tcp(nobody)).await.expect("a proxy");
    let mut stream = TcpStream::connect(proxy.address()).await.expect("connected");
    assert!(!matches!(stream.read(&mut [0; 1]).await, Ok(1..)));
    assert_eq!((proxy.counts().refused, proxy.counts().connections), (1, 1));
}

#[tokio::test]
async fn dropped_proxy_takes_its_connections_with_it() {
    let (proxy, mut stream, served) = through().await;
    round_trip(&mut stream, b"alive").await;
    let address = proxy.address();
    drop(proxy);
    assert!(!matches!(timeout(Duration::from_secs(5), stream.read(&mut [0; 1])).await.expect("in time"), Ok(1..)));
    timeout(Duration::from_secs(5), served).await.expect("in time").expect("served").1.expect_err("reset");
    TcpStream::connect(address).await.expect_err("closed");
}

#[tokio::test]
async fn same_seed_does_the_same_to_the_same_connection() {
    let mut sizes = Vec::new();
    for seed in [3, 3, 4] {
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("bound");
        let address = listener.local_addr().expect("bound");
        let proxy = Proxy::with_seed(Upstream::Tcp(address), seed).await.expect("a proxy");
        let toxic = Toxic::Slicer { average: 50, variation: 49, delay: Duration::from_millis(3) };
        proxy.add(Direction::Up, toxic).expect("added");
        let mut stream = TcpStream::connect(proxy.address()).await.expect("connected");
        let (mut server, _) = listener.accept().await.expect("accepted");
        stream.write_all(&[1; 50]).await.expect("sent");
        sizes.push(server.read(&mut [0; 100]).await.expect("read"));
    }
    assert_eq!(sizes[0], sizes[1]);
    assert_ne!(sizes[0], sizes[2]);
}

#[tokio::test]
async fn numbers_that_make_no_sense_are_refused() {
    let proxy = Proxy::start(Upstream::Tcp("127.0.0.1:1".parse().expect("an address"))).await.expect("a proxy");
    let delay = Duration::ZERO;
    for toxic in [
        Toxic::Bandwidth { rate: 0 },
        Toxic::Slicer { average: 0, variation: 0, delay },
        Toxic::Slicer { average: 5, variation: 5, delay },
    ] {
        assert!(matches!(proxy.add(Direction::Up, toxic), Err(Error::Setting { .. })));
    }
    let mut config = tokio_postgres::Config::new();
    assert!(matches!(Upstream::of(&config), Err(Error::Setting { .. })));
    config.host("no.address.example");
    assert!(matches!(Upstream::of(&config), Err(Error::Setting { .. })));
}
