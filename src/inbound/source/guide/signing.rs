//! The signature scheme of a source in the form that the example programs of the guide need.

use std::fmt::Write as _;

use super::Source;
use crate::limits::TOLERANCE_SECONDS_DEFAULT;
use crate::signature::{OneOrMany, RawScheme};
use crate::template::{Template, TemplatePart};

/// A part of the signed content, or of the header value with the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum SigningPart {
    Text(String),
    Body,
    Time,
    /// The delivery id, which is also sent in a header.
    Id,
    Method,
    Url,
    Signature,
}

/// The format of a time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeFormat {
    Seconds,
    Millis,
    Rfc3339,
}

/// How the text of the secret is decoded to the bytes of the key.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyFormat {
    Utf8,
    Hex,
    Base64,
    Whsec,
}

/// The steps to sign a request with an HMAC in a header.
#[derive(Debug)]
pub(super) struct SigningSteps {
    /// The hash algorithm: `sha1`, `sha256` or `sha512`.
    pub(super) alg: &'static str,
    pub(super) key: KeyFormat,
    pub(super) is_base64: bool,
    pub(super) signed: Vec<SigningPart>,
    pub(super) header: String,
    /// The parts of the header value.
    pub(super) value: Vec<SigningPart>,
    pub(super) time: Option<TimeFormat>,
    /// The header for the time, if the time is not in the signature header.
    pub(super) time_header: Option<String>,
}

impl SigningSteps {
    /// Returns `None` if the scheme is not an HMAC in a header, or signs values that the example programs do not have.
    pub(super) fn try_new(source: &Source, scheme: &RawScheme) -> Option<Self> {
        if scheme.scheme != "hmac" || scheme.each.is_some() {
            return None;
        }
        let alg = match scheme.alg.as_deref() {
            None | Some("sha256") => "sha256",
            Some("sha1") => "sha1",
            Some("sha512") => "sha512",
            Some(_) => return None,
        };
        let key = match scheme.key.as_deref() {
            None | Some("utf8") => KeyFormat::Utf8,
            Some("hex") => KeyFormat::Hex,
            Some("base64") => KeyFormat::Base64,
            Some("whsec") => KeyFormat::Whsec,
            Some(_) => return None,
        };
        let is_base64 = match scheme.encoding.as_deref() {
            None | Some("hex") => false,
            Some("base64") => true,
            Some(_) => return None,
        };
        let signed = pieces(scheme.signed.as_deref().unwrap_or("{body}"))?;
        let header = header(first(scheme.sig.as_ref())?)?.to_owned();
        let prefix = scheme.prefix.clone().unwrap_or_default();
        let mut value = vec![SigningPart::Text(prefix), SigningPart::Signature];
        let (mut time, mut time_header) = (None, None);
        if let Some(place) = scheme.time.as_deref() {
            time = Some(match scheme.unit.as_deref() {
                None | Some("s") => TimeFormat::Seconds,
                Some("ms") => TimeFormat::Millis,
                Some("rfc3339") => TimeFormat::Rfc3339,
                Some(_) => return None,
            });
            match (place.strip_prefix("sig:"), header_of(place)) {
                (Some(mark), _) => {
                    let split = scheme.split.clone().unwrap_or_else(|| ",".to_owned());
                    value.splice(
                        0..0,
                        [SigningPart::Text(mark.to_owned()), SigningPart::Time, SigningPart::Text(split)],
                    );
                }
                (None, Some(name)) => time_header = Some(name),
                (None, None) => return None,
            }
        }
        // The id must be in exactly one header, which the example request contains.
        let has_id = source.recipe.id.len() == 1 && header_of(&source.recipe.id[0].to_string()).is_some();
        let fits =
            (time.is_some() || !signed.contains(&SigningPart::Time)) && (has_id || !signed.contains(&SigningPart::Id));
        value.retain(|piece| *piece != SigningPart::Text(String::new()));
        fits.then_some(Self { alg, key, is_base64, signed, header, value, time, time_header })
    }
}

