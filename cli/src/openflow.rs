//! `ferrule openflow`: messages as people read them, and back. One line out for every line in, so that two files stay in
//! step; what a line could not be is said in its place.

use std::io::{BufRead, Read, Write};
use std::os::unix::net::UnixStream;
use std::path::Path;

use bytes::BytesMut;
use openflow::message::{Hello, HelloElement};
use openflow::{FlowModCommand, GroupModCommand, Message, Xid, text};
use serde_json::json;

use crate::arguments::{Encoded, Modification, Openflow};
use crate::fail::{Fail, Outcome};

pub fn run(command: &Openflow) -> Result<Outcome, Fail> {
    match command {
        Openflow::Decode { hex } => each(hex, |line| match decode(line) {
            Ok(Decoded { text, bytes, messages }) => {
                Ok(json!({ "text": text, "bytes": bytes, "messages": messages }).to_string())
            }
            Err(Undecodable { error, offset }) => {
                Err(json!({ "error": error, "offset": offset }).to_string())
            }
        }),
        Openflow::Encode { what, text, command } => each(text, |line| {
            encode(*what, *command, line).map_err(|error| json!({ "error": error }).to_string())
        }),
        Openflow::Monitor { bridge, ovs_rundir, only } => monitor(bridge, ovs_rundir, only),
    }
}

/// Answers every line, given or read. Failed when one line could not be done.
fn each(given: &[String], answer: impl Fn(&str) -> Result<String, String>) -> Result<Outcome, Fail> {
    let mut out = std::io::stdout().lock();
    let mut outcome = Outcome::Expected;
    let mut say = |line: &str| -> Result<(), Fail> {
        let text = answer(line).unwrap_or_else(|text| {
            outcome = Outcome::Failed;
            text
        });
        Ok(writeln!(out, "{text}")?)
    };
    if given.is_empty() {
        for line in std::io::stdin().lock().lines() {
            say(&line.map_err(|error| format!("cannot read the standard input: {error}"))?)?;
        }
    } else {
        given.iter().try_for_each(|line| say(line))?;
    }
    Ok(outcome)
}

struct Decoded {
    text: String,
    bytes: String,
    messages: usize,
}

/// `offset` counts bytes from the start of the line.
struct Undecodable {
    error: String,
    offset: usize,
}

fn decode(line: &str) -> Result<Decoded, Undecodable> {
    let bytes = unhex(line)?;
    let (mut texts, mut again) = (Vec::new(), BytesMut::new());
    let mut start = 0;
    while start < bytes.len() || texts.is_empty() {
        let rest = &bytes[start..];
        let fail = |error: openflow::DecodeError| Undecodable {
            error: error.kind.to_string(),
            offset: start + error.offset,
        };
        let length = match Message::length(rest).map_err(fail)? {
            Some(length) if length <= rest.len() => length,
            Some(length) => {
                let error = format!("the message is {length} bytes long, {} are there", rest.len());
                return Err(Undecodable { error, offset: start + 2 });
            }
            None => {
                let error = format!("a message has 8 bytes at least, {} are there", rest.len());
                return Err(Undecodable { error, offset: bytes.len() });
            }
        };
        let (xid, message) = Message::decode(&rest[..length]).map_err(fail)?;
        texts.push(message.display(xid).to_string().trim_end_matches('\n').to_owned());
        message
            .encode(xid, &mut again)
            .map_err(|error| Undecodable { error: error.to_string(), offset: start })?;
        start += length;
    }
    Ok(Decoded { messages: texts.len(), text: texts.join("\n"), bytes: hex(&again) })
}

