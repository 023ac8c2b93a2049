//! How deep JSON is nested.

/// Whether arrays and objects are nested deeper than `most` in this JSON, which is well formed.
pub fn is_deeper(json: &str, most: usize) -> bool {
    let bytes = json.as_bytes();
    // Most payloads have fewer brackets than the limit in all, and counting them, by blocks whose count fits a byte so that
    // the compiler can make vectors of it, takes a small part of the time.
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
        assert!(!is_deeper(&nested(128), 128));
        assert!(is_deeper(&nested(129), 128));
        assert!(!is_deeper(&format!("\"{}\"", nested(200)), 128));
        assert!(!is_deeper(&format!("[{}]", vec!["{}"; 200].join(",")), 128));
        assert!(!is_deeper(&format!(r#"["\"{}"]"#, "[".repeat(200)), 128));
    }
}
