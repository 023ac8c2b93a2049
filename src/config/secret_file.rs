//! Secrets in files of their own.

use std::fs::File;
use std::io::Read;

use zeroize::Zeroizing;

use crate::limits::SECRET_FILE_BYTES_MAX;
use crate::model::Secret;

/// Reads the secret from a file, without a line end at the end.
///
/// # Errors
/// If the file cannot be read, is empty, or is longer than a secret.
pub(crate) fn read_secret_file(path: &str) -> Result<Secret, String> {
    let failed = |e| format!("{path} cannot be read: {e}");
    let mut text = Zeroizing::new(String::new());
    let file = File::open(path).map_err(failed)?;
    let bytes = file.take(SECRET_FILE_BYTES_MAX + 1).read_to_string(&mut text).map_err(failed)?;
    if bytes as u64 > SECRET_FILE_BYTES_MAX {
        return Err(format!("{path} is longer than a secret, which has at most {SECRET_FILE_BYTES_MAX} bytes"));
    }
    let line = text.strip_suffix('\n').unwrap_or(&text);
    let secret = line.strip_suffix('\r').unwrap_or(line);
    if secret.is_empty() { Err(format!("{path} is empty")) } else { Ok(Secret::new(secret)) }
}
