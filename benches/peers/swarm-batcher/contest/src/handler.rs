//! What answers a batch.

/// An odd number: no two items have the same answer.
const FACTOR: u64 = 0x9E37_79B9_7F4A_7C15;
const MASK: u64 = 0xD1B5_4A32_D192_ED03;

/// The answer to an item, which the caller knows as well.
#[must_use]
#[inline]
pub fn answer(item: u64) -> u64 {
    item.wrapping_mul(FACTOR) ^ MASK
}

/// How a contender's handler goes about a batch: it awaits [`Handler::begin`], then gives each item its [`answer`].
#[derive(Debug, Clone, Copy)]
pub struct Handler {
    yields: bool,
}

impl Handler {
    /// Answers within the poll that begins the batch.
    pub(crate) const IMMEDIATE: Self = Self { yields: false };
    /// Lets other tasks run between taking the batch and answering it.
    pub(crate) const YIELDING: Self = Self { yields: true };

    /// Comes before the answers of a batch, once.
    #[inline]
    pub async fn begin(self) {
        if self.yields {
            tokio::task::yield_now().await;
        }
    }

    /// The answers of a batch, for contenders whose handlers return them in a list.
    #[inline]
    pub async fn answers(self, items: impl Iterator<Item = u64>) -> Vec<u64> {
        self.begin().await;
        items.map(answer).collect()
    }
}
