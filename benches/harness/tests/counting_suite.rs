//! A counting binary from end to end: allocations, memory an item in fresh processes, growth.

use std::collections::BTreeMap;
use std::fs;
use std::hint::black_box;
use std::process::{Command, ExitCode, Output};

use harness::metric::Metric;
use harness::record::Record;
use harness::{Bench, BenchError, CountingAlloc, Suite, alloc_scope, is_counting};

#[global_allocator]
static ALLOC: CountingAlloc = CountingAlloc::system();

fn main() -> ExitCode {
    if std::env::var_os("GATE_RUN").is_some() {
        return suite().run();
    }
    assert!(is_counting(), "this binary is the counting one");
    allocations_are_divided_by_operations();
    memory_an_item_is_the_slope_without_the_fixed_cost();
    one_size_counts_its_fixed_cost_too();
    a_leak_of_one_byte_an_operation_is_seen_and_a_saw_tooth_is_not();
    timing_under_the_counting_allocator_is_refused();
    eprintln!("counting_suite: 5 passed, 0 failed");
    ExitCode::SUCCESS
}

fn suite() -> Suite {
    Suite::new()
        .bench("self/allocations/two", two_allocations)
        .bench("self/memory/slope", slope)
        .bench("self/memory/at", at)
        .bench("self/growth/leak", leak)
        .bench("self/growth/saw-tooth", saw_tooth)
        .bench("self/refused/timing", timing)
}

fn two_allocations(bench: &mut Bench) -> Result<(), BenchError> {
    let two = || black_box(Box::new([0_u8; 8])).len() + black_box(Box::new([0_u8; 24])).len();
    let (sum, stats) = alloc_scope(|| (0..50).map(|_| two()).sum::<usize>());
    bench.allocations(50, stats)?;
    bench.proof(50 * 32, sum);
    Ok(())
}

/// 4,096 fixed bytes and 24 an item, 16 of which are the item's own content.
fn build(items: u64) -> (Vec<u8>, Vec<[u64; 3]>) {
    (vec![1; 4_096], (0..items).map(|i| [i; 3]).collect())
}

fn slope(bench: &mut Bench) -> Result<(), BenchError> {
    bench.memory_per_item(&[1_000, 2_000, 4_000], 16, build, |built| built.1.len() as u64)?;
    bench.proof(7_000, bench.observed());
    Ok(())
}

fn at(bench: &mut Bench) -> Result<(), BenchError> {
    bench.memory_at(1_024, 16, build, |built| built.1.len() as u64)?;
    bench.proof(1_024, bench.observed());
    Ok(())
}

fn leak(bench: &mut Bench) -> Result<(), BenchError> {
    let mut kept = Vec::with_capacity(100_000);
    bench.growth(1_000, || kept.push(Box::new(7_u8)))?;
    bench.proof(21_000, kept.len());
    Ok(())
}

fn saw_tooth(bench: &mut Bench) -> Result<(), BenchError> {
    let mut teeth = 0;
    let mut buffer = Vec::with_capacity(64);
    bench.growth(1_000, || {
        buffer.push(Box::new(7_u64));
        if buffer.len() == 64 {
            buffer.clear();
            teeth += 1;
        }
    })?;
    bench.proof(21_000 / 64, teeth);
    Ok(())
}

fn timing(bench: &mut Bench) -> Result<(), BenchError> {
    bench.ops(1, || (), |(), _| (), |()| 1).map(|_| ())
}

struct Run {
    output: Output,
    records: BTreeMap<String, Record>,
}

fn run(filter: &str) -> Run {
    let folder = tempfile::tempdir().expect("temporary folder");
    let output = Command::new(std::env::current_exe().expect("own path"))
        .args(["--bench", filter])
        .env("GATE_RUN", folder.path())
        .output()
        .expect("starts");
    let files = fs::read_dir(folder.path()).expect("lists").map(|file| file.expect("entry").path());
    let records = files.map(|path| Record::read(&path).expect("reads")).map(|r| (r.bench.clone(), r)).collect();
    Run { output, records }
}

fn value(record: &Record, metric: Metric) -> f64 {
    record.metrics.iter().find(|figure| figure.metric == metric).expect("recorded").value
}

fn allocations_are_divided_by_operations() {
    let Run { records, .. } = run("self/allocations");
    let record = &records["self/allocations/two"];
    assert_eq!(value(record, Metric::AllocsCount), 2.0);
    assert_eq!(value(record, Metric::AllocsBytes), 32.0);
}

fn memory_an_item_is_the_slope_without_the_fixed_cost() {
    let Run { records, output } = run("self/memory/slope");
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let record = &records["self/memory/slope"];
    let per_item = value(record, Metric::MemoryPerItem);
    assert!((per_item - 8.0).abs() < 1e-9, "{per_item}");
    assert!(record.notes.iter().any(|note| note.contains("fixed cost 4096 B")), "{:?}", record.notes);
    assert_eq!(record.n.processes, 3);
}

fn one_size_counts_its_fixed_cost_too() {
    let Run { records, .. } = run("self/memory/at");
    let record = &records["self/memory/at"];
    assert_eq!(value(record, Metric::MemoryPerItem), 8.0 + 4.0);
    let peak = value(record, Metric::MemoryPeak);
    assert!((500_000.0..100_000_000.0).contains(&peak), "a process is neither {peak} bytes");
}

fn a_leak_of_one_byte_an_operation_is_seen_and_a_saw_tooth_is_not() {
    let Run { records, .. } = run("self/growth");
    let leak = value(&records["self/growth/leak"], Metric::MemoryGrowthPerOp);
    assert!((leak - 1.0).abs() < 0.01, "{leak}");
    let saw_tooth = value(&records["self/growth/saw-tooth"], Metric::MemoryGrowthPerOp);
    assert!(saw_tooth.abs() < 0.02, "{saw_tooth}");
}

fn timing_under_the_counting_allocator_is_refused() {
    let Run { output, records } = run("self/refused");
    assert!(!output.status.success());
    assert!(String::from_utf8(output.stderr).expect("text").contains("move the benchmark to another binary"));
    assert!(records.is_empty());
}
