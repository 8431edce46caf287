//! The conversation with the node's agent: one request and one reply per connection (`api::cni`). It must not know what
//! the commands do.

use std::io::{self, Read, Write};
use std::net::Shutdown;
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use api::cni::{Attachment, Command, Failure, PROTOCOL, Reply, Request, code};

/// How long the agent may take for one command: the switch, the policies and 5 s for an unknown pod fit well.
pub(crate) const PATIENCE: Duration = Duration::from_secs(30);
/// A reply is a few lines.
const REPLY_LIMIT: u64 = 1 << 20;

/// Why there is no reply.
#[derive(Debug, thiserror::Error)]
pub(crate) enum AgentError {
    #[error(
        "ferrule-agent is not reachable at {socket}: {error}; see whether it runs on this node and listens there \
         (`agentSocket` of the network configuration)"
    )]
    Unreachable { socket: PathBuf, error: io::Error },
    #[error(
        "ferrule-agent at {socket} broke off before it answered: {error}; try again, and read its log if it keeps doing so"
    )]
    Lost { socket: PathBuf, error: io::Error },
    #[error("ferrule-agent at {socket} did not answer within {} s; try again, and read its log", patience.as_secs())]
    Silent { socket: PathBuf, patience: Duration },
    #[error(
        "ferrule-agent at {socket} gave an answer that ferrule-cni cannot read ({why}): install the same version of both"
    )]
    Unreadable { socket: PathBuf, why: String },
    #[error("{}", .0.msg)]
    Refused(Failure),
}

impl AgentError {
    /// Whether the agent is away, so that it neither did the work nor will remember to.
    pub(crate) fn is_away(&self) -> bool {
        matches!(self, Self::Unreachable { .. } | Self::Lost { .. } | Self::Silent { .. })
    }
}

impl From<AgentError> for Failure {
    fn from(error: AgentError) -> Self {
        let code = match &error {
            AgentError::Refused(failure) => return failure.clone(),
            AgentError::Unreachable { .. } | AgentError::Lost { .. } => code::AGENT_UNREACHABLE,
            AgentError::Silent { .. } => code::TRY_AGAIN,
            AgentError::Unreadable { .. } => code::DECODE,
        };
        Self { code, msg: error.to_string(), details: String::new() }
    }
}

/// The agent at a socket.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Agent<'a> {
    pub(crate) socket: &'a Path,
    pub(crate) patience: Duration,
}

