//! What a rival needs of Python.

use harness::{Bench, BenchError};
use serde::de::DeserializeOwned;
use serde_json::Value;

use crate::script::{self, Outcome};

/// Packages that a rival's scripts import, in an environment of their own.
#[derive(Debug, Clone, Copy)]
pub struct Environment {
    /// Its folder is `<name>-venv`.
    pub name: &'static str,
    /// What `pip` installs, with versions: `orchestrix==0.1.0`.
    pub packages: &'static [&'static str],
    /// Statements that fail unless the environment holds what the scripts import.
    pub probe: &'static str,
}

impl Environment {
    /// Runs `work` of `script`, which follows `runner.py`, in a process of its own, and records its rounds; the proof is the caller's.
    ///
    /// # Errors
    /// [`BenchError::Invalid`] if there is no Python 3.12 with the packages, or the script fails.
    pub fn measure<D: DeserializeOwned>(
        &self,
        bench: &mut Bench,
        script: &str,
        work: Value,
    ) -> Result<Outcome<D>, BenchError> {
        let outcome = script::run(self, script, work, bench.effort());
        let outcome: Outcome<D> = outcome.map_err(|error| BenchError::Invalid(error.to_string()))?;
        bench.rounds_measured(&outcome.per_op_ns)?;
        Ok(outcome)
    }

    /// Fails unless Python is the right one, the packages have their versions, and the probe succeeds.
    pub(crate) fn check(&self) -> String {
        let packages = self.packages.iter().filter_map(|package| package.split_once("=="));
        let versions: String = packages
            .map(|(package, version)| format!("assert importlib.metadata.version('{package}') == '{version}'\n"))
            .collect();
        let python = "import importlib.metadata, sys\nassert sys.version_info[:2] == (3, 12)\n";
        format!("{python}{versions}{}\n", self.probe)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn check_asks_for_the_versions_and_ends_with_the_probe() {
        let environment = Environment { name: "some", packages: &["msgpack==1.2.4"], probe: "import msgpack" };
        let check = environment.check();
        assert!(check.contains("assert importlib.metadata.version('msgpack') == '1.2.4'\n"), "{check}");
        assert!(check.ends_with("\nimport msgpack\n"), "{check}");
    }
}
