//! The field `headers` of a webhook: the headers that it adds to its deliveries. This module checks names and values
//! and hides secret values.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::model::{HIDDEN, is_secret_header};
use crate::outbound::is_reserved_header;
use crate::service::fields::{DocumentFields, FieldUpdate, pointer};

/// Maximum number of headers of a webhook.
const HEADERS_MAX: usize = 32;
/// Maximum number of bytes of a header's value.
const HEADER_VALUE_BYTES_MAX: usize = 4_096;

impl DocumentFields {
    /// Reads `headers`. A patch is merged with the present headers. A value of `***` keeps a hidden value.
    pub(super) fn headers(
        &mut self,
        present: &[(HeaderName, HeaderValue)],
        merge: bool,
    ) -> FieldUpdate<Vec<(HeaderName, HeaderValue)>> {
        let given = match self.unread.remove("headers") {
            None => return FieldUpdate::Absent,
            Some(Value::Null) => return FieldUpdate::Null,
            Some(Value::Object(given)) => given,
            Some(_) => {
                self.wrong("/headers", "expected an object of names and values");
                return FieldUpdate::Absent;
            }
        };
        let mut headers: Vec<_> = if merge { present.to_vec() } else { Vec::new() };
        let mut seen = Vec::with_capacity(given.len());
        for (name, value) in given {
            let at = format!("/headers{}", pointer(&name));
            let name = match header_name(&name) {
                Ok(name) if !seen.contains(&name) => name,
                Ok(_) => {
                    self.wrong(at, "given twice; header names do not differ by case");
                    continue;
                }
                Err(detail) => {
                    self.wrong(at, detail);
                    continue;
                }
            };
            seen.push(name.clone());
            headers.retain(|(other, _)| *other != name);
            if value.is_null() && merge {
                continue;
            }
            match header_value(&name, &value, present) {
                Ok(value) => headers.push((name, value)),
                Err(detail) => self.wrong(at, detail),
            }
        }
        if headers.len() > HEADERS_MAX {
            self.wrong("/headers", format!("expected at most {HEADERS_MAX} headers"));
        }
        FieldUpdate::Value(headers)
    }
}

/// Parses the name of a header that a webhook may set. The error says why the name is refused.
pub(super) fn header_name(text: &str) -> Result<HeaderName, String> {
    let name = HeaderName::try_from(text).map_err(|_| "expected a header name: letters, digits and -".to_owned())?;
    if is_reserved_header(&name) {
        Err("this header is set by the server or by HTTP itself".to_owned())
    } else {
        Ok(name)
    }
}

fn header_value(
    name: &HeaderName,
    value: &Value,
    present: &[(HeaderName, HeaderValue)],
) -> Result<HeaderValue, String> {
    let secret = is_secret_header(name.as_str());
    let allowed = || format!("expected at most {HEADER_VALUE_BYTES_MAX} visible characters of ASCII, and spaces");
    let text = value.as_str().ok_or_else(allowed)?;
    if secret && text == HIDDEN {
        let kept = present.iter().find(|(other, _)| other == name).map(|(_, value)| value.clone());
        return kept.ok_or_else(|| format!("{HIDDEN} keeps a value, and there is none"));
    }
    if text.len() > HEADER_VALUE_BYTES_MAX || !text.bytes().all(|b| (0x20..0x7F).contains(&b)) {
        return Err(allowed());
    }
    let mut value = HeaderValue::from_str(text).map_err(|_| allowed())?;
    value.set_sensitive(secret);
    Ok(value)
}
