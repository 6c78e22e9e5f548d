//! Who may come in by a port that other machines can reach: whoever knows the workload's key.
//!
//! ```text
//! forwarder ──32 random bytes──► caller
//!           ◄─keyed hash of them─
//! ```
//!
//! Neither the key nor anything that could be said again crosses the network; what follows is as open as the network is.

use std::io::{self, Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};

/// How long a caller may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// Lets a caller in, or does not.
pub(super) fn admit(mut caller: &TcpStream, key: &[u8; 32]) -> io::Result<()> {
    let question: [u8; 32] = rand::random();
    caller.set_read_timeout(Some(PATIENCE))?;
    caller.write_all(&question)?;
    let mut answer = [0u8; 32];
    caller.read_exact(&mut answer)?;
    caller.set_read_timeout(None)?;
    // Hashes compare in constant time.
    if blake3::keyed_hash(key, &question) == answer {
        Ok(())
    } else {
        Err(io::ErrorKind::PermissionDenied.into())
    }
}

/// Shows a forwarder that the caller knows the key.
pub(crate) async fn knock(stream: &mut tokio::net::TcpStream, key: &[u8; 32]) -> io::Result<()> {
    let mut question = [0u8; 32];
    tokio::time::timeout(PATIENCE, stream.read_exact(&mut question)).await??;
    stream.write_all(blake3::keyed_hash(key, &question).as_bytes()).await
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::net::TcpListener;

    async fn admitted(theirs: [u8; 32]) -> bool {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let door = std::thread::spawn(move || admit(&listener.accept().unwrap().0, &[7; 32]).is_ok());
        let mut caller = tokio::net::TcpStream::connect(address).await.unwrap();
        knock(&mut caller, &theirs).await.unwrap();
        door.join().unwrap()
    }

    #[tokio::test]
    async fn only_who_knows_the_key_comes_in() {
        assert!(admitted([7; 32]).await);
        assert!(!admitted([8; 32]).await);
    }
}
