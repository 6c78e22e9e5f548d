//! The wallet's backup, and the proof that it works: the copy is opened with what the person wrote down.

use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};
use tradewind_chain::client::keystore;
use tradewind_proto::signature::SigningKey;
use zeroize::Zeroizing;

use super::wallet::copy;
use crate::cli::Setup;
use crate::client::Told;
use crate::node::keys;
use crate::printer::Printer;

/// Digits that nobody confuses.
const DIGITS: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";
/// Groups of four digits in a recovery code: 120 bits.
const GROUPS: usize = 6;
/// How often the code may be typed.
const TRIES: u32 = 3;

/// What is remembered of a backup that was checked.
#[derive(Debug, Serialize, Deserialize)]
struct Checked {
    account: String,
    file: PathBuf,
}

/// Makes and checks the backup, unless one was checked before, and says where it is.
pub(super) fn make(
    options: &Setup,
    data_dir: &Path,
    key: &SigningKey,
    development: bool,
    printer: Printer,
) -> anyhow::Result<Option<PathBuf>> {
    let marker = data_dir.join("backup.json");
    if let Ok(text) = std::fs::read_to_string(&marker)
        && let Ok(checked) = serde_json::from_str::<Checked>(&text)
        && checked.account == key.address().to_string()
        && options.backup.is_none()
    {
        return Ok(Some(checked.file));
    }
    let file = match (&options.backup, &options.backup_password_file) {
        (Some(file), Some(password)) => {
            let file = std::path::absolute(file)?;
            copy(&file, key, &keys::password(Some(password))?)?;
            file
        }
        _ if options.no_backup => return Ok(None),
        (_, None) if !options.yes && printer.can_ask() => by_person(options.backup.as_deref(), key, printer)?,
        (None, None) if development => return Ok(None),
        _ => {
            let hint = "`--backup FILE --backup-password-file FILE` makes one that is checked, `--no-backup` goes without; \
                        `tradewind setup` goes on from here";
            return Err(Told::error("the wallet has no backup, and nobody is there to make one", hint));
        }
    };
    let checked = Checked { account: key.address().to_string(), file };
    let text = serde_json::to_string(&checked)?;
    std::fs::write(&marker, text).with_context(|| format!("cannot write {}", marker.display()))?;
    Ok(Some(checked.file))
}

/// Shows a recovery code, and opens the copy with what is typed back.
fn by_person(named: Option<&Path>, key: &SigningKey, printer: Printer) -> anyhow::Result<PathBuf> {
    let file = match named {
        Some(file) => file.to_owned(),
        None => {
            let usual = format!("tradewind-{}.json", key.address());
            let typed = printer.ask(&format!("write the wallet's backup to [{usual}]: "))?;
            PathBuf::from(if typed.is_empty() { usual } else { typed })
        }
    };
    let file = std::path::absolute(file)?;
    let code = code();
    copy(&file, key, &code)?;
    printer.step(&format!(
        "the backup is encrypted with this recovery code; write it down, away from the file:\n\n  {}\n",
        code.as_str()
    ));
    for _ in 0..TRIES {
        let typed = printer.ask_secret("type the code back, from what you wrote: ")?;
        let opened = keystore::load(&file, || Ok(normal(&typed)));
        if opened.is_ok_and(|opened| opened.address() == key.address()) {
            printer.step("the backup opens with it");
            return Ok(file);
        }
        printer.step("that does not open the backup");
    }
    std::fs::remove_file(&file).with_context(|| format!("cannot remove {}", file.display()))?;
    bail!("the backup was not checked and is removed; `tradewind setup` tries again, with another code")
}

/// A new recovery code, `XXXX-XXXX-…`.
fn code() -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(GROUPS * 5));
    for index in 0..GROUPS * 4 {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(char::from(DIGITS[usize::from(rand::random::<u8>() & 31)]));
    }
    text
}

/// The code as it was shown, however it was typed.
fn normal(typed: &str) -> Zeroizing<String> {
    let mut text = Zeroizing::new(String::with_capacity(GROUPS * 5));
    for (index, digit) in typed.chars().filter(char::is_ascii_alphanumeric).enumerate() {
        if index > 0 && index % 4 == 0 {
            text.push('-');
        }
        text.push(match digit.to_ascii_uppercase() {
            'O' => '0',
            'I' | 'L' => '1',
            digit => digit,
        });
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_code_is_read_however_it_was_typed() {
        let code = code();
        assert_eq!(code.len(), GROUPS * 5 - 1);
        assert_eq!(*normal(&code), *code);
        assert_eq!(*normal(&code.to_lowercase().replace('-', " ")), *code);
        assert_eq!(*normal("ol1i"), "0111");
    }
}