fn unhex(line: &str) -> Result<Vec<u8>, Undecodable> {
    let digits: Vec<u8> = line.bytes().filter(|byte| !byte.is_ascii_whitespace()).collect();
    let digits = digits.strip_prefix(b"0x").unwrap_or(&digits);
    let pairs = digits.chunks(2).enumerate().map(|(offset, pair)| {
        let text = std::str::from_utf8(pair).ok().filter(|text| text.len() == 2 && !text.starts_with('+'));
        text.and_then(|text| u8::from_str_radix(text, 16).ok())
            .ok_or_else(|| Undecodable { error: "not an even number of hexadecimal digits".into(), offset })
    });
    pairs.collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

fn encode(what: Encoded, command: Modification, line: &str) -> Result<String, String> {
    let wrong = || format!("ovs-ofctl has no such command for a {what:?}; see --help").to_lowercase();
    let message = match what {
        Encoded::Flow => {
            let command = match command {
                Modification::Add => FlowModCommand::Add,
                Modification::Mod => FlowModCommand::Modify,
                Modification::ModStrict => FlowModCommand::ModifyStrict,
                Modification::Del => FlowModCommand::Delete,
                Modification::DelStrict => FlowModCommand::DeleteStrict,
                Modification::AddOrMod => return Err(wrong()),
            };
            Message::FlowMod(Box::new(text::parse_flow(line, command).map_err(|error| error.to_string())?))
        }
        Encoded::Group => {
            let command = match command {
                Modification::Add => GroupModCommand::Add,
                Modification::Mod => GroupModCommand::Modify,
                Modification::AddOrMod => GroupModCommand::AddOrModify,
                Modification::Del => GroupModCommand::Delete,
                Modification::ModStrict | Modification::DelStrict => return Err(wrong()),
            };
            Message::GroupMod(text::parse_group(line, command).map_err(|error| error.to_string())?)
        }
        Encoded::Meter => {
            use openflow::message::MeterModCommand as Command;
            let command = match command {
                Modification::Add => Command::Add,
                Modification::Mod => Command::Modify,
                Modification::Del => Command::Delete,
                _ => return Err(wrong()),
            };
            Message::MeterMod(text::parse_meter(line, command).map_err(|error| error.to_string())?)
        }
    };
    message.to_bytes(Xid(0)).map(|bytes| hex(&bytes)).map_err(|error| error.to_string())
}

/// Until interrupted, or until the bridge goes away.
fn monitor(bridge: &str, rundir: &Path, only: &[String]) -> Result<Outcome, Fail> {
    let socket = rundir.join(format!("{bridge}.snoop"));
    let mut stream = UnixStream::connect(&socket).map_err(|error| {
        format!(
            "cannot connect to {}: {error}; is the bridge there, and is --ovs-rundir (OVS_RUNDIR) right?",
            socket.display()
        )
    })?;
    // Without a controller of the bridge's own there is nothing to show, and Open vSwitch hangs up at once.
    let lost = |error: &dyn std::fmt::Display| {
        format!(
            "the bridge {bridge} ended the connection: {error}; it shows what it and its controllers say, see `ovs-vsctl \
             get-controller {bridge}` (what is said on its management socket is not shown)"
        )
    };
    let hello = Hello { version: 4, elements: vec![HelloElement::VersionBitmap(vec![1 << 4])] };
    let hello = Message::Hello(hello).to_bytes(Xid(1)).map_err(|error| error.to_string())?;
    stream.write_all(&hello).map_err(|error| lost(&error))?;
    let (mut input, mut buffer) = (BytesMut::new(), vec![0; 64 * 1024]);
    let only: Vec<String> = only.iter().map(|name| name.to_ascii_uppercase()).collect();
    let mut out = std::io::stdout().lock();
    loop {
        let count = stream.read(&mut buffer).map_err(|error| lost(&error))?;
        if count == 0 {
            return Err(Fail::Said(lost(&"closed")));
        }
        input.extend_from_slice(&buffer[..count]);
        while let Some(length) = Message::length(&input).map_err(|error| error.to_string())? {
            if input.len() < length {
                break;
            }
            let message = input.split_to(length);
            match Message::decode(&message) {
                Ok((xid, message)) => {
                    let wanted =
                        only.is_empty() || only.iter().any(|name| message.name().contains(name.as_str()));
                    if wanted {
                        writeln!(out, "{}", message.display(xid).to_string().trim_end_matches('\n'))?;
                    }
                }
                Err(error) => writeln!(out, "a message that cannot be decoded, {error}: {}", hex(&message))?,
            }
            out.flush()?;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flow_goes_out_as_bytes_and_comes_back_as_text() {
        let bytes =
            encode(Encoded::Flow, Modification::Add, "table=3,priority=5,tcp,tp_dst=80,actions=output:2")
                .unwrap();
        let Ok(decoded) = decode(&format!("{bytes}{bytes}")) else { panic!("{bytes}") };
        assert_eq!((decoded.messages, decoded.bytes), (2, format!("{bytes}{bytes}")));
        let line = decoded.text.lines().next().unwrap();
        assert_eq!(
            line,
            "OFPT_FLOW_MOD (OF1.3) (xid=0x0): ADD table:3 priority=5,tcp,tp_dst=80 actions=output:2"
        );
    }

    #[test]
    fn what_is_no_message_says_where() {
        for (line, offset) in
            [("", 0), ("04", 1), ("04020008", 4), ("0402000800000001ff", 9), ("zz", 0), ("040", 1)]
        {
            let Err(error) = decode(line) else { panic!("{line}") };
            assert_eq!(error.offset, offset, "{line}: {}", error.error);
        }
        assert!(encode(Encoded::Flow, Modification::Add, "nonsense=80,actions=drop").is_err());
        assert!(encode(Encoded::Meter, Modification::DelStrict, "meter=1").is_err());
    }
}