impl Agent<'_> {
    /// Sends a command and waits for its reply; a failure in the reply is an error here.
    pub(crate) fn ask(&self, command: Command) -> Result<Reply, AgentError> {
        self.ask_early(command, |_| {})
    }

    /// The same, and hands on what the agent says ahead of its reply.
    pub(crate) fn ask_early(
        &self,
        command: Command,
        assigned: impl FnMut(Attachment),
    ) -> Result<Reply, AgentError> {
        let socket = || self.socket.to_owned();
        let mut stream = UnixStream::connect(self.socket)
            .map_err(|error| AgentError::Unreachable { socket: socket(), error })?;
        let exchanged = self.exchange(&mut stream, &Request { protocol: PROTOCOL, command }, assigned);
        match exchanged {
            Ok(Reply::Failed(failure)) => Err(AgentError::Refused(failure)),
            Ok(reply) => Ok(reply),
            Err(error) => Err(match error.kind() {
                io::ErrorKind::WouldBlock | io::ErrorKind::TimedOut => {
                    AgentError::Silent { socket: socket(), patience: self.patience }
                }
                io::ErrorKind::InvalidData => {
                    AgentError::Unreadable { socket: socket(), why: error.to_string() }
                }
                _ => AgentError::Lost { socket: socket(), error },
            }),
        }
    }

    /// [`io::ErrorKind::InvalidData`] for an answer that is none.
    fn exchange(
        &self,
        stream: &mut UnixStream,
        request: &Request,
        mut assigned: impl FnMut(Attachment),
    ) -> io::Result<Reply> {
        let end = Instant::now() + self.patience;
        stream.set_write_timeout(Some(self.patience))?;
        stream.write_all(&serde_json::to_vec(request)?)?;
        stream.shutdown(Shutdown::Write)?;
        let mut text = Vec::new();
        let mut piece = [0; 4096];
        loop {
            let left = end.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Err(io::ErrorKind::TimedOut.into());
            }
            stream.set_read_timeout(Some(left))?;
            match stream.read(&mut piece)? {
                0 if text.is_empty() => {
                    return Err(io::Error::new(io::ErrorKind::UnexpectedEof, "it closed the connection"));
                }
                0 => return Err(io::Error::new(io::ErrorKind::InvalidData, "it ends in the middle")),
                count => text.extend_from_slice(&piece[..count]),
            }
            // Not until the agent has closed its side: its answer is whole when its document is.
            let mut documents = serde_json::Deserializer::from_slice(&text).into_iter::<Reply>();
            let mut read = 0;
            while let Some(document) = documents.next() {
                match document {
                    Ok(Reply::Assigned(attachment)) => assigned(attachment),
                    Ok(reply) => return Ok(reply),
                    Err(error) if error.is_eof() => break,
                    Err(error) => return Err(io::Error::new(io::ErrorKind::InvalidData, error.to_string())),
                }
                read = documents.byte_offset();
            }
            text.drain(..read);
            if text.len() as u64 > REPLY_LIMIT {
                return Err(io::Error::other("its answer has no end"));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::net::UnixListener;

    use super::*;

    /// Asks an agent that answers `reply` to whatever comes.
    fn ask(reply: &'static [u8], patience: Duration, delay: Duration) -> Result<Reply, AgentError> {
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("cni.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut request = String::new();
            stream.read_to_string(&mut request).unwrap();
            std::thread::sleep(delay);
            let _ = stream.write_all(reply);
        });
        let answer = Agent { socket: &socket, patience }.ask(Command::Status);
        server.join().unwrap();
        answer
    }

    #[test]
    fn what_is_said_ahead_of_the_answer_is_handed_on() {
        let attachment = r#"{"outcome":"assigned","mac":"0a:58:0a:f4:01:05","addresses":[],"gateway_mac":"0e:00:00:0f:e0:01","mtu":1400,"tx_checksum_offload":false}"#;
        let said = format!("{attachment}\n{}", r#"{"outcome":"done"}"#);
        let folder = tempfile::tempdir().unwrap();
        let socket = folder.path().join("cni.sock");
        let listener = UnixListener::bind(&socket).unwrap();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            // In three pieces, and open for as long as the other side likes.
            for piece in [&said.as_bytes()[..30], &said.as_bytes()[30..130], &said.as_bytes()[130..]] {
                stream.write_all(piece).unwrap();
                std::thread::sleep(Duration::from_millis(20));
            }
            let _ = stream.read(&mut [0; 4096]);
            let _ = stream.read(&mut [0; 1]);
        });
        let agent = Agent { socket: &socket, patience: Duration::from_secs(5) };
        let mut ahead = Vec::new();
        let reply = agent.ask_early(Command::Status, |attachment| ahead.push(attachment.mtu)).unwrap();
        assert_eq!((reply, ahead), (Reply::Done, vec![1400]));
        server.join().unwrap();
    }

    #[test]
    fn every_way_of_not_answering_is_told_apart() {
        let (long, now) = (Duration::from_secs(5), Duration::ZERO);
        assert_eq!(ask(br#"{"outcome":"done"}"#, long, now).unwrap(), Reply::Done);
        let code_of = |result: Result<Reply, AgentError>| Failure::from(result.unwrap_err()).code;
        assert_eq!(code_of(ask(b"", long, now)), code::AGENT_UNREACHABLE);
        assert_eq!(code_of(ask(b"{}", long, now)), code::DECODE);
        assert_eq!(code_of(ask(br#"{"outcome":"failed","code":50,"msg":"no"}"#, long, now)), 50);
        let short = Duration::from_millis(20);
        assert_eq!(code_of(ask(b"{}", short, Duration::from_millis(80))), code::TRY_AGAIN);
        let nowhere = Agent { socket: Path::new("/run/ferrule-no-such/cni.sock"), patience: long };
        let failure = Failure::from(nowhere.ask(Command::Status).unwrap_err());
        assert_eq!(failure.code, code::AGENT_UNREACHABLE);
        assert!(failure.msg.contains("/run/ferrule-no-such/cni.sock") && failure.msg.contains("agentSocket"));
    }
}
