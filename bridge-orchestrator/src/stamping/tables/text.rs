//! Texts as PostgreSQL can hold them: every character but one.

use std::borrow::Cow;

use event_store::ApplyError;
use serde::Serialize;
use serde_json::Value;

/// `text` with U+FFFD in the place of U+0000.
pub(super) fn text(text: &str) -> Cow<'_, str> {
    if text.contains('\0') { Cow::Owned(text.replace('\0', "\u{fffd}")) } else { Cow::Borrowed(text) }
}

/// `value` as JSON that a `jsonb` can hold.
pub(super) fn json<T: Serialize + ?Sized>(value: &T) -> Result<String, ApplyError> {
    let mut value = serde_json::to_value(value)?;
    clean(&mut value);
    Ok(value.to_string())
}

fn clean(value: &mut Value) {
    match value {
        Value::String(found) => {
            if let Cow::Owned(cleaned) = text(found) {
                *found = cleaned;
            }
        }
        Value::Array(values) => values.iter_mut().for_each(clean),
        Value::Object(fields) => {
            if fields.keys().any(|key| key.contains('\0')) {
                *fields =
                    std::mem::take(fields).into_iter().map(|(key, value)| (text(&key).into_owned(), value)).collect();
            }
            fields.values_mut().for_each(clean);
        }
        Value::Null | Value::Bool(_) | Value::Number(_) => {}
    }
}
