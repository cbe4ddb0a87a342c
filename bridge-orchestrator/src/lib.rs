//! Durable workflows, state machines, a windowed reducer, routing and failure detection in one process, without a server.
#![forbid(unsafe_code)]
