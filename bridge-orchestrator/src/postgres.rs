//! What takes PostgreSQL: leases of processes that share a store, and steps inside of a transaction.

mod leases;
mod tx_step;

pub(crate) use self::leases::Leases;
pub(crate) use self::tx_step::{Body as TxBody, Transactions};
