//! The secret key: where it comes from, and what may be shown of it.
//!
//! The one law: the key's bytes are wiped when dropped and never printed; whoever must tell keys apart compares
//! fingerprints.

use std::fmt;
use std::fs::{self, File, OpenOptions};
use std::io::{self, Read, Write};
use std::os::unix::fs::{OpenOptionsExt, PermissionsExt};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use rand::TryRng;
use rand::rngs::SysRng;
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use crate::config;
use crate::error::{Context, Error, Result};

/// Environment variable of the key, in hex.
const VARIABLE: &str = "LAKEWARD_TOKEN_KEY";

/// Shortest key: as long as the hash, below which HMAC-SHA256 is weaker than it looks (RFC 2104, section 3).
const KEY_BYTES_MIN: usize = 32;

/// Longest key file: many times what a key needs; more is some other file.
const KEY_FILE_BYTES_MAX: u64 = 4096;

/// Rights of a key file that is made: its owner's only.
const KEY_FILE_MODE: u32 = 0o600;

/// Rights of anybody but the owner.
const OTHERS: u32 = 0o077;

/// The secret key and its version.
#[derive(Clone)]
pub struct TokenKey {
    version: u32,
    bytes: Arc<Zeroizing<Vec<u8>>>,
}

/// Where a key came from, for the start-up message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeyOrigin {
    /// `LAKEWARD_TOKEN_KEY`.
    Environment,
    /// The key file, as it was found.
    File,
    /// The key file, made just now.
    Created,
}

impl TokenKey {
    /// A key from its hex form (at least 32 bytes; white space around it is ignored).
    ///
    /// # Errors
    /// [`Error::Usage`] when it is no hex or too short; the message shows nothing of it.
    pub fn from_hex(version: u32, hex: &str) -> Result<Self> {
        let bytes = hex::decode(hex.trim())
            .map(Zeroizing::new)
            .map_err(|_| Error::usage("the token key is not hexadecimal; `openssl rand -hex 32` prints a good one"))?;
        if bytes.len() < KEY_BYTES_MIN {
            let found = bytes.len();
            return Err(Error::usage(format!(
                "the token key has {found} bytes, at least {KEY_BYTES_MIN} are needed; `openssl rand -hex 32` prints a good one"
            )));
        }
        Ok(Self { version, bytes: Arc::new(bytes) })
    }

    /// The key from `LAKEWARD_TOKEN_KEY`, else from the key file; made there (mode 0600) when `create` and there is none.
    ///
    /// # Errors
    /// [`Error::Usage`] when there is no key, it is not well formed, or others may read its file;
    /// [`Error::External`] when the file cannot be read or made.
    pub fn load(config: &config::Token, create: bool) -> Result<(Self, KeyOrigin)> {
        let variable = match std::env::var(VARIABLE) {
            Ok(text) => Some(Zeroizing::new(text)),
            Err(std::env::VarError::NotPresent) => None,
            Err(std::env::VarError::NotUnicode(_)) => {
                return Err(Error::usage(format!("`{VARIABLE}`: the token key is not hexadecimal")));
            }
        };
        Self::find(variable.as_ref().map(|text| text.as_str()), config, create)
    }

    fn find(variable: Option<&str>, config: &config::Token, create: bool) -> Result<(Self, KeyOrigin)> {
        if let Some(hex) = variable {
            return Ok((named(VARIABLE, Self::from_hex(config.version, hex))?, KeyOrigin::Environment));
        }
        let path = &config.key_file;
        let shown = path.display();
        let mut origin = KeyOrigin::File;
        let hex = match read(path)? {
            Some(hex) => hex,
            None if !create => {
                return Err(Error::usage(format!(
                    "no token key: `{VARIABLE}` is not set and there is no file `{shown}` (`token.key_file`); \
                     type `export {VARIABLE}=$(openssl rand -hex 32)` and keep that key: another one makes other tokens"
                )));
            }
            None => {
                if make(path)? {
                    origin = KeyOrigin::Created;
                }
                read(path)?.ok_or_else(|| Error::usage(format!("the key file `{shown}` vanished; start again")))?
            }
        };
        Ok((named(&format!("{shown}"), Self::from_hex(config.version, &hex))?, origin))
    }

    /// The version that stands in every token this key makes.
    pub fn version(&self) -> u32 {
        self.version
    }

    /// First 16 hex digits of a SHA-256 over the key: slots carry it, so that another key is noticed.
    pub fn fingerprint(&self) -> String {
        hex::encode(&Sha256::digest(self.bytes())[..8])
    }

    pub(super) fn bytes(&self) -> &[u8] {
        &self.bytes
    }
}

impl fmt::Debug for TokenKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TokenKey").field("version", &self.version).field("bytes", &"redacted").finish()
    }
}

/// Says which key was wrong.
fn named(origin: &str, key: Result<TokenKey>) -> Result<TokenKey> {
    key.map_err(|error| Error::usage(format!("`{origin}`: {error}")))
}

/// The key file's text; `None` when there is no such file.
fn read(path: &Path) -> Result<Option<Zeroizing<String>>> {
    let shown = path.display();
    let failed = || format!("reading the key file `{shown}`");
    let file = match File::open(path) {
        Ok(file) => file,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(Error::external(failed(), error)),
    };
    // Asked of the open file, not of the path, so that it cannot be exchanged between the two.
    let metadata = file.metadata().context(failed)?;
    if !metadata.is_file() || metadata.len() > KEY_FILE_BYTES_MAX {
        let message = format!("`{shown}` (`token.key_file`) is no key file: a file of one line of hex is expected");
        return Err(Error::usage(message));
    }
    let mode = metadata.permissions().mode() & 0o777;
    if mode & OTHERS != 0 {
        let message = format!("the key file `{shown}` can be used by others (mode {mode:o}); type `chmod 600 {shown}`");
        return Err(Error::usage(message));
    }
    let mut text = Zeroizing::new(String::new());
    file.take(KEY_FILE_BYTES_MAX).read_to_string(&mut text).context(failed)?;
    Ok(Some(text))
}

