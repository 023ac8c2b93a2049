//! The headers that a webhook adds to its deliveries: which names it may set, what a value may hold, and how secret ones are kept.

use http::{HeaderName, HeaderValue};
use serde_json::Value;

use crate::model::{HIDDEN, is_secret_header};
use crate::outbound::is_reserved_header;
use crate::service::fields::{Fields, Given, pointer};

/// Headers of a webhook.
const HEADERS_MAX: usize = 32;
/// Bytes of a header's value.
const HEADER_VALUE_BYTES_MAX: usize = 4_096;

impl Fields {
    /// `headers`; in a patch they are merged with the present ones. `***` for a hidden value keeps it.
    pub(super) fn headers(
        &mut self,
        present: &[(HeaderName, HeaderValue)],
        merge: bool,
    ) -> Given<Vec<(HeaderName, HeaderValue)>> {
        let given = match self.left.remove("headers") {
            None => return Given::Absent,
            Some(Value::Null) => return Given::Null,
            Some(Value::Object(given)) => given,
            Some(_) => {
                self.wrong("/headers", "expected an object of names and values");
                return Given::Absent;
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
        Given::Value(headers)
    }
}

/// The name of a header that a webhook may set, or why it is none.
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
