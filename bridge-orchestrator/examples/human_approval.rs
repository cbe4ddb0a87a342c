//! An expense waits for a person: a reminder goes out when nobody answers, and then the offer lapses. An answer is a signal, the times are
//! timers, and whichever comes first wins, in every replay.
#![expect(clippy::print_stdout, reason = "an example shows what it does")]

use std::time::Duration;

use bridge_orchestrator::{Client, Clock, Ctx, Engine, ExecutionId, StartOptions, StepError, Workflow, WorkflowError};
use event_store::{MemoryStore, Timestamp};
use futures::future::{Either, select};
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

const DAY: Duration = Duration::from_secs(24 * 3_600);

/// The time of tokio, which is stopped here, and goes on by itself when nobody has anything to do: the week of this example takes no time.
struct TokioTime(Instant);

impl Clock for TokioTime {
    fn now(&self) -> Timestamp {
        Timestamp::from_micros(self.0.elapsed().as_micros() as i64)
    }
}

#[derive(Debug, PartialEq, Serialize, Deserialize)]
enum Outcome {
    Approved { by: String, after_reminder: bool },
    Refused { by: String },
    Lapsed,
}

#[derive(Serialize, Deserialize)]
struct Answer {
    by: String,
    is_yes: bool,
}

struct Expense;

impl Workflow for Expense {
    type Input = u32;
    type Output = Outcome;
    const TYPE: &'static str = "expense";

    async fn run(ctx: Ctx, amount: u32) -> Result<Outcome, WorkflowError> {
        let mut answer = ctx.signal::<Answer>("answer");
        for is_reminder in [false, true] {
            ctx.expose("waits for", if is_reminder { "an answer to the reminder" } else { "an answer" })?;
            ctx.step("mail", move |_| async move {
                println!("{} {amount}, please", if is_reminder { "Again:" } else { "Approve" });
                Ok::<_, StepError>(())
            })
            .await?;
            match select(answer, ctx.sleep(3 * DAY)).await {
                Either::Left((answer, _)) => {
                    let Answer { by, is_yes } = answer?;
                    let after_reminder = is_reminder;
                    return Ok(if is_yes { Outcome::Approved { by, after_reminder } } else { Outcome::Refused { by } });
                }
                // The same future waits on: an answer that comes meanwhile is not lost.
                Either::Right((timer, same)) => {
                    timer?;
                    answer = same;
                }
            }
        }
        Ok(Outcome::Lapsed)
    }
}

async fn answer(
    client: &Client<MemoryStore>,
    id: &ExecutionId,
    by: &str,
    is_yes: bool,
) -> Result<(), bridge_orchestrator::Error> {
    // Whoever clicks twice has answered once.
    let answer = Answer { by: by.to_owned(), is_yes };
    client.signal(id, "answer", &answer, Some("the answer")).await?;
    client.signal(id, "answer", &answer, Some("the answer")).await.or_else(|error| match error {
        bridge_orchestrator::Error::NotFound(_) => Ok(()),
        error => Err(error),
    })
}

#[tokio::main(flavor = "current_thread", start_paused = true)]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let engine =
        Engine::builder(MemoryStore::new()).clock(TokioTime(Instant::now())).register::<Expense>().start().await?;
    let client = engine.client();
    let mut handles = Vec::new();
    for name in ["at-once", "refused", "reminded", "lapsed"] {
        handles.push(client.start::<Expense>(ExecutionId::new(name)?, &120, StartOptions::default()).await?);
    }
    answer(&client, handles[0].id(), "Ada", true).await?;
    answer(&client, handles[1].id(), "Bob", false).await?;
    // The third person looks once a day, and does what is to be done when it cannot be put off.
    let reminded = "an answer to the reminder";
    while client.query::<String>(handles[2].id(), "waits for").await?.as_deref() != Some(reminded) {
        tokio::time::sleep(DAY).await;
    }
    answer(&client, handles[2].id(), "Cy", true).await?;

    let expected = [
        Outcome::Approved { by: "Ada".to_owned(), after_reminder: false },
        Outcome::Refused { by: "Bob".to_owned() },
        Outcome::Approved { by: "Cy".to_owned(), after_reminder: true },
        Outcome::Lapsed,
    ];
    for (handle, expected) in handles.iter().zip(expected) {
        let outcome = handle.result().await?;
        println!("{}: {outcome:?}", handle.id());
        assert_eq!(outcome, expected);
    }
    Ok(())
}
