//! The little of DER (ITU-T X.690) that a certificate's public key and dates need.
//!
//! webpki reads certificates of version 3 only and gives no dates; one that a source names may be of version 1.

use jiff::civil::DateTime;

use crate::model::Timestamp;

const INTEGER: u8 = 0x02;
const BIT_STRING: u8 = 0x03;
const OBJECT_ID: u8 = 0x06;
const UTC_TIME: u8 = 0x17;
const GENERALIZED_TIME: u8 = 0x18;
const SEQUENCE: u8 = 0x30;
/// `[0]`, before the version.
const VERSION: u8 = 0xa0;

/// 1.2.840.113549.1.1.1, `rsaEncryption` (RFC 8017 appendix C).
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01, 0x01];

/// What a certificate says, as far as it matters here (RFC 5280 section 4.1).
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Read<'a> {
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    /// The `RSAPublicKey` of RFC 8017; `None`: another kind of key.
    pub(super) rsa: Option<&'a [u8]>,
}

/// Elements one after the other.
struct Reader<'a>(&'a [u8]);

/// Reads a certificate; `None` if it is none.
pub(super) fn read(der: &[u8]) -> Option<Read<'_>> {
    let mut outer = Reader(der);
    let mut certificate = Reader(outer.take(SEQUENCE)?);
    outer.end()?;
    let mut signed = Reader(certificate.take(SEQUENCE)?);
    if signed.0.first() == Some(&VERSION) {
        signed.take(VERSION)?;
    }
    signed.take(INTEGER)?; // the serial number
    signed.take(SEQUENCE)?; // the algorithm
    signed.take(SEQUENCE)?; // the issuer
    let mut validity = Reader(signed.take(SEQUENCE)?);
    let (not_before, not_after) = (validity.time()?, validity.time()?);
    validity.end()?;
    signed.take(SEQUENCE)?; // the subject
    let mut key = Reader(signed.take(SEQUENCE)?);
    let mut algorithm = Reader(key.take(SEQUENCE)?);
    let is_rsa = algorithm.take(OBJECT_ID)? == RSA;
    let bits = key.take(BIT_STRING)?;
    key.end()?;
    // The first byte counts the unused bits of the last.
    let key = bits.strip_prefix(&[0])?;
    Some(Read { not_before, not_after, rsa: is_rsa.then_some(key) })
}

impl<'a> Reader<'a> {
    /// The contents of the next element, which has this tag.
    fn take(&mut self, tag: u8) -> Option<&'a [u8]> {
        let (head, rest) = self.0.split_at_checked(2)?;
        if head[0] != tag {
            return None;
        }
        let (length, rest) = match head[1] {
            short @ 0..=0x7f => (usize::from(short), rest),
            // `0x80` is no length in DER; nothing that is read here comes near 2^24 bytes.
            long @ 0x81..=0x83 => {
                let (digits, rest) = rest.split_at_checked(usize::from(long & 0x0f))?;
                (digits.iter().fold(0, |length, digit| (length << 8) | usize::from(*digit)), rest)
            }
            _ => return None,
        };
        let (contents, rest) = rest.split_at_checked(length)?;
        self.0 = rest;
        Some(contents)
    }

    /// The next element, a time (RFC 5280 section 4.1.2.5): with seconds, in UTC.
    fn time(&mut self) -> Option<Timestamp> {
        let (century, text) = match *self.0.first()? {
            UTC_TIME => {
                let text = self.take(UTC_TIME)?;
                (if digits(text.get(..2)?)? < 50 { 2000 } else { 1900 }, text)
            }
            _ => (0, self.take(GENERALIZED_TIME)?),
        };
        let years = if century == 0 { 4 } else { 2 };
        let (year, rest) = text.split_at_checked(years)?;
        let (pairs, []) = rest.strip_suffix(b"Z")?.as_chunks::<2>() else { return None };
        let fields: Vec<i16> = pairs.iter().map(|pair| digits(pair)).collect::<Option<_>>()?;
        let [month, day, hour, minute, second] = *fields else { return None };
        let small = |n: i16| i8::try_from(n).ok();
        let at = DateTime::new(
            century + digits(year)?,
            small(month)?,
            small(day)?,
            small(hour)?,
            small(minute)?,
            small(second)?,
            0,
        );
        // Not by way of jiff's own timestamp: that of "for ever", the last second of 9999, is past its end.
        let since_1970 = at.ok()?.duration_since(DateTime::constant(1970, 1, 1, 0, 0, 0, 0));
        Some(Timestamp::from_millis(i64::try_from(since_1970.as_millis()).ok()?))
    }

    fn end(&self) -> Option<()> {
        self.0.is_empty().then_some(())
    }
}

fn digits(text: &[u8]) -> Option<i16> {
    text.iter()
        .try_fold(0_i16, |n, b| b.is_ascii_digit().then(|| n.checked_mul(10)?.checked_add(i16::from(b - b'0')))?)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn time(tag: u8, text: &str) -> Option<String> {
        let mut der = vec![tag, text.len() as u8];
        der.extend_from_slice(text.as_bytes());
        Reader(&der).time().map(|at| at.to_string())
    }

    #[test]
    fn times_of_both_forms_are_read() {
        for (tag, text, expected) in [
            (UTC_TIME, "150318000000Z", Some("2015-03-18T00:00:00.000Z")),
            (UTC_TIME, "491231235959Z", Some("2049-12-31T23:59:59.000Z")),
            (UTC_TIME, "500101000000Z", Some("1950-01-01T00:00:00.000Z")),
            (GENERALIZED_TIME, "21200101000000Z", Some("2120-01-01T00:00:00.000Z")),
            // As far as our own times are written.
            (GENERALIZED_TIME, "99991231235959Z", Some("9999-12-30T22:00:00.999Z")),
            (UTC_TIME, "150318000000", None),
            (UTC_TIME, "1503180000Z", None),
            (UTC_TIME, "151318000000Z", None),
            (UTC_TIME, "150318000000+0100", None),
            (UTC_TIME, "15031800000xZ", None),
            (GENERALIZED_TIME, "150318000000Z", None),
            (INTEGER, "150318000000Z", None),
        ] {
            assert_eq!(time(tag, text).as_deref(), expected, "{text}");
        }
    }

    #[test]
    fn lengths_are_believed_only_within_what_is_there() {
        assert_eq!(Reader(&[0x30, 0x02, 1, 2]).take(SEQUENCE), Some(&[1, 2][..]));
        assert_eq!(Reader(&[0x30, 0x81, 0x02, 1, 2]).take(SEQUENCE), Some(&[1, 2][..]));
        for bad in
            [&[0x30][..], &[0x30, 0x03, 1, 2], &[0x30, 0x80, 1, 2], &[0x30, 0x84, 0, 0, 0, 1, 1], &[0x30, 0x82, 1]]
        {
            assert_eq!(Reader(bad).take(SEQUENCE), None, "{bad:?}");
        }
    }
}
