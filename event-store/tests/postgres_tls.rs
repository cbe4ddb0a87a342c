//! Encrypted connections: those of the pool, the one that listens, and those that cancel. The encryption ends in front of the server, in
//! [`Guard`], so that these tests need no server that was built with any.

mod postgres;
mod support;

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use ephemeral_postgres::Database;
use event_store::deadpool_postgres::{Manager, Pool};
use event_store::tokio_postgres::Config;
use event_store::tokio_postgres::config::SslMode;
use event_store::{Append, AppendError, Delivery, EventStore as _, PgOptions, PostgresStore, Subscribe};
use rustls::{ClientConfig, RootCertStore, ServerConfig};
use support::event;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, copy_bidirectional};
use tokio::net::{TcpListener, TcpStream};
use tokio::time::{Instant, sleep, timeout};
use tokio_postgres_rustls::MakeRustlsConnect;
use tokio_rustls::TlsAcceptor;

const LONG: Duration = Duration::from_secs(10);

/// What a client sends first if it wants encryption, and what it sends to cancel a query.
const SSL_REQUEST: [u8; 8] = [0, 0, 0, 8, 4, 210, 22, 47];
const CANCEL_REQUEST: [u8; 8] = [0, 0, 0, 16, 4, 210, 22, 46];

/// Stands in front of a server and takes encrypted connections only.
struct Guard {
    address: SocketAddr,
    /// What clients trust.
    certificate: rcgen::Certificate,
    refused: Arc<AtomicUsize>,
    /// The first bytes of each connection, decrypted.
    beginnings: Arc<Mutex<Vec<[u8; 8]>>>,
}

impl Guard {
    async fn start(server: &Config) -> Self {
        let signed = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate");
        let key = rustls::pki_types::PrivateKeyDer::try_from(signed.signing_key.serialize_der()).expect("a key");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ServerConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        let config =
            config.with_no_client_auth().with_single_cert(vec![signed.cert.der().clone()], key).expect("they fit");
        let acceptor = TlsAcceptor::from(Arc::new(config));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let server = SocketAddr::from(([127, 0, 0, 1], server.get_ports()[0]));
        let guard = Self { address, certificate: signed.cert, refused: Arc::default(), beginnings: Arc::default() };
        let (refused, beginnings) = (Arc::clone(&guard.refused), Arc::clone(&guard.beginnings));
        tokio::spawn(async move {
            while let Ok((mut socket, _)) = listener.accept().await {
                let (acceptor, refused, beginnings) = (acceptor.clone(), Arc::clone(&refused), Arc::clone(&beginnings));
                tokio::spawn(async move {
                    let mut request = [0; 8];
                    if socket.read_exact(&mut request).await.is_err() || request != SSL_REQUEST {
                        refused.fetch_add(1, Ordering::Relaxed);
                        return;
                    }
                    socket.write_all(b"S").await.expect("it is told");
                    let Ok(mut inside) = acceptor.accept(socket).await else { return };
                    let mut beginning = [0; 8];
                    if inside.read_exact(&mut beginning).await.is_ok() {
                        beginnings.lock().expect("no panic").push(beginning);
                        let mut outside = TcpStream::connect(server).await.expect("the server");
                        outside.write_all(&beginning).await.expect("it is passed on");
                        let _ = copy_bidirectional(&mut inside, &mut outside).await;
                    }
                });
            }
        });
        guard
    }

    /// The way to `database`, encrypted.
    fn config(&self, database: &Database) -> Config {
        let mut config = Config::new();
        let direct = database.tcp_config().expect("a port");
        config.host("127.0.0.1").port(self.address.port()).ssl_mode(SslMode::Require).dbname(database.name());
        config.user(direct.get_user().expect("a user")).password(direct.get_password().expect("a password"));
        config
    }

    #[cfg(feature = "cli")]
    fn url(&self, database: &Database) -> String {
        let config = self.config(database);
        let password = String::from_utf8_lossy(config.get_password().expect("one")).into_owned();
        let (user, port) = (config.get_user().expect("one"), self.address.port());
        format!("postgresql://{user}:{password}@127.0.0.1:{port}/{}?sslmode=require", database.name())
    }

    /// An encryption that trusts this one alone.
    fn tls(&self) -> MakeRustlsConnect {
        let mut roots = RootCertStore::empty();
        roots.add(self.certificate.der().clone()).expect("a root");
        let provider = Arc::new(rustls::crypto::ring::default_provider());
        let config =
            ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions().expect("versions");
        MakeRustlsConnect::new(config.with_root_certificates(roots).with_no_client_auth())
    }

    fn cancellations(&self) -> usize {
        let beginnings = self.beginnings.lock().expect("no panic");
        beginnings.iter().filter(|beginning| **beginning == CANCEL_REQUEST).count()
    }

