//! The workflow.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Instant;

use event_store::Timestamp;

use super::intelligence::DEFAULT_CONTEXT;
use super::request::{InputData, Planned, Request, StepKind};
use super::response::{StampResponse, StepOutcome, StepResult, StepStatus};
use super::service::{IntelligenceRequest, StampRequest};
use super::services::Services;
use super::state::StampState;
use crate::error::ErrorCode;
use crate::workflow::{Ctx, Failure, RetryPolicy, StepError, Workflow, WorkflowError};

/// What the journal calls steps; all begin alike, and no other workflow's do.
pub(super) const STEP_PREFIX: &str = "metadata_stamping.";
const STAMP: &str = "metadata_stamping.stamp_creation";
const INTELLIGENCE: &str = "metadata_stamping.onextree_intelligence";
const LOCAL: &str = "metadata_stamping.local";

/// Stamps content: validates it, hashes it by BLAKE3, has a stamp made; with the intelligence service where the request asks for it. Its engine
/// needs [`Services`].
///
/// What is done in this process (validation, hash) has no step of its own in the journal: it is made again from the input at no risk, and
/// its result stands with that of the next service. So the three steps take two appends: start, and stamp with end.
///
/// Another workflow may call `Stamping::run(ctx.clone(), request)`: the steps are its own then, and there are no events and rows of them.
///
/// [`Client::query`](crate::Client::query) of `workflow_state` answers a [`StampState`].
///
/// # Errors
/// It fails with [`ErrorCode::ValidationError`] for a request that cannot be carried out, before anything is asked;
/// otherwise with what the stamping service failed with the last time: [`ErrorCode::ConnectionError`], [`ErrorCode::Timeout`],
/// [`ErrorCode::ValidationError`], or [`ErrorCode::OperationFailed`] for everything else.
///
/// # Cost
/// The hash is made on the engine's thread: half a millisecond or so for the largest content.
#[derive(Debug, Clone, Copy)]
pub struct Stamping;

impl Workflow for Stamping {
    type Input = Request;
    type Output = StampResponse;
    const TYPE: &'static str = "metadata_stamping";

    async fn run(ctx: Ctx, request: Request) -> Result<StampResponse, WorkflowError> {
        let mut state = StampState::Pending;
        let mut go = |target| {
            state = state.advance(target).map_err(|refused| illegal(&ctx, &refused))?;
            ctx.expose("workflow_state", &state)
        };
        let plan = match request.plan() {
            Ok(plan) => plan,
            Err(failure) => {
                go(StampState::Failed)?;
                return Err(WorkflowError::Failed(failure));
            }
        };
        go(StampState::Processing)?;
        let began = ctx.now();
        let results = match steps(&ctx, &request, plan).await {
            Ok(results) => results,
            Err(error) => {
                go(StampState::Failed)?;
                return Err(error);
            }
        };
        go(StampState::Completed)?;
        Ok(respond(&ctx, request, began, results))
    }
}

fn illegal(ctx: &Ctx, refused: &super::state::IllegalTransition) -> WorkflowError {
    WorkflowError::invalid(format!("{} in {}: {refused}", Stamping::TYPE, ctx.execution()))
}

/// Runs the steps: what is local rides with the next service that is asked.
async fn steps(ctx: &Ctx, request: &Request, plan: Vec<Planned>) -> Result<Vec<StepResult>, WorkflowError> {
    let services = ctx.service::<Services>();
    let input = Arc::new(request.input_data.clone().unwrap_or_default());
    let mut done: Vec<StepResult> = Vec::with_capacity(plan.len());
    let mut local = Local { input, hash: None, steps: Vec::new() };
    for step in plan {
        match step.kind {
            StepKind::Validation | StepKind::Hash => {
                local.steps.push(step);
                continue;
            }
            StepKind::Intelligence => done.extend(intelligence(ctx, &services, local.take(), step).await?),
            StepKind::Stamp => done.extend(stamp(ctx, &services, request, local.take(), step).await?),
        }
        local.hash = hash_of(&done);
    }
    if !local.steps.is_empty() {
        let rest = ctx.step(LOCAL, move |_| {
            let done = local.run();
            async { Ok::<_, StepError>(done) }
        });
        done.extend(rest.retry(RetryPolicy::NONE).await.map_err(classified)?);
    }
    Ok(done)
}

async fn intelligence(
    ctx: &Ctx,
    services: &Arc<Services>,
    local: Local,
    step: Planned,
) -> Result<Vec<StepResult>, WorkflowError> {
    let services = Arc::clone(services);
    let context = local.input.context.clone().unwrap_or_else(|| DEFAULT_CONTEXT.to_owned());
    let question = IntelligenceRequest::of(context, local.content(), ctx.execution().as_str());
    let question = Arc::new((question, step.id));
    let asking = ctx.step(INTELLIGENCE, move |_| {
        let (services, question, mut done) = (Arc::clone(&services), Arc::clone(&question), local.run());
        async move {
            let start = Instant::now();
            let (status, outcome) = services.minds.ask(&question.0).await;
            done.push(StepResult { step_id: question.1.clone(), status, duration_ms: millis(start), outcome });
            Ok::<_, StepError>(done)
        }
    });
    asking.retry(RetryPolicy::NONE).await.map_err(classified)
}

