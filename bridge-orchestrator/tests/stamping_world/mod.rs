//! Services that do what a test tells them, and where events are told.
#![allow(dead_code, reason = "each test uses what it needs")]

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bridge_orchestrator::stamping::{
    Intelligence, IntelligenceRequest, IntelligenceService, LocalStamps, Message, Publisher, ServiceError, Services,
    ServicesBuilder, Stamp, StampRequest, StampingService,
};

/// What becomes of a call.
#[derive(Debug, Clone)]
pub(crate) enum Fault {
    Says(ServiceError),
    /// It never answers.
    Hangs,
    Panics,
}

/// Stamps, once its faults are used up; what it was asked is kept.
#[derive(Clone, Default)]
pub(crate) struct Stamper {
    pub(crate) faults: Arc<Mutex<VecDeque<Fault>>>,
    pub(crate) asked: Arc<Mutex<Vec<StampRequest>>>,
    pub(crate) batches: Arc<Mutex<Vec<usize>>>,
    /// Batches of another size than this are answered with one stamp too few.
    pub(crate) short: Arc<Mutex<VecDeque<usize>>>,
}

impl Stamper {
    pub(crate) fn failing(faults: impl IntoIterator<Item = Fault>) -> Self {
        let stamper = Self::default();
        stamper.faults.lock().expect("whole").extend(faults);
        stamper
    }

    pub(crate) fn calls(&self) -> usize {
        self.asked.lock().expect("whole").len()
    }

    async fn fault(&self) -> Result<(), ServiceError> {
        let fault = self.faults.lock().expect("whole").pop_front();
        match fault {
            None => Ok(()),
            Some(Fault::Says(error)) => Err(error),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Panics) => panic!("told to"),
        }
    }
}

impl StampingService for Stamper {
    async fn stamp(&self, request: &StampRequest) -> Result<Stamp, ServiceError> {
        self.asked.lock().expect("whole").push(request.clone());
        self.fault().await?;
        LocalStamps.stamp(request).await
    }

    async fn stamp_batch(&self, requests: &[StampRequest]) -> Result<Vec<Stamp>, ServiceError> {
        self.batches.lock().expect("whole").push(requests.len());
        self.fault().await?;
        let mut stamps = Vec::new();
        for request in requests {
            stamps.push(LocalStamps.stamp(request).await?);
        }
        if self.short.lock().expect("whole").front().is_some_and(|size| *size != requests.len()) {
            stamps.pop();
        }
        Ok(stamps)
    }
}

/// Answers, once its faults are used up.
#[derive(Clone, Default)]
pub(crate) struct Mind {
    pub(crate) faults: Arc<Mutex<VecDeque<Fault>>>,
    pub(crate) calls: Arc<Mutex<usize>>,
}

impl Mind {
    pub(crate) fn failing(faults: impl IntoIterator<Item = Fault>) -> Self {
        let mind = Self::default();
        mind.faults.lock().expect("whole").extend(faults);
        mind
    }
}

impl IntelligenceService for Mind {
    async fn analyze(&self, request: &IntelligenceRequest) -> Result<Intelligence, ServiceError> {
        *self.calls.lock().expect("whole") += 1;
        let fault = self.faults.lock().expect("whole").pop_front();
        match fault {
            None => Ok(Intelligence {
                analysis_type: "content_analysis".to_owned(),
                confidence_score: 0.85,
                recommendations: format!("look at {}", request.context),
            }),
            Some(Fault::Says(error)) => Err(error),
            Some(Fault::Hangs) => std::future::pending().await,
            Some(Fault::Panics) => panic!("told to"),
        }
    }
}

pub(crate) fn services(stamper: &Stamper) -> ServicesBuilder {
    Services::builder(stamper.clone()).stamp_retries(3, Duration::from_millis(1))
}

/// What was told, and how many more times it fails.
#[derive(Clone, Default)]
pub(crate) struct Board {
    pub(crate) messages: Arc<Mutex<Vec<Message>>>,
    pub(crate) failures: Arc<Mutex<u32>>,
}

impl Board {
    pub(crate) fn all(&self) -> Vec<Message> {
        self.messages.lock().expect("whole").clone()
    }

    pub(crate) fn topics(&self) -> Vec<String> {
        self.all().into_iter().map(|message| message.topic).collect()
    }
}

impl Publisher for Board {
    async fn publish(&self, message: &Message) -> Result<(), ServiceError> {
        let mut failures = self.failures.lock().expect("whole");
        if *failures > 0 {
            *failures -= 1;
            return Err(ServiceError::Connection("the board is down".to_owned()));
        }
        drop(failures);
        self.messages.lock().expect("whole").push(message.clone());
        Ok(())
    }
}