/// Makes the key file and its folder; `false` when another process was first.
///
/// The key is written beside its place and linked there when it is whole, so that nobody ever reads half of one.
fn make(path: &Path) -> Result<bool> {
    let failed = || format!("making the key file `{}`", path.display());
    let folder = match path.parent() {
        Some(folder) if !folder.as_os_str().is_empty() => folder.to_path_buf(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&folder).context(failed)?;

    let mut random = Zeroizing::new([0_u8; KEY_BYTES_MIN]);
    SysRng.try_fill_bytes(random.as_mut_slice()).context(failed)?;
    let mut suffix = [0_u8; 8];
    SysRng.try_fill_bytes(&mut suffix).context(failed)?;

    let draft = folder.join(format!(".token.key.{}", hex::encode(suffix)));
    let made =
        write(&draft, &Zeroizing::new(hex::encode(random.as_slice()))).and_then(|()| fs::hard_link(&draft, path));
    let removed = fs::remove_file(&draft);
    match made {
        Ok(()) => removed.map(|()| true).context(failed),
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(false),
        Err(error) => Err(Error::external(failed(), error)),
    }
}

fn write(path: &Path, hex: &str) -> io::Result<()> {
    let mut file = OpenOptions::new().write(true).create_new(true).mode(KEY_FILE_MODE).open(path)?;
    file.write_all(hex.as_bytes())?;
    file.write_all(b"\n")?;
    file.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const KEY: &str = "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f";

    fn config(folder: &tempfile::TempDir) -> config::Token {
        config::Token { version: 3, key_file: folder.path().join("new/token.key") }
    }

    #[test]
    fn a_key_is_made_once_and_only_for_its_owner() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let (made, origin) = TokenKey::find(None, &config, true).unwrap();
        assert_eq!(origin, KeyOrigin::Created);
        assert_eq!(made.bytes().len(), 32);
        assert_eq!(fs::metadata(&config.key_file).unwrap().permissions().mode() & 0o777, 0o600);
        let (found, origin) = TokenKey::find(None, &config, true).unwrap();
        assert_eq!(origin, KeyOrigin::File);
        assert_eq!((found.fingerprint(), found.version()), (made.fingerprint(), 3));
        assert_eq!(fs::read_dir(config.key_file.parent().unwrap()).unwrap().count(), 1, "the draft stays behind");
        assert!(!make(&config.key_file).unwrap(), "a key was made over another");
    }

    #[test]
    fn two_made_keys_differ() {
        let (a, b) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let key = |folder| TokenKey::find(None, &config(folder), true).unwrap().0.fingerprint();
        assert_ne!(key(&a), key(&b));
    }

    #[test]
    fn the_environment_comes_before_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let (key, origin) = TokenKey::find(Some(KEY), &config(&folder), true).unwrap();
        assert_eq!(origin, KeyOrigin::Environment);
        // `printf 000102…1f | xxd -r -p | sha256sum`
        assert_eq!(key.fingerprint(), "630dcd2966c43366");
        assert!(!config(&folder).key_file.exists());
    }

    #[test]
    fn a_missing_key_says_what_to_type() {
        let folder = tempfile::tempdir().unwrap();
        let error = TokenKey::find(None, &config(&folder), false).unwrap_err().to_string();
        assert!(error.contains("export LAKEWARD_TOKEN_KEY=$(openssl rand -hex 32)"), "{error}");
        assert!(error.contains("new/token.key"), "{error}");
    }

    #[test]
    fn a_key_file_that_others_may_read_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        TokenKey::find(None, &config, true).unwrap();
        for mode in [0o644, 0o640, 0o604] {
            fs::set_permissions(&config.key_file, fs::Permissions::from_mode(mode)).unwrap();
            let error = TokenKey::find(None, &config, true).unwrap_err().to_string();
            assert!(error.contains(&format!("chmod 600 {}", config.key_file.display())), "{error}");
        }
    }

    #[test]
    fn what_is_no_key_file_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        for (name, length) in [("folder", None), ("long", Some(4097))] {
            let key_file = folder.path().join(name);
            match length {
                Some(length) => fs::write(&key_file, "0".repeat(length)).unwrap(),
                None => fs::create_dir(&key_file).unwrap(),
            }
            let error = TokenKey::find(None, &config::Token { version: 1, key_file }, true).unwrap_err().to_string();
            assert!(error.contains("is no key file"), "{error}");
        }
    }

    #[test]
    fn bad_keys_are_refused_and_not_shown() {
        for bad in ["", "secret-secret-secret-secret-secret", &KEY[..62], &KEY[..63]] {
            let error = TokenKey::find(Some(bad), &config(&tempfile::tempdir().unwrap()), false).unwrap_err();
            assert!(matches!(error, Error::Usage(_)));
            let error = error.to_string();
            assert!(error.starts_with("`LAKEWARD_TOKEN_KEY`: the token key"), "{error}");
            assert!(bad.is_empty() || !error.contains(bad), "{error}");
        }
    }

    #[test]
    fn debug_shows_no_key() {
        let shown = format!("{:?}", TokenKey::from_hex(1, KEY).unwrap());
        assert_eq!(shown, "TokenKey { version: 1, bytes: \"redacted\" }");
    }
}
