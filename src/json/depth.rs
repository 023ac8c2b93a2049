//! The nesting depth of JSON text.

/// Whether arrays and objects are nested more than `most` levels deep. The text must be well-formed JSON.
pub fn exceeds_depth(json: &str, most: usize) -> bool {
    let bytes = json.as_bytes();
    // Most payloads contain fewer opening brackets than the limit, and counting these takes a small part of the time. The
    // count of a 255-byte block fits into a byte, so the compiler can vectorize it.
    let opens = |&byte: &u8| u8::from(byte | 0x20 == b'{');
    if bytes.chunks(255).map(|block| usize::from(block.iter().map(opens).sum::<u8>())).sum::<usize>() <= most {
        return false;
    }
    let (mut depth, mut in_text, mut escaped) = (0_usize, false, false);
    for &byte in bytes {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_text => escaped = true,
            b'"' => in_text = !in_text,
            _ if in_text => {}
            b'[' | b'{' => {
                depth += 1;
                if depth > most {
                    return true;
                }
            }
            b']' | b'}' => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    false
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_counted_outside_of_strings() {
        let nested = |n: usize| format!("{}{}", "[".repeat(n), "]".repeat(n));
        assert!(!exceeds_depth(&nested(128), 128));
        assert!(exceeds_depth(&nested(129), 128));
        assert!(!exceeds_depth(&format!("\"{}\"", nested(200)), 128));
        assert!(!exceeds_depth(&format!("[{}]", vec!["{}"; 200].join(",")), 128));
        assert!(!exceeds_depth(&format!(r#"["\"{}"]"#, "[".repeat(200)), 128));
    }
}
