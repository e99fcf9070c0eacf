//! Asking for an introduction: whom to join, at the addresses that Dapr's flag names.

use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use std::time::Duration;

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;

use crate::api::introduction::{Introduction, PATH};

/// Time for one answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(3);
/// Pause between rounds.
const ROUND_PAUSE: Duration = Duration::from_millis(500);
/// Largest answer that is read, in bytes.
const ANSWER_BYTES_MAX: u64 = 64 << 10;

/// How a search ended.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) enum Found {
    /// Members of a cluster.
    Members(Members),
    /// Somebody answers at this address, and it is not Ghostlight.
    Foreign(String),
}

/// Whom to join.
#[derive(Clone, PartialEq, Eq, Debug)]
pub(super) struct Members {
    pub(super) peers: Vec<String>,
    /// See [`Introduction::key_file`].
    pub(super) key_file: Option<PathBuf>,
}

impl Members {
    /// The file with the cluster key, if it is this user's alone: another user's could lead into
    /// another user's cluster.
    pub(super) fn own_key_file(&self) -> Option<PathBuf> {
        let path = self.key_file.as_ref()?;
        let file = std::fs::metadata(path).ok()?;
        let is_own = file.uid() == rustix::process::getuid().as_raw();
        let others_write = file.mode() & 0o022 != 0;
        (file.is_file() && is_own && !others_write).then(|| path.clone())
    }
}

/// Asks at all addresses, again and again, until one of them answers. `waiting` is told once, with
/// the first address, when nobody does.
pub(super) async fn search(addresses: &[String], waiting: impl Fn(&str)) -> Found {
    let mut told = false;
    loop {
        let mut foreign = None;
        for address in addresses {
            match ask(address).await {
                Answer::Introduced(members) if !members.peers.is_empty() => {
                    return Found::Members(members);
                }
                Answer::Introduced(_) | Answer::Silent => {}
                Answer::Foreign => foreign = Some(address),
            }
        }
        // One of ours among several counts, also when another one is not.
        if let Some(address) = foreign {
            return Found::Foreign(address.clone());
        }
        if let (false, Some(first)) = (told, addresses.first()) {
            waiting(first);
            told = true;
        }
        tokio::time::sleep(ROUND_PAUSE).await;
    }
}

/// What one address says.
#[derive(Clone, PartialEq, Eq, Debug)]
enum Answer {
    /// These are members; none: the node there is in no cluster yet.
    Introduced(Members),
    /// Nobody listens, or it ended before it answered.
    Silent,
    /// It answered something else.
    Foreign,
}

