//! ovs-vswitchd's control socket (ovs-appctl(8), JSON-RPC): asks it commands, and hands long answers on line by line, so that
//! a dump of very many connections is never held. It must not know what commands mean.

use std::path::{Path, PathBuf};

use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;

/// Why a command has no answer.
#[derive(Debug, thiserror::Error)]
pub enum UnixctlError {
    /// There is no control socket to be found.
    #[error("cannot find ovs-vswitchd's control socket in {dir}: {error}", dir = dir.display())]
    NoSocket {
        /// Where it was looked for.
        dir: PathBuf,
        /// What went wrong.
        error: std::io::Error,
    },
    /// The connection failed.
    #[error("ovs-vswitchd's control socket: {0}")]
    Io(#[from] std::io::Error),
    /// ovs-vswitchd ended the connection.
    #[error("ovs-vswitchd ended the connection in the middle of an answer")]
    Ended,
    /// ovs-vswitchd refused the command.
    #[error("ovs-vswitchd refused `{command}`: {error}")]
    Refused {
        /// Which.
        command: String,
        /// In its words.
        error: String,
    },
    /// The answer is no JSON-RPC reply.
    #[error("ovs-vswitchd's control socket: the answer cannot be read: {0}")]
    Unreadable(&'static str),
}

/// A connection to the control socket.
#[derive(Debug)]
pub struct Unixctl {
    stream: UnixStream,
}

impl Unixctl {
    /// Connects to the ovs-vswitchd whose run directory this is.
    pub async fn connect(rundir: &Path) -> Result<Self, UnixctlError> {
        let none = |error| UnixctlError::NoSocket { dir: rundir.to_owned(), error };
        let pid = tokio::fs::read_to_string(rundir.join("ovs-vswitchd.pid")).await.map_err(none)?;
        let socket = rundir.join(format!("ovs-vswitchd.{}.ctl", pid.trim()));
        Ok(Self { stream: UnixStream::connect(&socket).await.map_err(none)? })
    }

    /// Runs a command; its answer.
    pub async fn call(&mut self, command: &str, arguments: &[&str]) -> Result<String, UnixctlError> {
        let mut answer = String::new();
        let mut lines = self.ask(command, arguments).await?;
        while let Some(some) = lines.next().await? {
            for line in some {
                answer.push_str(&line);
                answer.push('\n');
            }
        }
        Ok(answer)
    }

    /// Runs a command; its answer comes in parts.
    pub async fn ask(&mut self, command: &str, arguments: &[&str]) -> Result<Lines<'_>, UnixctlError> {
        let request = serde_json::json!({"id": 0, "method": command, "params": arguments});
        self.stream.write_all(request.to_string().as_bytes()).await?;
        Ok(Lines {
            stream: &mut self.stream,
            buffer: vec![0; 65_536],
            reply: Reply::default(),
            command: command.into(),
        })
    }
}

/// An answer on its way. It is to be read to its end before anything else is asked.
#[derive(Debug)]
pub struct Lines<'a> {
    stream: &'a mut UnixStream,
    buffer: Vec<u8>,
    reply: Reply,
    command: String,
}

impl Lines<'_> {
    /// The lines that came next, perhaps none of them whole yet; `None` at the end.
    pub async fn next(&mut self) -> Result<Option<Vec<String>>, UnixctlError> {
        if self.reply.is_whole() {
            return match self.reply.error.take() {
                None => Ok(None),
                Some(error) => {
                    Err(UnixctlError::Refused { command: self.command.clone(), error: error.trim().into() })
                }
            };
        }
        let length = self.stream.read(&mut self.buffer).await?;
        let read = self.buffer.get(..length).filter(|read| !read.is_empty()).ok_or(UnixctlError::Ended)?;
        let mut lines = Vec::new();
        self.reply.take_in(read, &mut lines).map_err(UnixctlError::Unreadable)?;
        Ok(Some(lines))
    }
}

/// No line of an answer is longer, in bytes.
const LONGEST_LINE: usize = 65_536;

/// A JSON-RPC reply as it comes in: an object whose members are strings or have no structure.
#[derive(Debug, Default)]
struct Reply {
    place: Place,
    key: String,
    /// The string so far, or the last line of it.
    text: Vec<u8>,
    error: Option<String>,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
enum Place {
    #[default]
    Before,
    Key,
    InKey(Escape),
    Colon,
    Value,
    InText(Escape),
    InOther,
    AfterValue,
    Whole,
}

/// Where in an escape sequence of a string (RFC 8259 §7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Escape {
    No,
    Begun,
    /// `\u`: digits to come, and the value so far.
    Code(u8, u32),
}

impl Reply {
    fn is_whole(&self) -> bool {
        self.place == Place::Whole
    }

