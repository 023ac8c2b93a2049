//! Finds JSON brackets outside strings, 64 bytes at a time.
//!
//! The algorithm is from Langdale and Lemire ("Parsing gigabytes of JSON per second", 2019, sections 3.1.1 and 3.1.2):
//! comparing a whole block gives one bit per byte, and the rest is arithmetic on these bits.

use wide::u8x16;

const BLOCK: usize = 64;

/// The position after the bracket that closes the bracket at `start`. Returns `None` if the text ends first. The kinds of
/// the brackets are not compared, because the text was validated before.
pub(super) fn container_end(text: &[u8], start: usize) -> Option<usize> {
    let (mut strings, mut depth) = (Strings::default(), 0);
    let mut at = start;
    loop {
        let rest = text.get(at..).filter(|rest| !rest.is_empty())?;
        let bits = rest.first_chunk().map_or_else(|| Bits::of(&padded(rest)), Bits::of);
        let outside = !strings.within(&bits);
        let (opening, closing) = (bits.opening & outside, bits.closing & outside);
        if closing.count_ones() < depth {
            // The container cannot end in this block.
            depth = depth + opening.count_ones() - closing.count_ones();
        } else {
            let mut brackets = opening | closing;
            while brackets != 0 {
                let place = brackets.trailing_zeros();
                if opening >> place & 1 == 1 {
                    depth += 1;
                } else {
                    depth -= 1;
                    if depth == 0 {
                        return Some(at + place as usize + 1);
                    }
                }
                brackets &= brackets - 1;
            }
        }
        at += BLOCK;
    }
}

/// One bit per byte of a block for each kind of byte. The first byte is the lowest bit.
#[derive(Debug, Clone, Copy, Default)]
struct Bits {
    quotes: u64,
    backslashes: u64,
    opening: u64,
    closing: u64,
}

impl Bits {
    fn of(block: &[u8; BLOCK]) -> Self {
        let mut bits = Self::default();
        for (lane, bytes) in block.as_chunks::<16>().0.iter().enumerate() {
            let bytes = u8x16::new(*bytes);
            // `[` and `{` differ only in this bit, and so do `]` and `}`.
            let folded = bytes | u8x16::splat(0x20);
            let equal = |bytes: u8x16, to: u8| u64::from(bytes.simd_eq(u8x16::splat(to)).to_bitmask()) << (16 * lane);
            bits.quotes |= equal(bytes, b'"');
            bits.backslashes |= equal(bytes, b'\\');
            bits.opening |= equal(folded, b'{');
            bits.closing |= equal(folded, b'}');
        }
        bits
    }
}

fn padded(rest: &[u8]) -> [u8; BLOCK] {
    let mut block = [0; BLOCK];
    block[..rest.len()].copy_from_slice(rest);
    block
}

/// The string state that is carried from one block to the next.
#[derive(Debug, Default)]
struct Strings {
    /// All ones if the block ended inside a string, else zero.
    within: u64,
    /// One if the first byte of the next block is escaped.
    escaped: u64,
}

impl Strings {
    /// The bytes of the next block that are inside strings, with the opening quotes and without the closing ones.
    fn within(&mut self, bits: &Bits) -> u64 {
        let quotes = bits.quotes & !self.escaped(bits.backslashes);
        // Prefix XOR: each bit becomes the parity of the quotes up to it.
        let mut parity = quotes;
        for shift in [1, 2, 4, 8, 16, 32] {
            parity ^= parity << shift;
        }
        let within = parity ^ self.within;
        self.within = (within >> 63).wrapping_neg();
        within
    }

    /// The bytes of the next block that follow an escaping backslash.
    fn escaped(&mut self, backslashes: u64) -> u64 {
        let mut escaped = std::mem::take(&mut self.escaped);
        let mut escaping = backslashes & !escaped;
        while escaping != 0 {
            let first = escaping & escaping.wrapping_neg();
            self.escaped = first >> 63;
            escaped |= first << 1;
            escaping &= !(first | first << 1);
        }
        escaped
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    /// A reference implementation that reads byte by byte.
    fn container_end_bytewise(text: &[u8]) -> Option<usize> {
        let (mut depth, mut is_text, mut is_escaped) = (0_u32, false, false);
        for (at, byte) in text.iter().enumerate() {
            match byte {
                _ if is_escaped => is_escaped = false,
                b'\\' => is_escaped = true,
                b'"' => is_text = !is_text,
                b'[' | b'{' if !is_text => depth += 1,
                b']' | b'}' if !is_text => depth -= 1,
                _ => {}
            }
            if depth == 0 {
                return Some(at + 1);
            }
        }
        None
    }

    proptest! {
        #[test]
        fn the_end_of_a_container_is_the_same_as_byte_by_byte(
            parts in proptest::collection::vec(
                prop_oneof![
                    4 => "[a-z0-9:, é]{0,30}",
                    2 => "\"[a-z\\[\\]{}]{0,70}\"",
                    1 => "\"(\\\\\\\\|\\\\\"){0,40}\"",
                    2 => "[\\[{]",
                    2 => "[\\]}]",
                    1 => "\"",
                ],
                0..40,
            ),
            start in 0usize..70,
        ) {
            let text = format!("{}[{}", " ".repeat(start), parts.concat());
            let expected = container_end_bytewise(&text.as_bytes()[start..]).map(|end| start + end);
            prop_assert_eq!(container_end(text.as_bytes(), start), expected, "{}", text);
        }
    }
}
