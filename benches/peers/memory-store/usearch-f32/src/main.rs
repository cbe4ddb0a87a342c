//! Crate usearch 2.26, vectors as they are.

use std::process::ExitCode;

use memory_store_contest::{Contest, Setting};
use memory_store_usearch::{Graph, Kept, ScalarKind};

fn main() -> ExitCode {
    Contest::of("usearch-f32").finds::<Graph<F32>>().appends::<Graph<F32>>().run()
}

struct F32;

impl Kept for F32 {
    const KIND: ScalarKind = ScalarKind::F32;
    const FILE: &'static str = "usearch-f32.graph";
    const NOTE: &'static str = "usearch, f32, cosine, connectivity 16, expansion 128 when adding, one thread";
    const SETTINGS: &'static [Setting] = &[
        Setting { expansion: 12, fetch: 10 },
        Setting { expansion: 16, fetch: 10 },
        Setting { expansion: 24, fetch: 10 },
        Setting { expansion: 32, fetch: 10 },
        Setting { expansion: 48, fetch: 10 },
        Setting { expansion: 64, fetch: 10 },
        Setting { expansion: 96, fetch: 10 },
        Setting { expansion: 128, fetch: 10 },
        Setting { expansion: 192, fetch: 10 },
        Setting { expansion: 256, fetch: 10 },
        Setting { expansion: 384, fetch: 10 },
        Setting { expansion: 512, fetch: 10 },
        Setting { expansion: 768, fetch: 10 },
        Setting { expansion: 1024, fetch: 10 },
    ];
}
