//! Header fields as they lie in a payload.

use bincode::Encode;
use bincode::enc::Encoder;
use bincode::error::EncodeError;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue};

use crate::trace::redact::Redactor;
use crate::trace::wire::Malformed;

/// Header fields in order, a name for each value.
pub(super) type Fields = Vec<(String, Vec<u8>)>;

/// [`Fields`] where they lie.
pub(super) type FieldsIn<'a> = Vec<(&'a str, &'a [u8])>;

/// What is laid out as [`Fields`].
pub(super) struct FieldsOf<'a> {
    pub(super) headers: &'a HeaderMap,
    /// What replaces values that are credentials, where they are not replaced yet.
    pub(super) redactor: Option<&'a Redactor>,
}

/// Returns the header map of fields.
pub(super) fn headers(fields: Fields) -> Result<HeaderMap, Malformed> {
    let mut headers = HeaderMap::with_capacity(fields.len().min(1 << 12));
    for (name, value) in fields {
        let name = HeaderName::from_bytes(name.as_bytes())
            .map_err(|_| Malformed("a header name is not one"))?;
        let value = HeaderValue::from_maybe_shared(Bytes::from(value))
            .map_err(|_| Malformed("a header value is not one"))?;
        headers.try_append(name, value).map_err(|_| Malformed("a head has too many fields"))?;
    }
    Ok(headers)
}

// === impl FieldsOf ===

impl<'a> FieldsOf<'a> {
    /// Fields that are what they are to be in a trace.
    pub(super) fn whole(headers: &'a HeaderMap) -> Self {
        Self { headers, redactor: None }
    }
}

impl Encode for FieldsOf<'_> {
    fn encode<E: Encoder>(&self, encoder: &mut E) -> Result<(), EncodeError> {
        self.headers.len().encode(encoder)?;
        for (name, value) in self.headers {
            let replaced = self.redactor.and_then(|redactor| redactor.replaced(name, value));
            let value = replaced.as_ref().unwrap_or(value);
            (name.as_str(), value.as_bytes()).encode(encoder)?;
        }
        Ok(())
    }
}
