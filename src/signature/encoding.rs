//! Signatures as text: hexadecimal in either case, base64 with its padding, or base64url without.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};

/// The longest signature: two numbers of 33 bytes in ASN.1, as ECDSA over P-256 has them.
const BYTES_MAX: usize = 72;

/// How bytes are written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Two digits a byte, read in either case, written in lower case.
    Hex,
    /// RFC 4648 section 4, padded, with no bits left over.
    Base64,
    /// RFC 4648 section 5, without padding, with no bits left over.
    Base64Url,
}

/// A signature's bytes, on the stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct Decoded {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl Decoded {
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Encoding {
    /// The bytes that a text stands for; `None` if it is not of this form, empty, or longer than any signature.
    pub(super) fn decode(self, text: &[u8]) -> Option<Decoded> {
        let encoding = match self {
            Self::Hex => &HEXLOWER_PERMISSIVE,
            Self::Base64 => &BASE64,
            Self::Base64Url => &BASE64URL_NOPAD,
        };
        let mut bytes = [0; BYTES_MAX];
        let room = encoding.decode_len(text.len()).ok()?;
        let length = encoding.decode_mut(text, bytes.get_mut(..room)?).ok()?;
        if length == 0 { None } else { Some(Decoded { bytes, length }) }
    }

    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => HEXLOWER.encode(bytes),
            Self::Base64 => BASE64.encode(bytes),
            Self::Base64Url => BASE64URL_NOPAD.encode(bytes),
        }
    }

    /// What a person is told to look for.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Hex => "HEX",
            Self::Base64 => "BASE64",
            Self::Base64Url => "BASE64URL",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_one_text_stands_for_some_bytes() {
        let decode = |encoding: Encoding, text: &str| encoding.decode(text.as_bytes()).map(|d| d.as_slice().to_vec());
        assert_eq!(decode(Encoding::Hex, "00fF"), Some(vec![0, 255]));
        assert_eq!(decode(Encoding::Base64, "AP8="), Some(vec![0, 255]));
        assert_eq!(decode(Encoding::Base64Url, "A_8"), Some(vec![3, 255]));
        for text in ["", "A_8=", "A/8", "A_9"] {
            assert_eq!(decode(Encoding::Base64Url, text), None, "{text:?}");
        }
        for text in ["", "0", "0g", " 00", "00 ", "0x00", &"00".repeat(BYTES_MAX + 1)] {
            assert_eq!(decode(Encoding::Hex, text), None, "{text:?}");
        }
        for text in ["", "AP8", "AP9=", "AP8=\n", "A_8=", "AP8==", "====", &"AAAA".repeat(25)] {
            assert_eq!(decode(Encoding::Base64, text), None, "{text:?}");
        }
        assert_eq!(decode(Encoding::Hex, &"ab".repeat(64)).map(|b| b.len()), Some(64));
        assert_eq!(decode(Encoding::Base64, &BASE64.encode(&[1; 72])), Some(vec![1; 72]));
    }
}
