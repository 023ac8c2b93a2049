//! Encrypts secrets at rest with a key of `secrets.key` (AES-256-GCM), bound to the record that they belong to.
//!
//! `secrets.key` contains one key per line, `<id> <base64 of 32 bytes>`. The first key encrypts, and all keys decrypt,
//! so a key can be replaced while records of the old key still exist. A key file without a format line has version 1.

use std::collections::HashMap;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use data_encoding::{BASE64, BASE64URL_NOPAD, HEXLOWER};
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

use crate::model::{API_KEY_PREFIX, Secret, file};
use crate::runtime::Random;
use crate::storage::FormatError;
use crate::storage::format::check_key_file;

const KEY_BYTES: usize = 32;
const KEY_ID_BYTES: usize = 4;

/// The error of reading or creating a key file.
#[derive(Debug, thiserror::Error)]
pub enum KeyFileError {
    /// The file system returned an error.
    #[error("{path}: {source}")]
    Io {
        /// The file.
        path: PathBuf,
        /// The error of the file system.
        source: io::Error,
    },
    /// Other users than the owner can read the file.
    #[error("{0}: others than its owner may read it; chmod 600")]
    Exposed(PathBuf),
    /// The file's content is not valid.
    #[error("{0}: damaged")]
    Damaged(PathBuf),
    /// A newer program wrote the file.
    #[error(transparent)]
    Format(#[from] FormatError),
}

/// The error of decrypting a value.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SealError {
    /// `secrets.key` has no key with this id.
    #[error("secrets.key lacks the key {0}")]
    UnknownKey(String),
    /// The value was changed, or belongs to another record.
    #[error("it was changed, or belongs to another record")]
    Forged,
}

/// Encrypts and decrypts with the keys of `secrets.key`.
pub(crate) struct Vault {
    current: [u8; KEY_ID_BYTES],
    keys: HashMap<[u8; KEY_ID_BYTES], LessSafeKey>,
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Vault").field("current", &HEXLOWER.encode(&self.current)).finish_non_exhaustive()
    }
}

impl Vault {
    /// Reads `secrets.key`. Creates it with a new key if it does not exist.
    pub(crate) fn load(dir: &Path) -> Result<Self, KeyFileError> {
        let path = dir.join(file::SECRETS_KEY);
        let (text, _) = read_or_create(&path, || {
            let key = Zeroizing::new(Random::secret::<KEY_BYTES>());
            let id = Random::secret::<KEY_ID_BYTES>();
            format!("{} {}\n", HEXLOWER.encode(&id), BASE64.encode(&*key))
        })?;
        Self::parse(&text).ok_or(KeyFileError::Damaged(path))
    }

    fn parse(text: &str) -> Option<Self> {
        let mut current = None;
        let mut keys = HashMap::new();
        for line in text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#')) {
            let (id, key) = line.split_once(' ')?;
            let id: [u8; KEY_ID_BYTES] = HEXLOWER.decode(id.as_bytes()).ok()?.try_into().ok()?;
            let key = Zeroizing::new(BASE64.decode(key.trim().as_bytes()).ok()?);
            keys.insert(id, LessSafeKey::new(UnboundKey::new(&AES_256_GCM, &key).ok()?));
            current.get_or_insert(id);
        }
        Some(Self { current: current?, keys })
    }

    /// Encrypts `plain` for the record `aad`. Returns key id, nonce, ciphertext and tag. A random nonce of 96 bits is
    /// safe for 2^32 values under one key (NIST SP 800-38D, 8.3).
    pub(crate) fn encrypt(&self, aad: &[u8], plain: &[u8]) -> Vec<u8> {
        let nonce = Random::secret::<NONCE_LEN>();
        let mut sealed = Zeroizing::new(plain.to_vec());
        let mut out = Vec::with_capacity(KEY_ID_BYTES + NONCE_LEN + plain.len() + AES_256_GCM.tag_len());
        let key = &self.keys[&self.current];
        // Encryption fails only for a plaintext of 64 GiB or more. The result is then empty and cannot be decrypted.
        if key.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(aad), &mut *sealed).is_ok() {
            out.extend_from_slice(&self.current);
            out.extend_from_slice(&nonce);
            out.extend_from_slice(&sealed);
        }
        out
    }

    /// Decrypts a value that [`Vault::seal`] encrypted for the record `aad`.
    pub(crate) fn decrypt(&self, aad: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (id, rest) = sealed.split_first_chunk::<KEY_ID_BYTES>().ok_or(SealError::Forged)?;
        let (nonce, rest) = rest.split_first_chunk::<NONCE_LEN>().ok_or(SealError::Forged)?;
        let key = self.keys.get(id).ok_or_else(|| SealError::UnknownKey(HEXLOWER.encode(id)))?;
        let mut plain = Zeroizing::new(rest.to_vec());
        let len = key
            .open_in_place(Nonce::assume_unique_for_key(*nonce), Aad::from(aad), &mut plain)
            .map_err(|_| SealError::Forged)?
            .len();
        plain.truncate(len);
        Ok(plain)
    }
}

