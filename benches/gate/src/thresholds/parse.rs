//! From text to limits. Every error carries its place, and all are reported at once.

use std::ops::Range;
use std::path::{Path, PathBuf};
use std::time::Duration;

use harness::metric::{Dimension, Direction, Metric};
use toml_edit::{Document, Item, TableLike, Value};

use super::{
    BenchLimits, Class, ConfigError, Limit, Pattern, Place, Profile, SeedFile, Settings, Thresholds, UnknownBench,
    Versus, Waiver, did_you_mean,
};
use crate::quantity::{self, Bound, Operator};

pub(super) fn parse(text: &str, path: &Path, today: &str) -> Result<Thresholds, Vec<ConfigError>> {
    let mut reader = Reader { text, path, today, errors: Vec::new() };
    let document = match Document::parse(text) {
        Ok(document) => document,
        Err(error) => {
            reader.error(error.span(), error.message().to_owned());
            return Err(reader.errors);
        }
    };
    let thresholds = reader.document(document.as_table());
    reader.errors.sort();
    if reader.errors.is_empty() { Ok(thresholds) } else { Err(reader.errors) }
}

struct Reader<'t> {
    text: &'t str,
    path: &'t Path,
    today: &'t str,
    errors: Vec<ConfigError>,
}

/// A key and its value, with the place of the key.
struct Entry<'a> {
    name: &'a str,
    place: Option<Range<usize>>,
    item: &'a Item,
}

impl Entry<'_> {
    fn span(&self) -> Option<Range<usize>> {
        self.item.span().or_else(|| self.place.clone())
    }
}

