//! What crosses everything: from a request through services and the reducer to a commit on PostgreSQL, and reading what came of it. Every row
//! runs on a throw-away server that waits for its disk; its report is printed.

#[path = "../database/setting.rs"]
#[allow(dead_code, reason = "the suite of pools uses the rest")]
mod setting;
#[path = "../../../bridge-orchestrator/benches/stamps/mod.rs"]
#[allow(dead_code, reason = "the suites of the reducer use the rest")]
mod stamps;

mod request;
mod tables;

use std::process::ExitCode;

use harness::Suite;

fn main() -> ExitCode {
    Suite::new()
        .bench("pipeline/request-to-persistence", request::to_persistence)
        .bench("pipeline/request-to-persistence-beside-an-insert", request::beside_an_insert)
        .bench("pipeline/floor/insert", request::insert)
        .bench("pipeline/workflow-by-correlation", tables::workflow_by_correlation)
        .bench("pipeline/workflow-by-stamp", tables::workflow_by_stamp)
        .bench("pipeline/workflows-of-session", tables::workflows_of_session)
        .bench("pipeline/workflows-by-intelligence", tables::workflows_by_intelligence)
        .bench("pipeline/bridge-state", tables::bridge_state)
        .bench("pipeline/bridge-states-of-window", tables::bridge_states_of_window)
        .run()
}
