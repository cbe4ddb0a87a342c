//! Connections beside the pool's: the one that listens, and those that cancel. Both are encrypted as the caller says.

use std::fmt;
use std::future::poll_fn;
use std::sync::Arc;

use tokio_postgres::tls::{MakeTlsConnect, TlsConnect};
use tokio_postgres::{AsyncMessage, CancelToken, Client, Config, Error, Socket};

use crate::store::BoxFuture;

/// Called with the payload of each notification.
pub(super) type OnNotification = Box<dyn Fn(&str) + Send>;

/// A client, and what drives its connection to its end.
pub(super) type Connected = (Client, BoxFuture<'static, ()>);

/// A way to connect.
pub(super) trait Connector: Send + Sync {
    /// Cancels what runs on a connection, over one of its own.
    fn cancel(&self, token: CancelToken) -> BoxFuture<'static, ()>;
    /// Connects by `config`.
    fn connect(&self, config: Config, notified: OnNotification) -> BoxFuture<'static, Result<Connected, Error>>;
}

/// A [`Connector`] that is shared.
#[derive(Clone)]
pub(super) struct SharedConnector(Arc<dyn Connector>);

impl SharedConnector {
    pub(super) fn new<T>(tls: T) -> Self
    where
        T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
        T::Stream: Send,
        T::TlsConnect: Send,
        <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
    {
        Self(Arc::new(By(tls)))
    }
}

impl std::ops::Deref for SharedConnector {
    type Target = dyn Connector;

    fn deref(&self) -> &Self::Target {
        &*self.0
    }
}

impl fmt::Debug for SharedConnector {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Connector")
    }
}

/// Connects with this encryption.
struct By<T>(T);

impl<T> Connector for By<T>
where
    T: MakeTlsConnect<Socket> + Clone + Send + Sync + 'static,
    T::Stream: Send,
    T::TlsConnect: Send,
    <T::TlsConnect as TlsConnect<Socket>>::Future: Send,
{
    fn cancel(&self, token: CancelToken) -> BoxFuture<'static, ()> {
        let tls = self.0.clone();
        Box::pin(async move {
            // What cannot be cancelled ends by itself: the connection is closed already.
            let _ = token.cancel_query(tls).await;
        })
    }

    fn connect(&self, config: Config, notified: OnNotification) -> BoxFuture<'static, Result<Connected, Error>> {
        let tls = self.0.clone();
        Box::pin(async move {
            let (client, mut connection) = config.connect(tls).await?;
            let driving = async move {
                while let Some(Ok(message)) = poll_fn(|context| connection.poll_message(context)).await {
                    if let AsyncMessage::Notification(notification) = message {
                        notified(notification.payload());
                    }
                }
            };
            Ok((client, Box::pin(driving) as BoxFuture<'static, ()>))
        })
    }
}