/// Splits a template such as `{time}.{body}` into parts. Returns `None` if a placeholder has no value in the programs.
fn pieces(template: &str) -> Option<Vec<SigningPart>> {
    let placeholder = |name: &str| match name {
        "body" => Ok(SigningPart::Body),
        "time" => Ok(SigningPart::Time),
        "id" => Ok(SigningPart::Id),
        "method" => Ok(SigningPart::Method),
        "url" => Ok(SigningPart::Url),
        _ => Err(()),
    };
    let piece = |part| match part {
        TemplatePart::Text(text) => SigningPart::Text(text.into_string()),
        TemplatePart::Placeholder(piece) => piece,
    };
    Some(Template::parse(template, placeholder).ok()?.into_parts().into_iter().map(piece).collect())
}

pub(super) fn first(places: Option<&OneOrMany>) -> Option<&str> {
    match places? {
        OneOrMany::One(place) => Some(place),
        OneOrMany::Many(places) => places.first().map(String::as_str),
    }
}

/// The first header name of a location. Returns `None` if the location is not a header.
pub(super) fn header(place: &str) -> Option<&str> {
    place.strip_prefix("header:")?.split('|').next()
}

fn header_of(place: &str) -> Option<String> {
    header(place).map(str::to_owned)
}

/// Writes a table that describes the scheme.
pub(super) fn table(to: &mut String, scheme: &RawScheme, source: &Source) -> std::fmt::Result {
    let places = |places: Option<&OneOrMany>| match places {
        None => None,
        Some(OneOrMany::One(place)) => Some(place.clone()),
        Some(OneOrMany::Many(places)) => Some(places.join(", ")),
    };
    let method = match (&*scheme.scheme, scheme.alg.as_deref().unwrap_or("sha256")) {
        ("hmac", alg) => format!("HMAC-{}", alg.to_ascii_uppercase()),
        ("hash", alg) => format!("{} over a text with the secret in it", alg.to_ascii_uppercase()),
        ("ed25519", _) => "Ed25519".to_owned(),
        ("ecdsa-p256", _) => "ECDSA P-256 with SHA-256".to_owned(),
        ("none", _) => "nothing is signed; whoever knows the URL is believed".to_owned(),
        (other, _) => other.to_owned(),
    };
    let has_time = scheme.time.is_some();
    let ids = source.recipe.id.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    writeln!(to, "| what | how |\n|---|---|\n| method | {method} |")?;
    for (what, how) in [
        ("stands at", places(scheme.sig.as_ref())),
        ("begins with", scheme.prefix.clone()),
        ("encoding", scheme.encoding.clone()),
        ("signed bytes", scheme.signed.clone().or_else(|| (scheme.scheme == "hmac").then(|| "{body}".to_owned()))),
        ("time at", scheme.time.clone()),
        ("time in", has_time.then(|| scheme.unit.clone().unwrap_or_else(|| "s".to_owned()))),
        ("id at", Some(ids).filter(|ids| !ids.is_empty())),
        ("the secret is", scheme.key.clone()),
    ] {
        if let Some(how) = how {
            writeln!(to, "| {what} | `{}` |", how.replace('|', "\\|"))?;
        }
    }
    if has_time {
        writeln!(to, "| the time may be off by | {} s |", scheme.tolerance.unwrap_or(TOLERANCE_SECONDS_DEFAULT))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_template_is_split_into_parts() {
        let text = |text: &str| SigningPart::Text(text.to_owned());
        assert_eq!(pieces("{time}.{body}"), Some(vec![SigningPart::Time, text("."), SigningPart::Body]));
        assert_eq!(pieces("{{{id}}}{{"), Some(vec![text("{"), SigningPart::Id, text("}{")]));
        assert_eq!(pieces("{method}{url}"), Some(vec![SigningPart::Method, SigningPart::Url]));
        assert_eq!(pieces(""), Some(vec![]));
        for template in ["{header:x-a}", "{json:/a}", "{key}{body}", "{url:unescaped}", "{body", "body}", "{}"] {
            assert_eq!(pieces(template), None, "{template}");
        }
    }
}
