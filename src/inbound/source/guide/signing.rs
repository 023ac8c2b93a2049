//! What a sender has to sign, as the programs of the guide need it.

use std::fmt::Write as _;

use super::Source;
use crate::limits::TOLERANCE_SECONDS_DEFAULT;
use crate::signature::{OneOrMany, RawScheme};
use crate::template::{Part, Template};

/// A part of what is signed, or of the value that carries the signature.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Piece {
    Text(String),
    Body,
    Time,
    /// The delivery's id, which is also in a header.
    Id,
    Method,
    Url,
    Signature,
}

/// How a time is written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum TimeForm {
    Seconds,
    Millis,
    Rfc3339,
}

/// How the secret's text becomes the key's bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum KeyForm {
    Utf8,
    Hex,
    Base64,
    Whsec,
}

/// An HMAC in a header.
#[derive(Debug)]
pub(super) struct Signing {
    /// `sha256`.
    pub(super) alg: &'static str,
    pub(super) key: KeyForm,
    pub(super) is_base64: bool,
    pub(super) signed: Vec<Piece>,
    pub(super) header: String,
    /// The header's value.
    pub(super) value: Vec<Piece>,
    pub(super) time: Option<TimeForm>,
    /// Where the time goes, if not beside the signature.
    pub(super) time_header: Option<String>,
}

impl Signing {
    /// `None` for a scheme that is no HMAC in a header, or covers what only a real program has at hand.
    pub(super) fn of(source: &Source, scheme: &RawScheme) -> Option<Self> {
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
            None | Some("utf8") => KeyForm::Utf8,
            Some("hex") => KeyForm::Hex,
            Some("base64") => KeyForm::Base64,
            Some("whsec") => KeyForm::Whsec,
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
        let mut value = vec![Piece::Text(prefix), Piece::Signature];
        let (mut time, mut time_header) = (None, None);
        if let Some(place) = scheme.time.as_deref() {
            time = Some(match scheme.unit.as_deref() {
                None | Some("s") => TimeForm::Seconds,
                Some("ms") => TimeForm::Millis,
                Some("rfc3339") => TimeForm::Rfc3339,
                Some(_) => return None,
            });
            match (place.strip_prefix("sig:"), header_of(place)) {
                (Some(mark), _) => {
                    let split = scheme.split.clone().unwrap_or_else(|| ",".to_owned());
                    value.splice(0..0, [Piece::Text(mark.to_owned()), Piece::Time, Piece::Text(split)]);
                }
                (None, Some(name)) => time_header = Some(name),
                (None, None) => return None,
            }
        }
        // The id stands in the first of the sample's headers.
        let has_id = source.recipe.id.len() == 1 && header_of(&source.recipe.id[0].to_string()).is_some();
        let fits = (time.is_some() || !signed.contains(&Piece::Time)) && (has_id || !signed.contains(&Piece::Id));
        value.retain(|piece| *piece != Piece::Text(String::new()));
        fits.then_some(Self { alg, key, is_base64, signed, header, value, time, time_header })
    }
}

/// `{time}.{body}` in its parts; `None` for a template with a placeholder that the programs have no value for.
fn pieces(template: &str) -> Option<Vec<Piece>> {
    let placeholder = |name: &str| match name {
        "body" => Ok(Piece::Body),
        "time" => Ok(Piece::Time),
        "id" => Ok(Piece::Id),
        "method" => Ok(Piece::Method),
        "url" => Ok(Piece::Url),
        _ => Err(()),
    };
    let piece = |part| match part {
        Part::Text(text) => Piece::Text(text.into_string()),
        Part::Placeholder(piece) => piece,
    };
    Some(Template::parse(template, placeholder).ok()?.into_parts().into_iter().map(piece).collect())
}

pub(super) fn first(places: Option<&OneOrMany>) -> Option<&str> {
    match places? {
        OneOrMany::One(place) => Some(place),
        OneOrMany::Many(places) => places.first().map(String::as_str),
    }
}

/// The header that a place names first.
pub(super) fn header(place: &str) -> Option<&str> {
    place.strip_prefix("header:")?.split('|').next()
}

fn header_of(place: &str) -> Option<String> {
    header(place).map(str::to_owned)
}

/// The scheme for people.
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
    fn a_template_falls_into_what_a_program_can_write() {
        let text = |text: &str| Piece::Text(text.to_owned());
        assert_eq!(pieces("{time}.{body}"), Some(vec![Piece::Time, text("."), Piece::Body]));
        assert_eq!(pieces("{{{id}}}{{"), Some(vec![text("{"), Piece::Id, text("}{")]));
        assert_eq!(pieces("{method}{url}"), Some(vec![Piece::Method, Piece::Url]));
        assert_eq!(pieces(""), Some(vec![]));
        for template in ["{header:x-a}", "{json:/a}", "{key}{body}", "{url:unescaped}", "{body", "body}", "{}"] {
            assert_eq!(pieces(template), None, "{template}");
        }
    }
}
