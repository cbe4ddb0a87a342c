//! The inputs that the fuzz targets begin with: each is accepted by its parser, so that what lies behind the parsers is reached.

use std::fs;
use std::path::Path;

use gate::baseline::{Baseline, Saved, parse_rules};
use gate::rivals::{Kept, Rival};
use gate::source::criterion;
use gate::thresholds::Thresholds;
use harness::record::Record;

fn folder(name: &str) -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("fuzz").join(name)
}

fn accept(target: &str, bytes: &[u8]) -> Result<(), String> {
    let text = || std::str::from_utf8(bytes).map_err(|error| error.to_string());
    let mut parts = bytes.split(|&byte| byte == 0);
    let mut part = || parts.next().unwrap_or_default();
    match target {
        "baseline" => {
            let (baseline, rules) = (part(), part());
            let rules = std::str::from_utf8(rules).map_err(|error| error.to_string())?;
            let is_whole = Baseline::parse(baseline).is_ok();
            // The target puts a frame around figures.
            is_whole.then_some(()).map_or_else(|| json::<Vec<Saved>>(baseline).map(drop), Ok)?;
            parse_rules(rules).map(drop)
        }
        "criterion" => criterion::parse(part(), part(), part()).map(drop).map_err(|problem| problem.reason),
        "record" => Record::parse(Path::new("seed.json"), bytes).map(drop).map_err(|error| error.to_string()),
        "rivals" => {
            let rows = [b"[", bytes, b"]"].concat();
            Kept::parse(bytes).map(drop).or_else(|_| json::<Vec<Rival>>(&rows).map(drop))
        }
        "seeds" => gate::seeds::parse(text()?).map(drop).map_err(|error| error.message),
        "thresholds" => Thresholds::parse(text()?, Path::new("t.toml"), "2026-06-15")
            .map(drop)
            .map_err(|errors| errors.iter().map(|error| format!("{error}\n")).collect()),
        _ => Err("no such target: say here what accepts its seeds".to_owned()),
    }
}

fn json<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, String> {
    serde_json::from_slice(bytes).map_err(|error| error.to_string())
}

#[test]
fn every_target_has_seeds_and_its_parser_accepts_them() {
    let targets = fs::read_dir(folder("fuzz_targets")).expect("targets");
    let mut count = 0;
    for target in targets {
        let target = target.expect("a file").path();
        let target = target.file_stem().expect("a name").to_str().expect("text").to_owned();
        let seeds = fs::read_dir(folder("seeds").join(&target)).unwrap_or_else(|error| panic!("{target}: {error}"));
        let before = count;
        for seed in seeds {
            let seed = seed.expect("a file").path();
            let bytes = fs::read(&seed).expect("readable");
            accept(&target, &bytes).unwrap_or_else(|why| panic!("{}: {why}", seed.display()));
            count += 1;
        }
        assert!(count > before, "{target} has no seeds");
    }
    assert!(count >= 9, "{count}");
}
