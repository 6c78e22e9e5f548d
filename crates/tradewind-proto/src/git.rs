//! What is asked of a git server: requests of version 2 of git's protocol, as its buyer and its provider send them over https.
//!
//! ```
//! use tradewind_proto::git;
//!
//! let asked = String::from_utf8(git::refs(Some("v1"), 40)).expect("text");
//! assert!(asked.starts_with("0014command=ls-refs\n") && asked.contains("ref-prefix refs/tags/v1\n"));
//! ```

/// The header that asks for this version, and its value.
pub const VERSION: (&str, &str) = ("git-protocol", "version=2");
/// What the body of a request is.
pub const REQUEST: &str = "application/x-git-upload-pack-request";
/// Where requests go, below a repository's address.
pub const UPLOAD_PACK: &str = "git-upload-pack";
/// The user's name beside a token. GitHub names it so; others take any.
pub const USER: &str = "x-access-token";
/// Where branches and tags are named.
const PLACES: [&str; 2] = ["refs/heads/", "refs/tags/"];

/// The full names that a revision may mean, the first that exists counts.
#[must_use]
pub fn names(revision: Option<&str>) -> Vec<String> {
    match revision {
        None => vec!["HEAD".into()],
        Some(full) if full.starts_with("refs/") => vec![full.into()],
        Some(short) => PLACES.iter().map(|place| format!("{place}{short}")).collect(),
    }
}

/// Asks what those names mean in a repository whose ids have so many digits.
#[must_use]
pub fn refs(revision: Option<&str>, digits: usize) -> Vec<u8> {
    let mut body = command("ls-refs", digits);
    line(&mut body, "peel");
    for name in names(revision) {
        line(&mut body, &format!("ref-prefix {name}"));
    }
    body.extend(b"0000");
    body
}

/// Asks for one commit and all that it holds, and for nothing that came before it.
#[must_use]
pub fn fetch(commit: &str) -> Vec<u8> {
    let mut body = command("fetch", commit.len());
    for argument in ["no-progress", "ofs-delta", "deepen 1", &format!("want {commit}"), "done"] {
        line(&mut body, argument);
    }
    body.extend(b"0000");
    body
}

fn command(name: &str, digits: usize) -> Vec<u8> {
    let mut body = Vec::new();
    line(&mut body, &format!("command={name}"));
    // Servers of old know no other format than SHA-1, and refuse to hear of one.
    if digits == 64 {
        line(&mut body, "object-format=sha256");
    }
    body.extend(b"0001");
    body
}

/// A line with its length before it.
fn line(body: &mut Vec<u8>, text: &str) {
    body.extend(format!("{:04x}{text}\n", text.len() + 5).into_bytes());
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_commit_is_asked_for_without_its_history() {
        let commit = "0123456789abcdef0123456789abcdef01234567";
        let asked = String::from_utf8(fetch(commit)).unwrap();
        let lines = "0012command=fetch\n00010010no-progress\n000eofs-delta\n000ddeepen 1\n";
        assert_eq!(asked, format!("{lines}0032want {commit}\n0009done\n0000"));
        assert!(String::from_utf8(fetch(&"a".repeat(64))).unwrap().contains("object-format=sha256\n0001"));
    }

    #[test]
    fn a_branch_goes_before_a_tag_and_a_full_name_is_only_itself() {
        assert_eq!(names(Some("v1")), ["refs/heads/v1", "refs/tags/v1"]);
        assert_eq!(names(Some("refs/pull/7/head")), ["refs/pull/7/head"]);
        assert_eq!(names(None), ["HEAD"]);
    }
}
