//! Suites that cross components, and those of what components stand on; the suites are in `benches/`.
