//! Checks the claims of a token whose signature was verified: its times, its issuer and audience, the digest of the body.

use std::borrow::Cow;

use ring::digest;
use serde_json::{Map, Value};
use subtle::ConstantTimeEq;

use super::{JwtRules, URL_OF_SOURCE, refused};
use crate::limits::JWT_LEEWAY;
use crate::model::Timestamp;
use crate::signature::{RequestParts, VerifyError};

impl JwtRules {
    pub(super) fn check_times(&self, claims: &Map<String, Value>, now: Timestamp) -> Result<(), VerifyError> {
        let number = |name: &str| match claims.get(name) {
            None => Ok(None),
            Some(value) => match value.as_f64().filter(|seconds| seconds.is_finite()) {
                Some(seconds) => Ok(Some(seconds)),
                None => Err(refused(format!("{name} is no number"))),
            },
        };
        let (now, leeway) = (now.as_millis() as f64 / 1000.0, JWT_LEEWAY.as_secs_f64());
        let (issued, end, begin) = (number("iat")?, number("exp")?, number("nbf")?);
        if end.is_some_and(|end| now >= end + leeway) {
            return Err(refused("it has expired (exp)"));
        }
        if begin.is_some_and(|begin| now < begin - leeway) {
            return Err(refused("it is not valid yet (nbf)"));
        }
        match (self.max_age_s, issued) {
            (None, _) if end.is_none() => Err(refused("it has no end (exp)")),
            (None, _) => Ok(()),
            (Some(_), None) => Err(refused("it has no time of issue (iat)")),
            (Some(allowed), Some(issued)) => {
                let seconds = (now - issued).abs().ceil() as u64;
                match seconds > allowed {
                    false => Ok(()),
                    true if issued < now => Err(VerifyError::TooOld { seconds, allowed }),
                    true => Err(VerifyError::TooNew { seconds, allowed }),
                }
            }
        }
    }

    pub(super) fn check_claims(
        &self,
        claims: &Map<String, Value>,
        request: &RequestParts<'_>,
    ) -> Result<(), VerifyError> {
        let with_query = || request.query.map(|query| format!("{}?{query}", request.url));
        let is = |given: &str, wanted: &str| {
            if wanted == URL_OF_SOURCE {
                given == request.url || with_query().is_some_and(|url| given == url)
            } else {
                given == wanted
            }
        };
        for (name, wanted) in &self.claims {
            let fits = |value: &Value| {
                let given = match value {
                    Value::String(text) => Cow::Borrowed(text.as_str()),
                    Value::Bool(_) | Value::Number(_) => Cow::Owned(value.to_string()),
                    _ => return false,
                };
                wanted.iter().any(|wanted| is(&given, wanted))
            };
            let found = match claims.get(&**name) {
                Some(Value::Array(many)) => many.iter().any(fits),
                Some(one) => fits(one),
                None => false,
            };
            if !found {
                return Err(refused(format!("the claim {name} is not the expected one")));
            }
        }
        Ok(())
    }

    pub(super) fn check_body(&self, claims: &Map<String, Value>, body: &[u8]) -> Result<(), VerifyError> {
        let Some((name, encoding)) = &self.body_hash else { return Ok(()) };
        let given = claims.get(&**name).and_then(Value::as_str).and_then(|text| encoding.decode(text.as_bytes()));
        let made = digest::digest(&digest::SHA256, body);
        if given.is_some_and(|given| given.as_slice().ct_eq(made.as_ref()).into()) {
            Ok(())
        } else {
            Err(refused(format!("the claim {name} is not the SHA-256 of the body")))
        }
    }
}