    fn take_in(&mut self, bytes: &[u8], lines: &mut Vec<String>) -> Result<(), &'static str> {
        for byte in bytes {
            self.place = self.step(*byte, lines)?;
        }
        Ok(())
    }

    fn step(&mut self, byte: u8, lines: &mut Vec<String>) -> Result<Place, &'static str> {
        Ok(match (self.place, byte) {
            (Place::InKey(escape), _) => match self.string(escape, byte)? {
                Some(escape) => Place::InKey(escape),
                None => {
                    self.key = self.take_text();
                    Place::Colon
                }
            },
            (Place::InText(escape), _) => match self.string(escape, byte)? {
                Some(Escape::No) if self.key == "result" && self.text.last() == Some(&b'\n') => {
                    self.text.pop();
                    lines.push(self.take_text());
                    Place::InText(Escape::No)
                }
                Some(escape) => Place::InText(escape),
                None => {
                    let text = self.take_text();
                    match self.key.as_str() {
                        "result" if !text.is_empty() => lines.push(text),
                        "error" => self.error = Some(text),
                        _ => {}
                    }
                    Place::AfterValue
                }
            },
            (place, b' ' | b'\t' | b'\r' | b'\n') => place,
            (Place::Before, b'{') => Place::Key,
            (Place::Key, b'"') => Place::InKey(Escape::No),
            (Place::Colon, b':') => Place::Value,
            (Place::Value, b'"') => Place::InText(Escape::No),
            (Place::Value, b'{' | b'[') => return Err("it holds what no answer of a command does"),
            (Place::Value | Place::AfterValue | Place::InOther, b'}') => Place::Whole,
            (Place::AfterValue | Place::InOther, b',') => Place::Key,
            (Place::Value | Place::InOther, _) => Place::InOther,
            _ => return Err("it is no JSON object"),
        })
    }

    /// Takes in a byte of a string; `None` at its end.
    fn string(&mut self, escape: Escape, byte: u8) -> Result<Option<Escape>, &'static str> {
        if self.text.len() > LONGEST_LINE {
            return Err("a line of it is too long");
        }
        let mut put = |byte| {
            self.text.push(byte);
            Ok(Some(Escape::No))
        };
        match (escape, byte) {
            (Escape::No, b'"') => Ok(None),
            (Escape::No, b'\\') => Ok(Some(Escape::Begun)),
            (Escape::Begun, b'n') => put(b'\n'),
            (Escape::Begun, b't') => put(b'\t'),
            (Escape::Begun, b'r') => put(b'\r'),
            (Escape::Begun, b'b') => put(8),
            (Escape::Begun, b'f') => put(12),
            (Escape::Begun, b'u') => Ok(Some(Escape::Code(4, 0))),
            (Escape::No | Escape::Begun, other) => put(other),
            (Escape::Code(left, value), digit) => {
                let digit = char::from(digit).to_digit(16).ok_or("a bad escape in a string")?;
                let value = value << 4 | digit;
                if left > 1 {
                    return Ok(Some(Escape::Code(left - 1, value)));
                }
                let mut bytes = [0; 4];
                let read = char::from_u32(value).unwrap_or(char::REPLACEMENT_CHARACTER);
                self.text.extend_from_slice(read.encode_utf8(&mut bytes).as_bytes());
                Ok(Some(Escape::No))
            }
        }
    }

    fn take_text(&mut self) -> String {
        let text = String::from_utf8_lossy(&self.text).into_owned();
        self.text.clear();
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str, step: usize) -> Result<(Vec<String>, Option<String>, bool), &'static str> {
        let (mut reply, mut lines) = (Reply::default(), Vec::new());
        for part in text.as_bytes().chunks(step) {
            reply.take_in(part, &mut lines)?;
        }
        Ok((lines, reply.error.clone(), reply.is_whole()))
    }

    #[test]
    fn replies_come_in_any_order_and_in_any_pieces() {
        let lines = vec!["one, \"two\"".to_owned(), String::new(), "a\tb\u{e9}".to_owned()];
        for text in [
            r#"{"id":0,"result":"one, \"two\"\n\na\tb\u00e9\n","error":null}"#,
            r#" { "error" : null , "result" : "one, \"two\"\n\na\tb\u00e9" , "id" : 0 }"#,
        ] {
            for step in [1, 2, 7, 1000] {
                assert_eq!(read(text, step), Ok((lines.clone(), None, true)), "{step}: {text}");
            }
        }
        let refused = r#"{"error":"no such command\n","id":0,"result":null}"#;
        assert_eq!(read(refused, 3), Ok((vec![], Some("no such command\n".into()), true)));
        assert!(!read(r#"{"id":0,"result":"half a li"#, 5).unwrap().2);
    }

    #[test]
    fn what_is_no_reply_is_refused() {
        for text in ["[1]", "x", r#"{"result":{"a":1}}"#, r#"{"result":"\ux"}"#] {
            assert!(read(text, 1).is_err(), "{text}");
        }
        let endless = format!(r#"{{"result":"{}"#, "x".repeat(LONGEST_LINE + 2));
        assert!(read(&endless, 4096).is_err());
    }
}