async fn ask(address: &str) -> Answer {
    let asked = async {
        let mut stream = TcpStream::connect(address).await?;
        let request =
            format!("GET {PATH} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        stream.write_all(request.as_bytes()).await?;
        let mut answer = Vec::new();
        // A gRPC server sends its settings and cuts the connection: what came before that tells.
        drop(stream.take(ANSWER_BYTES_MAX).read_to_end(&mut answer).await);
        Ok::<_, std::io::Error>(answer)
    };
    match tokio::time::timeout(ANSWER_TIME_MAX, asked).await {
        Ok(Ok(answer)) => read(&answer),
        Ok(Err(_)) => Answer::Silent,
        Err(_) => Answer::Foreign,
    }
}

fn read(answer: &[u8]) -> Answer {
    let text = String::from_utf8_lossy(answer);
    let Some((head, body)) = text.split_once("\r\n\r\n") else {
        return match answer.is_empty() {
            true => Answer::Silent,
            false => Answer::Foreign,
        };
    };
    match head.split(' ').nth(1) {
        Some("200") => match serde_json::from_str::<Introduction>(body) {
            Ok(introduction) => Answer::Introduced(Members {
                peers: introduction.peers,
                key_file: introduction.key_file,
            }),
            Err(_) => Answer::Foreign,
        },
        // It is ending, or has not begun.
        Some("503") => Answer::Silent,
        _ => Answer::Foreign,
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;

    use super::*;

    fn members(peers: &[&str], key_file: Option<&str>) -> Members {
        Members {
            peers: peers.iter().map(|&peer| peer.to_owned()).collect(),
            key_file: key_file.map(PathBuf::from),
        }
    }

    /// A key that others can write may be anybody's.
    #[test]
    fn only_a_key_file_of_this_user_alone_is_taken() {
        use std::os::unix::fs::PermissionsExt;

        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("cluster.key");
        let members = members(&[], path.to_str());
        assert_eq!(members.own_key_file(), None, "there is none");
        std::fs::write(&path, "k").unwrap();
        for (mode, taken) in [(0o600, true), (0o644, true), (0o664, false), (0o602, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(members.own_key_file().is_some(), taken, "{mode:o}");
        }
    }

    #[test]
    fn answers() {
        let ok = "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\n\r\n";
        for (answer, expected) in [
            (
                format!("{ok}{{\"cluster\":\"c\",\"peers\":[\"1.2.3.4:7400\"]}}"),
                Answer::Introduced(members(&["1.2.3.4:7400"], None)),
            ),
            (
                format!("{ok}{{\"cluster\":\"c\",\"peers\":[],\"key_file\":\"/k\"}}"),
                Answer::Introduced(members(&[], Some("/k"))),
            ),
            (
                format!("{ok}{{\"cluster\":\"\",\"peers\":[]}}"),
                Answer::Introduced(members(&[], None)),
            ),
            (format!("{ok}<html>"), Answer::Foreign),
            ("HTTP/1.1 503 x\r\n\r\n".into(), Answer::Silent),
            ("HTTP/1.1 404 x\r\n\r\n".into(), Answer::Foreign),
            ("\0\0\u{6}\u{4}\0\0\0\0\0".into(), Answer::Foreign),
            (String::new(), Answer::Silent),
        ] {
            assert_eq!(read(answer.as_bytes()), expected, "{answer:?}");
        }
    }

    /// Answers every connection with the same bytes.
    async fn server(answer: &'static str) -> String {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap().to_string();
        drop(tokio::spawn(async move {
            while let Ok((mut stream, _)) = listener.accept().await {
                let mut request = [0; 512];
                drop(stream.read(&mut request).await);
                drop(stream.write_all(answer.as_bytes()).await);
            }
        }));
        address
    }

    #[tokio::test]
    async fn one_of_ours_among_several_counts() {
        let foreign = server("HTTP/1.1 404 Not Found\r\n\r\n").await;
        let ours = "HTTP/1.1 200 OK\r\n\r\n{\"cluster\":\"c\",\"peers\":[\"1.2.3.4:7400\"]}";
        let ours = server(ours).await;
        let found = search(&[foreign.clone(), ours], |_| ()).await;
        assert_eq!(found, Found::Members(members(&["1.2.3.4:7400"], None)));
        assert_eq!(
            search(std::slice::from_ref(&foreign), |_| ()).await,
            Found::Foreign(foreign)
        );
    }

    #[tokio::test]
    async fn a_refused_connection_is_tried_again_and_told_once() {
        let free = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = free.local_addr().unwrap().to_string();
        drop(free);
        let told = std::cell::Cell::new(0);
        let addresses = [address.clone()];
        let searched = search(&addresses, |_| told.set(told.get() + 1));
        let late = async {
            // The search has gone round at least once; then somebody listens.
            while told.get() == 0 {
                tokio::task::yield_now().await;
            }
            let listener = TcpListener::bind(&address).await.unwrap();
            let (mut stream, _) = listener.accept().await.unwrap();
            let answer = "HTTP/1.1 200 OK\r\n\r\n{\"cluster\":\"c\",\"peers\":[\"1.2.3.4:7400\"]}";
            stream.write_all(answer.as_bytes()).await.unwrap();
        };
        let (found, ()) = tokio::join!(searched, late);
        assert_eq!(found, Found::Members(members(&["1.2.3.4:7400"], None)));
        assert_eq!(told.get(), 1);
    }
}
