//! The text encodings of signatures: hexadecimal in upper or lower case, base64 with padding, and base64url without
//! padding.

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER, HEXLOWER_PERMISSIVE};

/// The length of the longest signature: two numbers of 33 bytes in ASN.1, as in ECDSA over P-256.
const BYTES_MAX: usize = 72;

/// The text encoding of a signature.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Encoding {
    /// Two digits per byte, read in upper or lower case, written in lower case.
    Hex,
    /// RFC 4648 section 4, with padding and without unused bits.
    Base64,
    /// RFC 4648 section 5, without padding and without unused bits.
    Base64Url,
}

/// The decoded bytes of a signature, on the stack.
#[derive(Debug, Clone, Copy)]
pub(super) struct DecodedSignature {
    bytes: [u8; BYTES_MAX],
    length: usize,
}

impl DecodedSignature {
    /// The bytes.
    pub(super) fn as_slice(&self) -> &[u8] {
        self.bytes.get(..self.length).unwrap_or_default()
    }
}

impl Encoding {
    /// Decodes a text; `None` if the text is not in this encoding, empty, or longer than any signature.
    pub(super) fn decode(self, text: &[u8]) -> Option<DecodedSignature> {
        let encoding = match self {
            Self::Hex => &HEXLOWER_PERMISSIVE,
            Self::Base64 => &BASE64,
            Self::Base64Url => &BASE64URL_NOPAD,
        };
        let mut bytes = [0; BYTES_MAX];
        let room = encoding.decode_len(text.len()).ok()?;
        let length = encoding.decode_mut(text, bytes.get_mut(..room)?).ok()?;
        if length == 0 { None } else { Some(DecodedSignature { bytes, length }) }
    }

    /// Encodes bytes as text.
    pub(super) fn encode(self, bytes: &[u8]) -> String {
        match self {
            Self::Hex => HEXLOWER.encode(bytes),
            Self::Base64 => BASE64.encode(bytes),
            Self::Base64Url => BASE64URL_NOPAD.encode(bytes),
        }
    }

    /// The name of the encoding in error messages.
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
    fn each_encoding_is_unambiguous() {
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
