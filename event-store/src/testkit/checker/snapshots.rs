//! Holds loaded snapshots against what was saved and how far their streams had come.

use std::collections::HashMap;

use super::{Anomaly, Call, Checker, Operation};
use crate::event::StreamVersion;
use crate::name::StreamId;
use crate::snapshot::Snapshot;

/// A save: when it began, when it was acknowledged, what.
type Save<'h> = (u64, Option<u64>, &'h Snapshot);

impl Checker {
    pub(super) fn snapshots(&mut self, operations: &[Operation]) {
        let mut saves: HashMap<&StreamId, Vec<Save<'_>>> = HashMap::new();
        for operation in operations {
            if let Call::SaveSnapshot { snapshot, outcome } = &operation.call
                && outcome.as_ref().is_none_or(Result::is_ok)
            {
                let save = (operation.began, operation.ended, snapshot);
                saves.entry(&snapshot.stream).or_default().push(save);
            }
        }
        for (number, operation) in operations.iter().enumerate() {
            let Call::LoadSnapshot { stream, schema_version, snapshot: Ok(snapshot) } = &operation.call else {
                continue;
            };
            let Some(ended) = operation.ended else { continue };
            self.summary.snapshots += u64::from(snapshot.is_some());
            let saves = saves.get(stream).map_or(&[][..], Vec::as_slice);
            let outcome = match snapshot {
                Some(snapshot) => self.loaded(saves, snapshot, *schema_version, operation.began, ended),
                None => self.not_loaded(saves, *schema_version, operation.began),
            };
            if let Err(why) = outcome {
                self.anomalies.push(Anomaly::Snapshot { operation: number, why });
            }
        }
    }

    fn loaded(
        &self,
        saves: &[Save<'_>],
        snapshot: &Snapshot,
        schema: u16,
        began: u64,
        ended: u64,
    ) -> Result<(), String> {
        let latest = self.version_at(&snapshot.stream, self.moments.latest(ended));
        if snapshot.schema_version != schema {
            return Err(format!("schema {} for a reader of schema {schema}", snapshot.schema_version));
        }
        if !snapshot.is_usable(latest, schema) {
            return Err(format!("version {} of {} is ahead of {latest:?}", snapshot.version, snapshot.stream));
        }
        // The last save wins: one that was acknowledged before another began is gone.
        let candidate = saves.iter().any(|(save_began, acknowledged, saved)| {
            let is_replaced = |acknowledged: u64| {
                saves.iter().any(|(other, done, _)| *other > acknowledged && done.is_some_and(|done| done < began))
            };
            *saved == snapshot && *save_began < ended && !acknowledged.is_some_and(is_replaced)
        });
        if candidate { Ok(()) } else { Err(format!("version {} was not the last one saved", snapshot.version)) }
    }

    /// Nothing may come only where no save is certain to be the last, or where that one is not usable.
    fn not_loaded(&self, saves: &[Save<'_>], schema: u16, began: u64) -> Result<(), String> {
        let Some((_, _, last)) = saves.last() else { return Ok(()) };
        let ends_before = |save: &Save<'_>, time: u64| save.1.is_some_and(|ended| ended < time);
        let is_certain = saves.iter().all(|save| ends_before(save, began))
            && saves.windows(2).all(|pair| ends_before(&pair[0], pair[1].0));
        let head = self.version_at(&last.stream, self.moments.acknowledged(began));
        if is_certain && last.is_usable(head, schema) {
            return Err(format!("version {} of {} was not found", last.version, last.stream));
        }
        Ok(())
    }

    fn version_at(&self, stream: &StreamId, head: u64) -> Option<StreamVersion> {
        self.order.stream_len(stream, head).checked_sub(1).map(StreamVersion::new)
    }
}
