//! A second-best answer that says what it is.

/// Answers with a fallback when a call fails, and marks that answer.
///
/// `F` makes the fallback from the failure, for example a cached value or a confidence of zero.
///
/// ```
/// use bridge_orchestrator::route::{Answer, Degrade};
///
/// # #[tokio::main(flavor = "current_thread")] async fn main() {
/// let degrade = Degrade::new(|_: &std::io::Error| 0.0);
/// let answer = degrade.run(async { Err(std::io::Error::other("down")) }).await;
/// assert!(answer.is_degraded());
/// assert_eq!(answer.into_value(), 0.0);
/// # }
/// ```
#[derive(Debug, Clone)]
pub struct Degrade<F> {
    fallback: F,
}

/// The answer of a call that has a fallback.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Answer<T, E> {
    /// The call's own.
    Genuine(T),
    /// The fallback's.
    Degraded {
        /// What the fallback answered.
        value: T,
        /// Why the call failed.
        because: E,
    },
}

impl<F> Degrade<F> {
    /// Answers by `fallback` what fails.
    #[must_use]
    pub fn new(fallback: F) -> Self {
        Self { fallback }
    }

    /// The call's answer, or the fallback's.
    pub async fn run<T, E>(&self, call: impl Future<Output = Result<T, E>>) -> Answer<T, E>
    where
        F: Fn(&E) -> T,
    {
        match call.await {
            Ok(value) => Answer::Genuine(value),
            Err(because) => Answer::Degraded { value: (self.fallback)(&because), because },
        }
    }
}

impl<T, E> Answer<T, E> {
    /// Whether this is the fallback's answer.
    #[must_use]
    pub fn is_degraded(&self) -> bool {
        matches!(self, Self::Degraded { .. })
    }

    /// The answer, whoever gave it.
    pub fn into_value(self) -> T {
        match self {
            Self::Genuine(value) | Self::Degraded { value, .. } => value,
        }
    }
}
