//! `junit.xml`: a test a limit, for the test reports of CI systems.

use quick_junit::{NonSuccessKind, Report, TestCase, TestCaseStatus, TestSuite};

use crate::outcome::{GateReport, Row};
use crate::verdict::Verdict;

pub(super) fn render(report: &GateReport) -> String {
    let mut junit = Report::new("gate");
    let mut suite = TestSuite::new(report.profile.as_str());
    suite.add_test_cases(report.rows.iter().map(case));
    if report.nothing_selected {
        let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
        status.set_message("no limit matches the filter and the profile");
        suite.add_test_case(TestCase::new("selection", status));
    }
    junit.add_test_suite(suite);
    junit.to_string().unwrap_or_default()
}

fn case(row: &Row) -> TestCase {
    let mut status = match row.verdict {
        Verdict::Pass | Verdict::Warn => TestCaseStatus::success(),
        Verdict::Fail => TestCaseStatus::non_success(NonSuccessKind::Failure),
        Verdict::Error | Verdict::Missing | Verdict::Inconclusive => TestCaseStatus::non_success(NonSuccessKind::Error),
        Verdict::Waived | Verdict::NotSelected => TestCaseStatus::skipped(),
    };
    if row.verdict != Verdict::Pass && row.verdict != Verdict::Warn {
        status.set_type(row.verdict.word()).set_message(row.reason.as_str());
    }
    let metric = row.metric.map_or("", |metric| metric.name());
    let mut case = TestCase::new(format!("{metric} {}", row.limit), status);
    case.set_classname(row.bench.as_str());
    if row.verdict == Verdict::Warn {
        case.set_system_out(format!("WARN {}", row.reason));
    }
    case
}
