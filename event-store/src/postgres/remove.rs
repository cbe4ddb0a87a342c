//! Removals.

use tokio::time::timeout;
use tokio_postgres::types::{ToSql, Type};

use super::Shared;
use super::append::Refused;
use super::call::number;
use crate::error::{RemoveError, describe};
use crate::event::StreamVersion;
use crate::name::StreamId;

const STATEMENT: &str = "SELECT es_remove_1($1, $2, $3)";

impl From<Refused> for RemoveError {
    fn from(refused: Refused) -> Self {
        match refused {
            Refused::Aborted(why) | Refused::Unavailable { why, .. } => Self::Unavailable(why),
            Refused::Unknown(why) => Self::Unknown(why),
        }
    }
}

impl Shared {
    /// Removes the events of `stream` below version `before`, all of them without one; returns how many there were.
    pub(super) async fn remove(&self, stream: &StreamId, before: Option<StreamVersion>) -> Result<u64, RemoveError> {
        let before = before.map(|version| number(version.get()));
        self.retried(|| self.send_removal(stream, before)).await.map_err(RemoveError::from)
    }

    async fn send_removal(&self, stream: &StreamId, before: Option<i64>) -> Result<u64, Refused> {
        let lease = self.lessor.lease().await.map_err(Refused::nothing_sent)?;
        let client = lease.begin();
        let late = || format!("no answer in {:?}", self.options.answer_timeout);
        let parameters: [(&(dyn ToSql + Sync), Type); 3] =
            [(&self.lock_timeout, Type::TEXT), (&stream.as_str(), Type::TEXT), (&before, Type::INT8)];
        let asking = timeout(self.options.answer_timeout, client.query_typed_one(STATEMENT, &parameters));
        let answer = asking.await.map_err(|_| Refused::Unknown(late()))?;
        lease.end();
        let removed: i64 = answer.and_then(|row| row.try_get(0)).map_err(|error| Refused::of(&error))?;
        u64::try_from(removed).map_err(|error| Refused::Unknown(describe(&error)))
    }
}
