//! Any two texts as `traceparent` and `tracestate`: a context or a typed error, and a context reads back as it was.
#![no_main]

use libfuzzer_sys::fuzz_target;
use message_bus::TraceContext;

fuzz_target!(|texts: (&str, Option<&str>)| {
    if let Ok(context) = TraceContext::parse(texts.0, texts.1) {
        let again = TraceContext::parse(&context.to_string(), context.tracestate());
        assert_eq!(again.as_ref(), Ok(&context));
        assert!(context.trace_id() != 0 && context.parent_id() != 0);
    }
});
