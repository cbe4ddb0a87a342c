//! Crate usearch 2.26, a byte a dimension.

use std::process::ExitCode;

use memory_store_contest::{Contest, Setting};
use memory_store_usearch::{Graph, Kept, ScalarKind};

fn main() -> ExitCode {
    Contest::of("usearch-i8").finds::<Graph<I8>>().appends::<Graph<I8>>().run()
}

struct I8;

impl Kept for I8 {
    const KIND: ScalarKind = ScalarKind::I8;
    const FILE: &'static str = "usearch-i8.graph";
    const NOTE: &'static str = "usearch, i8, cosine, connectivity 16, expansion 128 when adding, one thread";
    const SETTINGS: &'static [Setting] = &[
        Setting { expansion: 12, fetch: 10 },
        Setting { expansion: 16, fetch: 10 },
        Setting { expansion: 24, fetch: 20 },
        Setting { expansion: 32, fetch: 20 },
        Setting { expansion: 48, fetch: 20 },
        Setting { expansion: 64, fetch: 20 },
        Setting { expansion: 96, fetch: 20 },
        Setting { expansion: 128, fetch: 20 },
        Setting { expansion: 192, fetch: 20 },
        Setting { expansion: 256, fetch: 20 },
        Setting { expansion: 384, fetch: 20 },
        Setting { expansion: 512, fetch: 20 },
        Setting { expansion: 768, fetch: 20 },
        Setting { expansion: 1024, fetch: 20 },
    ];
}