impl Reader<'_> {
    fn place(&self, span: Option<Range<usize>>) -> Place {
        let before = &self.text[..span.map_or(0, |span| span.start).min(self.text.len())];
        let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
        Place { line: before.matches('\n').count() + 1, column: before[line_start..].chars().count() + 1 }
    }

    fn error(&mut self, span: Option<Range<usize>>, message: impl Into<String>) {
        let place = self.place(span);
        self.errors.push(ConfigError { place, path: self.path.to_owned(), message: message.into() });
    }

    /// The entries of a table whose keys must be among `known`.
    fn entries<'a>(&mut self, table: &'a dyn TableLike, known: &[&str], what: &str) -> Vec<Entry<'a>> {
        let entries = all_entries(table);
        let (good, bad): (Vec<_>, Vec<_>) = entries.into_iter().partition(|entry| known.contains(&entry.name));
        for entry in bad {
            let hint = did_you_mean(entry.name, known.iter().copied()).map(|hint| format!("; did you mean `{hint}`?"));
            self.error(entry.place, format!("unknown key `{}` in {what}{}", entry.name, hint.unwrap_or_default()));
        }
        good
    }

    fn table<'a>(&mut self, entry: &Entry<'a>) -> Option<&'a dyn TableLike> {
        let table = entry.item.as_table_like();
        if table.is_none() {
            self.error(entry.span(), format!("`{}` is a table", entry.name));
        }
        table
    }

    fn text<'a>(&mut self, entry: &Entry<'a>) -> Option<&'a str> {
        let text = entry.item.as_str();
        if text.is_none() {
            self.error(entry.span(), format!("`{}` is a text", entry.name));
        }
        text
    }

    fn document(&mut self, root: &dyn TableLike) -> Thresholds {
        let mut thresholds = Thresholds {
            path: self.path.to_owned(),
            settings: Settings::default(),
            profiles: Vec::new(),
            benches: Vec::new(),
        };
        let mut has_version = false;
        for entry in self.entries(root, &["version", "gate", "profile", "bench"], "the file") {
            match entry.name {
                "version" => {
                    has_version = true;
                    if entry.item.as_integer() != Some(1) {
                        self.error(entry.span(), "this gate reads `version = 1`");
                    }
                }
                "gate" => {
                    if let Some(table) = self.table(&entry) {
                        self.settings(table, &mut thresholds.settings);
                    }
                }
                "profile" => {
                    let tables = self.table(&entry).map(all_entries).unwrap_or_default();
                    thresholds.profiles.extend(tables.iter().filter_map(|profile| self.profile(profile)));
                }
                _ => {
                    let tables = self.table(&entry).map(all_entries).unwrap_or_default();
                    thresholds.benches.extend(tables.iter().filter_map(|bench| self.bench(bench)));
                }
            }
        }
        if !has_version {
            self.error(None, "the file begins with `version = 1`");
        }
        thresholds
    }

    fn settings(&mut self, table: &dyn TableLike, settings: &mut Settings) {
        const KEYS: [&str; 6] = ["warn_band", "confidence", "unknown_bench", "on_missing", "on_inconclusive", "seeds"];
        for entry in self.entries(table, &KEYS, "[gate]") {
            match entry.name {
                "warn_band" => settings.warn_band = self.share(&entry).unwrap_or(settings.warn_band),
                // Measurement files carry intervals at one level; a promise of another could not be kept.
                "confidence" if self.share(&entry).is_some_and(|level| (level - 0.95).abs() > 1e-9) => {
                    self.error(entry.span(), "intervals are measured at a confidence of \"95%\"");
                }
                "unknown_bench" => {
                    let choices =
                        [("ignore", UnknownBench::Ignore), ("warn", UnknownBench::Warn), ("fail", UnknownBench::Fail)];
                    settings.unknown_bench = self.choice(&entry, &choices).unwrap_or(settings.unknown_bench);
                }
                "on_missing" => {
                    settings.missing_fails = self.choice(&entry, &[("exit-3", true), ("warn", false)]).unwrap_or(true);
                }
                "on_inconclusive" => {
                    settings.inconclusive_fails =
                        self.choice(&entry, &[("exit-3", true), ("warn", false)]).unwrap_or(true);
                }
                "seeds" => settings.seeds = self.seed_file(&entry),
                _ => {}
            }
        }
    }

    fn seed_file(&mut self, entry: &Entry<'_>) -> Option<SeedFile> {
        let table = self.table(entry)?;
        let (mut file, mut due) = (None, Vec::new());
        for key in self.entries(table, &["file", "due"], "`seeds`") {
            match key.name {
                "file" => file = self.text(&key).map(PathBuf::from),
                _ => due = self.patterns(&key),
            }
        }
        let place = self.place(entry.place.clone());
        if file.is_none() {
            self.error(entry.span(), "`seeds` names its `file`");
        }
        Some(SeedFile { file: file?, due, place })
    }

    fn profile(&mut self, entry: &Entry<'_>) -> Option<Profile> {
        let mut profile = Profile::default_for(entry.name);
        let table = self.table(entry)?;
        for key in self.entries(table, &["include", "exclude", "budget"], "a profile") {
            match key.name {
                "include" => profile.include = self.patterns(&key),
                "exclude" => profile.exclude = self.patterns(&key),
                _ => {
                    let seconds = self.text(&key).map(|text| quantity::parse(text, Dimension::Time));
                    match seconds {
                        Some(Ok(nanoseconds)) => profile.budget = Duration::from_nanos(nanoseconds as u64),
                        Some(Err(error)) => self.error(key.span(), error.to_string()),
                        None => {}
                    }
                }
            }
        }
        Some(profile)
    }

    fn bench(&mut self, entry: &Entry<'_>) -> Option<BenchLimits> {
        const KEYS: [&str; 6] = ["seeds", "seed", "own", "versus", "rationale", "waive"];
        let pattern = match Pattern::new(entry.name) {
            Ok(pattern) => pattern,
            Err(error) => {
                self.error(entry.place.clone(), error.to_string());
                return None;
            }
        };
        let mut bench = BenchLimits {
            pattern,
            place: self.place(entry.place.clone().or_else(|| entry.item.span())),
            seeds: Vec::new(),
            limits: Vec::new(),
            versus: Vec::new(),
            rationale: None,
            waiver: None,
        };
        let table = self.table(entry)?;
        let errors_before = self.errors.len();
        let mut waive = None;
        for key in self.entries(table, &KEYS, "a benchmark") {
            match key.name {
                "seeds" => bench.seeds = self.texts(&key),
                "seed" => bench.limits.extend(self.limits(&key, Class::Seed)),
                "own" => bench.limits.extend(self.limits(&key, Class::Own)),
                "versus" => bench.versus = self.comparisons(&key, &bench.pattern),
                "rationale" => bench.rationale = self.text(&key).map(str::to_owned),
                _ => waive = Some(key),
            }
        }
        if let Some(waive) = waive {
            bench.waiver = self.waiver(&waive, Some(1.0));
            if bench.limits.is_empty() && self.errors.len() == errors_before {
                self.error(waive.place, "`waive` of a table is for limits in figures; a comparison has its own");
            }
        }
        // A limit that cannot be read has its own error; a table without any would judge nothing.
        let is_empty = bench.limits.is_empty() && bench.versus.is_empty();
        if is_empty && self.errors.len() == errors_before {
            self.error(entry.place.clone().or_else(|| entry.item.span()), format!("`{}` states no limit", entry.name));
        }
        Some(bench)
    }

    /// `{ latency.mean = "2us", allocs.count = 1 }`: dotted keys are tables in tables.
    fn limits(&mut self, entry: &Entry<'_>, class: Class) -> Vec<Limit> {
        let Some(table) = self.table(entry) else { return Vec::new() };
        let mut limits = Vec::new();
        if table.is_empty() {
            self.error(entry.span(), format!("`{}` states no limit", entry.name));
        }
        for key in all_entries(table) {
            let nested = key.item.as_table_like().filter(|_| key.name.parse::<Metric>().is_err());
            match nested {
                Some(nested) => {
                    if nested.is_empty() {
                        self.error(key.span(), format!("`{}` states no limit", key.name));
                    }
                    for inner in all_entries(nested) {
                        let name = format!("{}.{}", key.name, inner.name);
                        limits.extend(self.limit(&name, &inner, class));
                    }
                }
                None => limits.extend(self.limit(key.name, &key, class)),
            }
        }
        limits
    }

    fn limit(&mut self, name: &str, entry: &Entry<'_>, class: Class) -> Option<Limit> {
        let Ok(metric) = name.parse::<Metric>() else {
            let hint =
                did_you_mean(name, Metric::all().map(Metric::name)).map(|hint| format!("; did you mean `{hint}`?"));
            self.error(entry.place.clone(), format!("`{name}` is not a metric{}", hint.unwrap_or_default()));
            return None;
        };
        let place = self.place(entry.place.clone());
        if let Some(table) = entry.item.as_table_like() {
            return self.table_limit(metric, entry, table, class, place);
        }
        let bound = self.bound(metric, entry)?;
        Some(Limit::new(class, metric, bound, place))
    }

    /// The two metrics whose limit is a table.
    fn table_limit(
        &mut self,
        metric: Metric,
        entry: &Entry<'_>,
        table: &dyn TableLike,
        class: Class,
        place: Place,
    ) -> Option<Limit> {
        match metric {
            Metric::ScalingSpeedup => {
                let (mut least, mut threads) = (None, None);
                for key in self.entries(table, &["threads", "min"], "`scaling.speedup`") {
                    match key.name {
                        "threads" => {
                            threads = key.item.as_integer().and_then(|n| u64::try_from(n).ok()).filter(|n| *n >= 2);
                            if threads.is_none() {
                                self.error(key.span(), "`threads` is a whole number from 2");
                            }
                        }
                        _ => least = self.bound(metric, &key),
                    }
                }
                if least.is_none() {
                    self.error(entry.span(), "`scaling.speedup` states its `min`");
                }
                Some(Limit { threads, ..Limit::new(class, metric, least?, place) })
            }
            Metric::MemoryGrowthPerHour => {
                let (mut warn, mut fail, mut rate) = (None, None, None);
                for key in self.entries(table, &["warn", "fail", "ops_per_second"], "`memory.growth_per_hour`") {
                    match key.name {
                        "warn" => warn = self.bytes_an_hour(&key),
                        "fail" => fail = self.bytes_an_hour(&key),
                        _ => {
                            let number = key.item.as_float().or_else(|| key.item.as_integer().map(|n| n as f64));
                            rate = number.filter(|n| n.is_finite() && *n > 0.0);
                            if rate.is_none() {
                                self.error(key.span(), "`ops_per_second` is a number above 0");
                            }
                        }
                    }
                }
                let Some(fail) = fail else {
                    self.error(entry.span(), "`memory.growth_per_hour` states its `fail`");
                    return None;
                };
                let bound = Bound { operator: Operator::AtMost, value: fail };
                Some(Limit { monitor_above: warn, ops_per_second: rate, ..Limit::new(class, metric, bound, place) })
            }
            _ => {
                self.error(entry.span(), format!("`{metric}` is one limit, not a table"));
                None
            }
        }
    }

    /// The seeds write `10MB` where an hour is meant.
    fn bytes_an_hour(&mut self, entry: &Entry<'_>) -> Option<f64> {
        let text = self.text(entry)?;
        match quantity::parse(text, Dimension::BytesPerHour).or_else(|_| quantity::parse(text, Dimension::Bytes)) {
            Ok(value) => Some(value),
            Err(error) => {
                self.error(entry.span(), error.to_string());
                None
            }
        }
    }

    fn bound(&mut self, metric: Metric, entry: &Entry<'_>) -> Option<Bound> {
        let text = match entry.item.as_value() {
            Some(Value::String(text)) => text.value().clone(),
            Some(Value::Integer(number)) => number.value().to_string(),
            // Nothing is nothing, with or without a sign.
            Some(Value::Float(number)) => (number.value() + 0.0).to_string(),
            _ => {
                self.error(entry.span(), format!("`{metric}` is a text or a number"));
                return None;
            }
        };
        match Bound::parse(&text, metric) {
            Ok(bound) => Some(bound),
            Err(error) => {
                self.error(entry.span(), format!("{metric}: {error}"));
                None
            }
        }
    }

    fn comparisons(&mut self, entry: &Entry<'_>, bench: &Pattern) -> Vec<Versus> {
        type Comparison<'a> = (Option<&'a dyn TableLike>, Option<Range<usize>>);
        let comparisons: Vec<Comparison<'_>> = if let Some(array) = entry.item.as_array() {
            array.iter().map(|v| (v.as_inline_table().map(|table| table as &dyn TableLike), v.span())).collect()
        } else if let Some(array) = entry.item.as_array_of_tables() {
            array.iter().map(|table| (Some(table as &dyn TableLike), table.span())).collect()
        } else {
            vec![(None, entry.span())]
        };
        if comparisons.is_empty() {
            self.error(entry.span(), "`versus` states no limit");
        }
        let mut versus = Vec::new();
        for (table, span) in comparisons {
            match table {
                Some(table) => {
                    let comparison = self.comparison(table, span.clone());
                    self.check_rival(comparison.as_ref(), &versus, span, bench);
                    versus.extend(comparison);
                }
                None => self.error(span, "`versus` is a list of tables"),
            }
        }
        versus
    }

    fn comparison(&mut self, table: &dyn TableLike, span: Option<Range<usize>>) -> Option<Versus> {
        let (mut of, mut metric, mut bounds, mut waiver) = (None, None, Vec::new(), None);
        for key in self.entries(table, &["of", "metric", "at_least_times", "at_most_times", "waive"], "`versus`") {
            match key.name {
                "of" => of = self.text(&key).map(str::to_owned),
                "metric" => {
                    let name = self.text(&key)?;
                    metric = name.parse::<Metric>().ok().filter(|metric| metric.direction() != Direction::Stated);
                    if metric.is_none() {
                        self.error(key.span(), format!("`{name}` is not a metric with a direction"));
                    }
                }
                "waive" => {
                    waiver = self.waiver(&key, None).map(|waiver| (waiver, key.span()));
                }
                name => {
                    let number = key.item.as_float().or_else(|| key.item.as_integer().map(|n| n as f64));
                    match number.filter(|n| n.is_finite() && *n > 0.0) {
                        Some(times) if name == "at_least_times" => {
                            bounds.push((times, format!("at least {times} times as good")));
                        }
                        Some(times) => bounds.push((1.0 / times, format!("at most {times} times"))),
                        None => self.error(key.span(), format!("`{name}` is a number above 0")),
                    }
                }
            }
        }
        if of.is_none() || metric.is_none() {
            self.error(span.clone(), "`versus` names `of` and `metric`");
        }
        let place = self.place(span.clone());
        if let (Some((Waiver { down_to: Some(least), .. }, span)), [(at_least, _)]) = (&waiver, &bounds[..])
            && least >= at_least
        {
            self.error(span.clone(), format!("`down_to` is a ratio below the limit's {at_least}"));
        }
        let waiver = waiver.map(|(waiver, _)| waiver);
        match <[_; 1]>::try_from(bounds) {
            Ok([(at_least, wording)]) => Some(Versus { of: of?, metric: metric?, at_least, wording, waiver, place }),
            Err(_) => {
                self.error(span, "`versus` states one of `at_least_times` and `at_most_times`");
                None
            }
        }
    }

    /// A limit against a rival is judged by `peers`, which compares mean latencies of one benchmark under one name.
    fn check_rival(&mut self, versus: Option<&Versus>, others: &[Versus], span: Option<Range<usize>>, bench: &Pattern) {
        let Some(Versus { of, metric, .. }) = versus.filter(|versus| versus.of.starts_with("peers/")) else { return };
        let rival = of.strip_prefix("peers/").and_then(|of| of.strip_prefix(bench.as_str())?.strip_prefix('/'));
        if bench.is_glob() {
            self.error(span, "a rival is compared with one benchmark, not with a glob");
        } else if !rival.is_some_and(|rival| !rival.is_empty() && !rival.contains('/')) {
            let expected = format!("peers/{}/", bench.as_str());
            self.error(span, format!("`{of}` is no rival of this benchmark: `{expected}` and the rival's name"));
        } else if *metric != Metric::LatencyMean {
            self.error(span, format!("rivals are compared by latency.mean, not by {metric}"));
        } else if others.iter().any(|other| other.of == *of) {
            self.error(span, format!("`{of}` has a limit already"));
        }
    }

    /// `most`: what `down_to` may be, if not anything.
    fn waiver(&mut self, entry: &Entry<'_>, most: Option<f64>) -> Option<Waiver> {
        let (mut until, mut reason, mut down_to) = (None, None, None);
        let table = self.table(entry)?;
        for key in self.entries(table, &["until", "reason", "down_to"], "`waive`") {
            match key.name {
                "down_to" => {
                    let number = key.item.as_float().or_else(|| key.item.as_integer().map(|n| n as f64));
                    down_to = number.filter(|n| n.is_finite() && *n > 0.0 && most.is_none_or(|most| *n <= most));
                    if down_to.is_none() {
                        let most = most.map(|most| format!(", at most {most}")).unwrap_or_default();
                        self.error(key.span(), format!("`down_to` is a number above 0{most}"));
                    }
                }
                "until" => {
                    let day = key.item.as_datetime().map(ToString::to_string);
                    until = day.or_else(|| self.text(&key).map(str::to_owned)).map(|day| (day, key.span()));
                }
                _ => reason = self.text(&key).map(str::to_owned),
            }
        }
        let (Some((until, span)), Some(reason)) = (until, reason) else {
            self.error(entry.span(), "`waive` states `until` and `reason`");
            return None;
        };
        let is_plain = |text: &str| text.len() == 10 && text.split('-').map(str::len).eq([4, 2, 2]);
        let day = |text: &str| text.parse::<jiff::civil::Date>().ok().filter(|_| is_plain(text));
        match (day(&until), day(self.today)) {
            (Some(until), Some(today)) if until >= today => {}
            (Some(_), Some(_)) => self.error(span, format!("the waiver expired on {until}")),
            _ => self.error(span, format!("`{until}` is no day (YYYY-MM-DD)")),
        }
        Some(Waiver { until, reason, down_to })
    }

    fn share(&mut self, entry: &Entry<'_>) -> Option<f64> {
        match quantity::parse(self.text(entry)?, Dimension::Share) {
            Ok(share) => Some(share),
            Err(error) => {
                self.error(entry.span(), error.to_string());
                None
            }
        }
    }

    fn choice<T: Copy>(&mut self, entry: &Entry<'_>, choices: &[(&str, T)]) -> Option<T> {
        let text = self.text(entry)?;
        let chosen = choices.iter().find(|(name, _)| *name == text).map(|(_, value)| *value);
        if chosen.is_none() {
            let names: Vec<&str> = choices.iter().map(|(name, _)| *name).collect();
            self.error(entry.span(), format!("`{}` is one of {}", entry.name, names.join(", ")));
        }
        chosen
    }

    fn texts(&mut self, entry: &Entry<'_>) -> Vec<(String, Place)> {
        let Some(array) = entry.item.as_array() else {
            self.error(entry.span(), format!("`{}` is a list of texts", entry.name));
            return Vec::new();
        };
        let mut texts = Vec::new();
        for value in array {
            match value.as_str() {
                Some(text) => texts.push((text.to_owned(), self.place(value.span()))),
                None => self.error(value.span(), format!("`{}` is a list of texts", entry.name)),
            }
        }
        texts
    }

    fn patterns(&mut self, entry: &Entry<'_>) -> Vec<Pattern> {
        let mut patterns = Vec::new();
        for (text, _) in self.texts(entry) {
            match Pattern::new(&text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.error(entry.span(), error.to_string()),
            }
        }
        patterns
    }
}

fn all_entries(table: &dyn TableLike) -> Vec<Entry<'_>> {
    let with_place = |(name, item)| {
        let place = table.get_key_value(name).and_then(|(key, _)| key.span());
        Entry { name, place, item }
    };
    table.iter().map(with_place).collect()
}