/// Returns the admin key of the data folder, and whether it was created by this call. The key has the role admin for
/// every tenant.
pub fn admin_key(dir: &Path) -> Result<(Secret, bool), KeyFileError> {
    let path = dir.join(file::ADMIN_KEY);
    // 30 bytes are 40 base64 characters.
    let (text, made) = read_or_create(&path, || {
        format!("{API_KEY_PREFIX}{}\n", BASE64URL_NOPAD.encode(&*Zeroizing::new(Random::secret::<30>())))
    })?;
    let key = text.trim();
    if key.len() < 16 || !key.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(KeyFileError::Damaged(path));
    }
    Ok((Secret::new(key), made))
}

/// Returns the file's text, and whether the file was created by this call. A file is created completely or not at all,
/// and never replaces another one.
fn read_or_create(path: &Path, make: impl FnOnce() -> String) -> Result<(Zeroizing<String>, bool), KeyFileError> {
    let failed = |source| KeyFileError::Io { path: path.to_owned(), source };
    match File::open(path) {
        Ok(mut file) => {
            if file.metadata().map_err(failed)?.mode() & 0o077 != 0 {
                return Err(KeyFileError::Exposed(path.to_owned()));
            }
            let mut text = Zeroizing::new(String::new());
            file.read_to_string(&mut text).map_err(failed)?;
            check_key_file(path, &text)?;
            Ok((text, false))
        }
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let text = Zeroizing::new(make());
            write_new(path, &text).map_err(failed)?;
            Ok((text, true))
        }
        Err(e) => Err(failed(e)),
    }
}

fn write_new(path: &Path, text: &str) -> io::Result<()> {
    let made = path.with_extension("key.new");
    if made.exists() {
        fs::remove_file(&made)?;
    }
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&made)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&made, path)?;
    match path.parent() {
        Some(dir) => File::open(dir)?.sync_all(),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn a_sealed_value_opens_only_for_its_record() {
        let dir = tempfile::tempdir().unwrap();
        let vault = Vault::load(dir.path()).unwrap();
        let sealed = vault.encrypt(b"wh 1", b"text");
        assert_eq!(&**vault.decrypt(b"wh 1", &sealed).unwrap(), b"text");
        assert_eq!(vault.decrypt(b"wh 2", &sealed).err(), Some(SealError::Forged));
        for i in 0..sealed.len() {
            let mut bad = sealed.clone();
            bad[i] ^= 1;
            assert!(vault.decrypt(b"wh 1", &bad).is_err(), "byte {i}");
            assert!(vault.decrypt(b"wh 1", &sealed[..i]).is_err(), "cut at {i}");
        }
        assert_ne!(vault.encrypt(b"wh 1", b"text"), sealed, "each has a nonce of its own");
    }

    #[test]
    fn an_older_key_still_opens_and_a_missing_key_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let old = Vault::load(dir.path()).unwrap();
        let sealed = old.encrypt(b"wh 1", b"text");
        let path = dir.path().join(file::SECRETS_KEY);
        let line = fs::read_to_string(&path).unwrap();
        let fresh = format!("00000000 {}\n", BASE64.encode(&[7; 32]));
        fs::write(&path, format!("{fresh}{line}")).unwrap();
        let both = Vault::load(dir.path()).unwrap();
        assert_eq!(&**both.decrypt(b"wh 1", &sealed).unwrap(), b"text");
        assert_eq!(both.encrypt(b"wh 1", b"text")[..KEY_ID_BYTES], [0; 4]);
        fs::write(&path, fresh).unwrap();
        let refused = Vault::load(dir.path()).unwrap().decrypt(b"wh 1", &sealed).err();
        assert_eq!(refused, Some(SealError::UnknownKey(line[..8].to_owned())));
    }

    #[test]
    fn only_the_owner_may_read_key_files() {
        let dir = tempfile::tempdir().unwrap();
        let (key, made) = admin_key(dir.path()).unwrap();
        assert!(made && key.reveal().starts_with("hk_") && key.reveal().len() == 43, "hk_ and 40 characters");
        assert_eq!(admin_key(dir.path()).unwrap(), (key, false));
        let path = dir.path().join(file::ADMIN_KEY);
        assert_eq!(fs::metadata(&path).unwrap().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(matches!(admin_key(dir.path()), Err(KeyFileError::Exposed(_))));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o600)).unwrap();
        fs::write(&path, "short\n").unwrap();
        assert!(matches!(admin_key(dir.path()), Err(KeyFileError::Damaged(_))));
        fs::write(&path, "# hooktide format 2\nsomething new\n").unwrap();
        assert!(matches!(admin_key(dir.path()), Err(KeyFileError::Format(_))));
        fs::write(dir.path().join(file::SECRETS_KEY), "# hooktide format 2\nsomething new\n").unwrap();
        fs::set_permissions(dir.path().join(file::SECRETS_KEY), fs::Permissions::from_mode(0o600)).unwrap();
        assert!(matches!(Vault::load(dir.path()), Err(KeyFileError::Format(_))));
    }
}