async fn stamp(
    ctx: &Ctx,
    services: &Arc<Services>,
    request: &Request,
    local: Local,
    step: Planned,
) -> Result<Vec<StepResult>, WorkflowError> {
    let retry = services.retry;
    let services = Arc::clone(services);
    let mut wanted = StampRequest::of(ctx.uuid().to_string(), String::new(), request.namespace());
    wanted.file_size_bytes = local.content().len() as u64;
    wanted.file_path.clone_from(&local.input.file_path);
    wanted.content_type.clone_from(&local.input.content_type);
    wanted.metadata.clone_from(&local.input.metadata);
    ctx.execution().as_str().clone_into(&mut wanted.workflow_id);
    // The hash of what does not change is made once, however often the service is asked.
    let mut prepared = None;
    let stamping = ctx.step(STAMP, move |attempt| {
        let done = prepared.get_or_insert_with(|| local.run()).clone();
        let (services, mut wanted, id) = (Arc::clone(&services), wanted.clone(), step.id.clone());
        wanted.file_hash = hash_of(&done).or_else(|| local.hash.clone()).unwrap_or_default();
        attempt.idempotency_key().clone_into(&mut wanted.idempotency_key);
        async move {
            let (mut done, start) = (done, Instant::now());
            let stamp = services.stamps.stamp(&wanted).await.map_err(super::service::ServiceError::into_step_error)?;
            done.push(StepResult {
                step_id: id,
                status: StepStatus::Success,
                duration_ms: millis(start),
                outcome: StepOutcome::StampCreation { stamp_id: stamp.stamp_id, stamp_data: stamp.stamp_data },
            });
            Ok::<_, StepError>(done)
        }
    });
    stamping.retry(retry).await.map_err(classified)
}

/// Steps that need no service, and wait for one that does.
#[derive(Debug, Clone)]
struct Local {
    input: Arc<InputData>,
    /// The hash that steps before have made.
    hash: Option<String>,
    steps: Vec<Planned>,
}

impl Local {
    fn take(&mut self) -> Self {
        Self { input: Arc::clone(&self.input), hash: self.hash.clone(), steps: std::mem::take(&mut self.steps) }
    }

    fn content(&self) -> &str {
        self.input.content.as_deref().unwrap_or_default()
    }

    fn run(&self) -> Vec<StepResult> {
        let result = |step: &Planned| {
            let start = Instant::now();
            let outcome = match step.kind {
                // The whole request was looked at before its first step.
                StepKind::Validation | StepKind::Intelligence | StepKind::Stamp => StepOutcome::Validation,
                StepKind::Hash => {
                    let content = self.content().as_bytes();
                    let file_hash = blake3::hash(content).to_hex().to_string();
                    StepOutcome::HashGeneration { file_hash, file_size_bytes: content.len() as u64 }
                }
            };
            StepResult { step_id: step.id.clone(), status: StepStatus::Success, duration_ms: millis(start), outcome }
        };
        self.steps.iter().map(result).collect()
    }
}

fn millis(since: Instant) -> f64 {
    since.elapsed().as_secs_f64() * 1e3
}

fn hash_of(results: &[StepResult]) -> Option<String> {
    results.iter().rev().find_map(|result| match &result.outcome {
        StepOutcome::HashGeneration { file_hash, .. } => Some(file_hash.clone()),
        _ => None,
    })
}

/// The failure of a step with one of the original's codes.
fn classified(error: WorkflowError) -> WorkflowError {
    let WorkflowError::Step { step, failure } = error else { return error };
    let code = match failure.code {
        code @ (ErrorCode::ConnectionError | ErrorCode::Timeout | ErrorCode::ValidationError) => code,
        _ => ErrorCode::OperationFailed,
    };
    WorkflowError::Step { step, failure: Failure { code, ..failure } }
}

fn respond(ctx: &Ctx, request: Request, began: Timestamp, results: Vec<StepResult>) -> StampResponse {
    let workflow_id = ctx.execution().as_str().to_owned();
    let completed_at = ctx.now();
    let namespace = request.namespace().to_owned();
    let content = request.input_data.and_then(|input| input.content).unwrap_or_default();
    let steps = results.len() as u32;
    let (mut hash, mut hash_ms, mut intelligence_data, mut stamp) = (None, 0.0, None, None);
    for result in results {
        match result.outcome {
            StepOutcome::HashGeneration { file_hash, .. } => (hash, hash_ms) = (Some(file_hash), result.duration_ms),
            StepOutcome::OnextreeIntelligence { intelligence_data: data, .. } => intelligence_data = Some(data),
            StepOutcome::StampCreation { stamp_id, stamp_data } => stamp = Some((stamp_id, stamp_data)),
            StepOutcome::Validation => {}
        }
    }
    let (stamp_id, stamp_data) = stamp.unwrap_or_default();
    let mut stamp_metadata = BTreeMap::from([
        ("workflow_id".to_owned(), workflow_id.clone()),
        ("created_at".to_owned(), completed_at.as_micros().to_string()),
    ]);
    stamp_metadata.extend(stamp_data);
    StampResponse {
        stamped_content: format!("[STAMP:{stamp_id}]\n{content}"),
        stamp_id,
        file_hash: hash.unwrap_or_default(),
        stamp_metadata,
        namespace,
        op_id: workflow_id.clone(),
        version: 1,
        metadata_version: "0.1".to_owned(),
        workflow_state: StampState::Completed,
        workflow_id,
        intelligence_data,
        processing_time_ms: (completed_at.as_micros() - began.as_micros()) as f64 / 1e3,
        hash_generation_time_ms: hash_ms,
        workflow_steps_executed: steps,
        created_at: began,
        completed_at,
    }
}
