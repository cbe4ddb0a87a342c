//! Many servers at once.

mod support;

use std::collections::HashSet;

use ephemeral_postgres::Server;
use support::fast;

#[tokio::test]
async fn eight_servers_at_once_have_nothing_in_common() {
    let servers: Vec<Server> = futures::future::join_all((0..8).map(|_| fast())).await;
    let (mut urls, mut ports, mut folders) = (HashSet::new(), HashSet::new(), HashSet::new());
    for (number, server) in servers.iter().enumerate() {
        let client = server.connect().await.expect("a client");
        client.batch_execute(&format!("CREATE TABLE mine AS SELECT {number} AS x")).await.expect("made");
        urls.insert(server.url().to_owned());
        ports.insert(server.tcp_url());
        folders.insert(server.report().directory.clone());
    }
    assert_eq!((urls.len(), ports.len(), folders.len()), (8, 8, 8));
    for (number, server) in servers.iter().enumerate() {
        let row = server.connect().await.expect("a client").query_one("SELECT x FROM mine", &[]).await.expect("read");
        assert_eq!(row.get::<_, i32>(0), number as i32);
    }
}