    fn connections(&self) -> usize {
        let beginnings = self.beginnings.lock().expect("no panic");
        beginnings.iter().filter(|beginning| **beginning != CANCEL_REQUEST).count()
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_connection_is_encrypted() {
    let server = postgres::server_with_port().await;
    let database = server.database().await.expect("a database");
    let guard = Guard::start(database.tcp_config().expect("a port")).await;
    let (config, tls) = (guard.config(&database), guard.tls());
    let pool = Pool::builder(Manager::new(config.clone(), tls.clone())).max_size(2).build().expect("a pool");
    let options = PgOptions::new().listen(config).tls(tls).poll_interval(Duration::from_secs(3_600));
    let store = PostgresStore::connect(pool, options).await.expect("it connects");
    store.migrate().await.expect("it migrates");
    assert_eq!((guard.connections(), guard.cancellations()), (1, 0));

    // The one that listens.
    let mut subscription = store.subscribe(Subscribe::from_start());
    let first = timeout(LONG, subscription.next()).await.expect("in time");
    assert_eq!(first, Some(Ok(Delivery::CaughtUp(None))));
    let sleeping = tokio::spawn(async move { timeout(LONG, subscription.next()).await });
    let client = database.connect().await.expect("a client");
    postgres::until_somebody_listens(&database).await;
    // Until it asks no more than once a second.
    sleep(Duration::from_millis(2_200)).await;
    let other =
        PostgresStore::connect(postgres::pool(database.config(), 2), PgOptions::new()).await.expect("it connects");
    other.append(Append::events([event(0)])).await.expect("it is free");
    let delivered = sleeping.await.expect("no panic").expect("in time");
    assert!(matches!(delivered, Some(Ok(Delivery::Event(_)))), "{delivered:?}");
    assert!((2..=3).contains(&guard.connections()), "{}", guard.connections());

    // The one that cancels.
    let holder = database.connect().await.expect("a client");
    holder.batch_execute("BEGIN; SELECT FROM es_head FOR UPDATE").await.expect("it holds the head");
    let given_up = timeout(Duration::from_millis(200), store.append(Append::events([event(1)]))).await;
    assert!(given_up.is_err(), "the head is held");
    let waiting =
        "SELECT count(*) FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()";
    let began = Instant::now();
    while client.query_one(waiting, &[]).await.expect("it reads").get::<_, i64>(0) > 0 {
        assert!(began.elapsed() < Duration::from_secs(3), "it was not cancelled, and waits until the lock's time-out");
        sleep(Duration::from_millis(10)).await;
    }
    assert_eq!(guard.cancellations(), 1);
    assert_eq!(guard.refused.load(Ordering::Relaxed), 0, "nobody came without encryption");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_is_to_be_encrypted_never_goes_in_the_clear() {
    let server = postgres::server_with_port().await;
    let database = server.database().await.expect("a database");
    let guard = Guard::start(database.tcp_config().expect("a port")).await;
    // The pool was told of no encryption.
    let refused = PostgresStore::connect(postgres::pool(&guard.config(&database), 1), PgOptions::new()).await;
    let why = refused.expect_err("there is none").to_string();
    assert!(why.contains("TLS"), "{why}");

    // The options were not: then nobody listens, and a subscription asks.
    let pool = Pool::builder(Manager::new(guard.config(&database), guard.tls())).max_size(2).build().expect("a pool");
    let options = PgOptions::new().listen(guard.config(&database)).poll_interval(Duration::from_millis(20));
    let store = PostgresStore::connect(pool, options).await.expect("it connects");
    store.migrate().await.expect("it migrates");
    let mut subscription = store.subscribe(Subscribe::from_start());
    assert_eq!(subscription.next().await, Some(Ok(Delivery::CaughtUp(None))));
    let other =
        PostgresStore::connect(postgres::pool(database.config(), 2), PgOptions::new()).await.expect("it connects");
    other.append(Append::events([event(0)])).await.expect("it is free");
    let delivered = timeout(LONG, subscription.next()).await.expect("in time");
    assert!(matches!(delivered, Some(Ok(Delivery::Event(_)))), "{delivered:?}");

    // Nor were they for what cancels: the query ends by the lock's time-out.
    let given_up = timeout(Duration::from_millis(1), store.append(Append::events([event(1)]))).await;
    assert!(matches!(given_up, Err(_) | Ok(Ok(_) | Err(AppendError::Unknown(_)))), "{given_up:?}");
    assert_eq!(guard.cancellations(), 0);
}

#[cfg(feature = "cli")]
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_command_trusts_whom_the_machine_trusts() {
    let server = postgres::server_with_port().await;
    let database = server.database().await.expect("a database");
    postgres::store(&database).await;
    let guard = Guard::start(database.tcp_config().expect("a port")).await;
    let stranger = rcgen::generate_simple_self_signed(["127.0.0.1".to_owned()]).expect("a certificate").cert;
    for (certificate, is_trusted) in [(&guard.certificate, true), (&stranger, false)] {
        let file = tempfile::NamedTempFile::new().expect("a file");
        std::fs::write(file.path(), certificate.pem()).expect("it is written");
        let url = guard.url(&database);
        let output = tokio::task::spawn_blocking(move || {
            let mut command = assert_cmd::Command::cargo_bin("es").expect("the command is built");
            command.env_remove("SSL_CERT_DIR").env("SSL_CERT_FILE", file.path());
            command.args(["--database", &url, "verify"]).output().expect("it runs")
        });
        let output = output.await.expect("no panic");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.success(), is_trusted, "{told}");
        assert!(is_trusted || told.contains("certificate"), "{told}");
    }
}
