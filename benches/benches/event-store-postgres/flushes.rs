//! How often a server has flushed its log.

use std::time::Duration;

use crate::setting::Setting;

/// Flushes of the log so far. Connections tell what they have done when they end: waits until there is none but this one.
pub(crate) async fn flushes(setting: &Setting) -> i64 {
    let client = setting.database.connect().await.expect("a client");
    let others = "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()";
    let alone = async {
        while client.query_one(others, &[]).await.expect("counted").get::<_, i64>(0) > 0 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    if tokio::time::timeout(Duration::from_secs(5), alone).await.is_err() {
        eprintln!("a connection stays open: its flushes may be missing");
    }
    let version = client.query_one("SELECT current_setting('server_version_num')::int", &[]).await.expect("shown");
    let count = if version.get::<_, i32>(0) >= 180_000 {
        "SELECT sum(fsyncs)::bigint FROM pg_stat_io WHERE object = 'wal'"
    } else {
        "SELECT wal_sync FROM pg_stat_wal"
    };
    client.query_one(count, &[]).await.expect("counted").get(0)
}
