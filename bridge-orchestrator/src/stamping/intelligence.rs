//! The intelligence service: asked twice at most, remembered, and done without.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use event_store::Timestamp;
use tokio::time::{Instant, timeout};

use super::counters::Counters;
use super::response::{StepOutcome, StepStatus};
use super::service::{AnyIntelligence, Intelligence, IntelligenceRequest, ServiceError};

/// What the service is asked for if a request does not say.
pub(super) const DEFAULT_CONTEXT: &str = "general_content_analysis";
/// Answers that are remembered, at most.
const REMEMBERED: usize = 1_024;
const ATTEMPTS: u32 = 2;

/// What was asked: BLAKE3 of the context's length, the context and the content.
type Question = [u8; 32];
type Answers = HashMap<Question, (Instant, BTreeMap<String, String>)>;

/// See the module.
pub(super) struct Minds {
    pub(super) service: Option<Box<dyn AnyIntelligence>>,
    pub(super) limit: Duration,
    pub(super) ttl: Duration,
    pub(super) answers: Mutex<Answers>,
    pub(super) counters: Arc<Counters>,
}

impl Minds {
    /// An answer, or that there is none.
    pub(super) async fn ask(&self, request: &IntelligenceRequest) -> (StepStatus, StepOutcome) {
        let question = question(request);
        if let Some(intelligence_data) = self.remembered(&question) {
            self.counters.remembered.add();
            return (StepStatus::Success, StepOutcome::OnextreeIntelligence { intelligence_data, error: None });
        }
        match self.asked(request).await {
            Ok(answer) => {
                let intelligence_data = described(
                    answer.analysis_type,
                    // As the original writes it, "0.0" and not "0".
                    format!("{:?}", answer.confidence_score),
                    answer.recommendations,
                );
                self.remember(question, intelligence_data.clone());
                (StepStatus::Success, StepOutcome::OnextreeIntelligence { intelligence_data, error: None })
            }
            Err(error) => {
                self.counters.degraded.add();
                let advice = format!("the intelligence service is unavailable ({})", error.code());
                let intelligence_data = described("fallback".to_owned(), "0.0".to_owned(), advice);
                let error = Some(error.to_string());
                (StepStatus::Degraded, StepOutcome::OnextreeIntelligence { intelligence_data, error })
            }
        }
    }

    async fn asked(&self, request: &IntelligenceRequest) -> Result<Intelligence, ServiceError> {
        let Some(service) = &self.service else {
            return Err(ServiceError::Connection("there is none".to_owned()));
        };
        let mut attempts = 1;
        loop {
            self.counters.intelligence_calls.add();
            let error = match timeout(self.limit, service.analyze(request)).await {
                Ok(Ok(answer)) => return Ok(answer),
                Ok(Err(error)) => error,
                Err(_) => ServiceError::Timeout(format!("{:?}", self.limit)),
            };
            if attempts == ATTEMPTS || !error.is_retryable() {
                return Err(error);
            }
            attempts += 1;
        }
    }

    fn remembered(&self, question: &Question) -> Option<BTreeMap<String, String>> {
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        match answers.get(question) {
            Some((at, answer)) if at.elapsed() < self.ttl => Some(answer.clone()),
            Some(_) => {
                answers.remove(question);
                None
            }
            None => None,
        }
    }

    fn remember(&self, question: Question, answer: BTreeMap<String, String>) {
        if self.ttl.is_zero() {
            return;
        }
        let mut answers = self.answers.lock().unwrap_or_else(PoisonError::into_inner);
        if answers.len() >= REMEMBERED && !answers.contains_key(&question) {
            answers.retain(|_, (at, _)| at.elapsed() < self.ttl);
            let oldest = answers.iter().min_by_key(|(_, (at, _))| *at).map(|(question, _)| *question);
            if let Some(oldest) = oldest.filter(|_| answers.len() >= REMEMBERED) {
                answers.remove(&oldest);
            }
        }
        answers.insert(question, (Instant::now(), answer));
    }
}

fn question(request: &IntelligenceRequest) -> Question {
    let mut hasher = blake3::Hasher::new();
    hasher.update(&(request.context.len() as u64).to_le_bytes());
    hasher.update(request.context.as_bytes()).update(request.content.as_bytes());
    *hasher.finalize().as_bytes()
}

fn described(analysis_type: String, confidence_score: String, recommendations: String) -> BTreeMap<String, String> {
    let analyzed_at = Timestamp::now().as_micros().to_string();
    let fields = [
        ("analysis_type", analysis_type),
        ("confidence_score", confidence_score),
        ("recommendations", recommendations),
        ("analyzed_at", analyzed_at),
    ];
    fields.into_iter().map(|(key, value)| (key.to_owned(), value)).collect()
}
