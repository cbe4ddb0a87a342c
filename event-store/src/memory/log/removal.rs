//! What is removed of a log's blocks, and the log that follows when their memory is freed.
use std::collections::HashMap;
use std::sync::Arc;

use super::{Block, Entry, Extent, Hole, Log, LogWriter, Run};
use crate::batch::Header;
use crate::sync::{AtomicU32, HashSeed, Ordering};

/// Bytes to be removed before blocks are looked through for what can be freed: it takes as long as there are runs.
const FREE_EVERY: u64 = if cfg!(event_store_loom) { 0 } else { 64 << 10 };

/// What was removed and still takes memory.
#[derive(Default)]
pub(super) struct Removals {
    /// Of blocks that are not rewritten yet, by the address of the block.
    of_blocks: HashMap<usize, Removed, HashSeed>,
    /// Bytes that were removed since blocks were last looked through for what can be freed.
    bytes_since: u64,
}

/// What is removed of a block.
#[derive(Debug, Clone, Copy, Default)]
struct Removed {
    events: u32,
    bytes: u64,
}

impl LogWriter {
    /// Counts event `index` as removed; it is there and published.
    pub(crate) fn count_removed(&mut self, index: u32) {
        let view = self.log.view();
        let run = view.run(index, &mut 0);
        let header = run.event(index).header();
        let removed = self.removals.of_blocks.entry(run.block_address().addr()).or_default();
        removed.events += 1;
        let bytes = (header.data_end() - header.data_start() + size_of::<Header>()) as u64;
        removed.bytes += bytes;
        self.removals.bytes_since += bytes;
    }

    /// Bytes that removed events still take.
    pub(crate) fn removed_bytes(&self) -> u64 {
        self.removals.of_blocks.values().map(|removed| removed.bytes).sum()
    }

    /// Frees the memory of blocks of which at least half of the events are removed: what is left of one is copied. Returns the log that
    /// follows; `None` if there is nothing to free. The open block keeps what it has until another one is open.
    pub(crate) fn free(&mut self, is_removed: impl Fn(&Header) -> bool) -> Option<Arc<Log>> {
        if self.removals.bytes_since < FREE_EVERY {
            return None;
        }
        self.removals.bytes_since = 0;
        let view = self.log.view();
        let mut totals: HashMap<usize, u32, HashSeed> =
            self.removals.of_blocks.keys().map(|block| (*block, 0)).collect();
        let each_run = |visit: &mut dyn FnMut(Result<Run<'_>, Hole>)| {
            let (mut index, mut hint) = (0, 0);
            while index < view.len() {
                let run = view.run_or_hole(index, &mut hint);
                index = run.as_ref().map_or_else(|hole| hole.end, |run| run.first + run.headers.len() as u32);
                visit(run);
            }
        };
        each_run(&mut |run| {
            let total = run.ok().and_then(|run| Some((totals.get_mut(&run.block_address().addr())?, run)));
            if let Some((total, run)) = total {
                *total += run.headers.len() as u32;
            }
        });
        let open = Arc::as_ptr(&self.open.block).addr();
        let is_freed = |block: usize| {
            block != open
                && self.removals.of_blocks.get(&block).is_some_and(|removed| 2 * removed.events >= totals[&block])
        };
        let freed: Vec<usize> = self.removals.of_blocks.keys().copied().filter(|block| is_freed(*block)).collect();
        if freed.is_empty() {
            return None;
        }

        let next = Log { watermark: AtomicU32::new(0), extents: boxcar::Vec::new() };
        let mut in_hole = false;
        let mut place = |first: u32, extent: Option<(u32, Arc<Block>)>| {
            // Holes side by side are one.
            if extent.is_some() || !in_hole {
                in_hole = extent.is_none();
                let (offset, block) = extent.unzip();
                next.extents.push(Extent { first, offset: offset.unwrap_or(0), block });
            }
        };
        let mut index = 0;
        each_run(&mut |run| {
            let run = match run {
                Err(hole) => {
                    place(index, None);
                    index = hole.end;
                    return;
                }
                Ok(run) => run,
            };
            index = run.first + run.headers.len() as u32;
            if !freed.contains(&run.block_address().addr()) {
                place(run.first, Some((run.offset, Arc::clone(run.block))));
                return;
            }
            let block = Arc::new(kept(&run, &is_removed));
            let mut offset = 0;
            let mut was_removed = None;
            for (event, header) in (run.first..).zip(run.headers) {
                let removed = is_removed(header);
                if was_removed != Some(removed) {
                    place(event, (!removed).then(|| (offset, Arc::clone(&block))));
                    was_removed = Some(removed);
                }
                offset += u32::from(!removed);
            }
        });
        for block in freed {
            self.removals.of_blocks.remove(&block);
        }
        // Readers see the same events: they are all written.
        next.watermark.store(view.len(), Ordering::Release);
        self.log = Arc::new(next);
        Some(Arc::clone(&self.log))
    }
}

/// A block with the events of `run` that are not removed.
fn kept(run: &Run<'_>, is_removed: impl Fn(&Header) -> bool) -> Block {
    let (mut headers, mut data) = (Vec::new(), Vec::new());
    for header in run.headers.iter().filter(|header| !is_removed(header)) {
        let own = Entry { header, block: run.block }.data();
        let mut header = *header;
        header.move_data(data.len() as u32);
        headers.push(header);
        data.extend_from_slice(own);
    }
    headers.shrink_to_fit();
    data.shrink_to_fit();
    Block::adopt(headers, data)
}
