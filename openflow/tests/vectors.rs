//! Recorded messages of the real Open vSwitch: bytes come back as they went, text is ofp-print's, ovs-ofctl's syntax gives
//! ovs-ofctl's bytes, and what it refuses is refused. Reads this crate's own vectors and, where they lie beside the project,
//! the shared oracles.

// A vector that cannot be read shall fail the test with its line.
#![allow(clippy::unwrap_used)]

use std::fmt::Write as _;
use std::path::{Path, PathBuf};

use openflow::message::MeterModCommand;
use openflow::text::{parse_flow, parse_group, parse_meter};
use openflow::{FlowModCommand, GroupModCommand, Message, Xid};
use serde_json::Value;

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).to_owned()
}

/// The lines of a vector file, from both places.
fn lines(own: &str, shared: &str) -> Vec<Value> {
    let mut files = vec![root().join("tests/vectors").join(own)];
    let oracle = root().join("../../shared/oracles").join(shared);
    if oracle.exists() {
        files.push(oracle);
    } else {
        eprintln!(
            "SKIPPED: no ../shared/oracles/{shared} beside the project; only this crate's own vectors were checked"
        );
    }
    files
        .iter()
        .flat_map(|file| {
            let text =
                std::fs::read_to_string(file).unwrap_or_else(|error| panic!("{}: {error}", file.display()));
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect::<Vec<Value>>()
        })
        .collect()
}

fn unhex(hex: &str) -> Vec<u8> {
    (0..hex.len() / 2).map(|i| u8::from_str_radix(&hex[2 * i..2 * i + 2], 16).unwrap()).collect()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().fold(String::new(), |mut text, byte| {
        let _ = write!(text, "{byte:02x}");
        text
    })
}

/// Without the spaces at line ends, which nobody sees.
fn trimmed(text: &str) -> String {
    text.trim_end().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Every message of the vectors with ofp-print's text for it, if there is one.
fn messages() -> Vec<(String, Vec<u8>, Option<String>)> {
    let mut all = Vec::new();
    let mut push = |name: String, hex: &Value, text: &Value| {
        if let Some(hex) = hex.as_str() {
            all.push((name, unhex(hex), text.as_str().map(str::to_owned)));
        }
    };
    for row in lines("flow-mods.jsonl", "openflow-flow-mods.jsonl") {
        push(row["flow"].to_string(), &row["bytes"], &row["text"]);
        push(format!("dump of {}", row["flow"]), &row["dump_bytes"], &Value::Null);
    }
    for row in lines("requests.jsonl", "openflow-requests.jsonl") {
        push(row["command"].to_string(), &row["bytes"], &row["decoded"]);
        for part in ["messages", "replies"] {
            for message in row[part].as_array().into_iter().flatten() {
                push(row["command"].to_string(), &message["hex"], &message["text"]);
            }
        }
    }
    let own = std::fs::read_to_string(root().join("tests/vectors/messages.jsonl")).unwrap();
    for line in own.lines() {
        let row: Value = serde_json::from_str(line).unwrap();
        all.push((
            "message of its own".to_owned(),
            unhex(row["hex"].as_str().unwrap()),
            row["text"].as_str().map(str::to_owned),
        ));
    }
    assert!(all.len() > 500, "{} messages", all.len());
    all
}

fn is_other_version(bytes: &[u8]) -> bool {
    bytes[0] != 4 && bytes[1] != 0
}

#[test]
fn bytes_come_back_and_text_is_ofp_prints() {
    let mut failures = Vec::new();
    for (name, bytes, text) in messages() {
        let refused =
            text.as_ref().is_some_and(|text| text.contains("decode error") && !text.contains("OFPT_ERROR"));
        match Message::decode(&bytes) {
            Err(error) => {
                if !refused && !is_other_version(&bytes) {
                    failures.push(format!("{name}\n  {}\n  {error}", hex(&bytes)));
                }
            }
            Ok((xid, message)) => {
                let again = message.to_bytes(xid).unwrap();
                if again != bytes {
                    failures.push(format!("{name}\n  was {}\n  is  {}", hex(&bytes), hex(&again)));
                }
                let printed = trimmed(&message.display(xid).to_string());
                // Tables' features are summarised here, and errors quote what ofp-print itself cannot read.
                let own_words = printed.contains("TABLE_FEATURES")
                    || text.as_ref().is_some_and(|t| t.contains("decode error"));
                if let Some(text) = text.filter(|_| !own_words)
                    && trimmed(&text) != printed
                {
                    failures.push(format!("{name}\n  ofp-print: {text}\n  ours:      {printed}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

#[test]
fn flow_syntax_gives_ovs_ofctls_bytes() {
    let mut failures = Vec::new();
    for row in lines("flow-mods.jsonl", "openflow-flow-mods.jsonl") {
        let flow = row["flow"].as_str().unwrap();
        let parsed = parse_flow(flow, FlowModCommand::Add);
        match (row["bytes"].as_str(), parsed) {
            (None, Err(_)) => {}
            (None, Ok(parsed)) => {
                failures.push(format!("{flow}\n  is refused by ovs-ofctl, not here: {parsed}"))
            }
            // What the switch itself then refuses may be refused here at once.
            (Some(_), Err(_)) if row["text"].as_str().is_some_and(|text| text.contains("decode error")) => {}
            (Some(_), Err(error)) => failures.push(format!("{flow}\n  {error}")),
            (Some(wanted), Ok(parsed)) => {
                let bytes = hex(&Message::FlowMod(Box::new(parsed)).to_bytes(Xid(0)).unwrap());
                if bytes != wanted {
                    failures.push(format!("{flow}\n  wanted {wanted}\n  got    {bytes}"));
                }
            }
        }
    }
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// The message that an ovs-ofctl command line sends, for commands that send one.
fn parse_command(words: &[&str]) -> Option<Result<Message, String>> {
    let strict = words.contains(&"--strict");
    let may_create = words.contains(&"--may-create");
    let words: Vec<&str> = words.iter().copied().filter(|word| !word.starts_with("--")).collect();
    let text = words.get(2).copied().unwrap_or_default();
    let flow = |command| {
        parse_flow(text, command).map(|flow| Message::FlowMod(Box::new(flow))).map_err(|e| e.to_string())
    };
    let group = |command| parse_group(text, command).map(Message::GroupMod).map_err(|e| e.to_string());
    let meter = |command| parse_meter(text, command).map(Message::MeterMod).map_err(|e| e.to_string());
    Some(match (words[0], strict) {
        ("mod-flows", false) => flow(FlowModCommand::Modify),
        ("mod-flows", true) => flow(FlowModCommand::ModifyStrict),
        ("del-flows", false) => flow(FlowModCommand::Delete),
        ("del-flows", true) => flow(FlowModCommand::DeleteStrict),
        ("add-group", _) => group(GroupModCommand::Add),
        ("mod-group", _) if may_create => group(GroupModCommand::AddOrModify),
        ("mod-group", _) => group(GroupModCommand::Modify),
        ("del-groups", _) => group(GroupModCommand::Delete),
        ("add-meter", _) => meter(MeterModCommand::Add),
        ("mod-meter", _) => meter(MeterModCommand::Modify),
        ("del-meter" | "del-meters", _) => meter(MeterModCommand::Delete),
        _ => return None,
    })
}

#[test]
fn command_syntax_gives_ovs_ofctls_bytes() {
    let mut failures = Vec::new();
    let mut checked = 0;
    for row in lines("requests.jsonl", "openflow-requests.jsonl") {
        let Some(words) = row["command"].as_array() else { continue };
        let words: Vec<&str> = words.iter().filter_map(Value::as_str).collect();
        if row.get("messages").is_some() {
            continue;
        }
        let Some(parsed) = parse_command(&words) else { continue };
        checked += 1;
        match (row["bytes"].as_str(), parsed) {
            (None, Err(_)) => {}
            (None, Ok(parsed)) => {
                failures.push(format!("{words:?}\n  is refused by ovs-ofctl, not here: {parsed:?}"))
            }
            (Some(_), Err(error)) => failures.push(format!("{words:?}\n  {error}")),
            (Some(wanted), Ok(parsed)) => {
                let bytes = hex(&parsed.to_bytes(Xid(0)).unwrap());
                if bytes != wanted {
                    failures.push(format!("{words:?}\n  wanted {wanted}\n  got    {bytes}"));
                }
            }
        }
    }
    assert!(checked > 30, "only {checked} commands");
    assert!(failures.is_empty(), "{} failures:\n{}", failures.len(), failures.join("\n"));
}

/// No truncation and no corrupted byte may panic, and what decodes must encode.
#[test]
fn truncations_and_corruptions_are_values_or_errors() {
    for (index, (_, bytes, _)) in messages().into_iter().enumerate() {
        // Long statistics replies repeat themselves: their first kilobyte stands for the rest.
        let span = bytes.len().min(if index % 4 == 0 { 1024 } else { 256 });
        for end in 0..span {
            let mut cut = bytes[..end].to_vec();
            assert!(Message::decode(&cut).is_err());
            if end >= 8 {
                // A header that tells the truth about the shorter message.
                cut[2..4].copy_from_slice(&(end as u16).to_be_bytes());
                try_everything(&cut);
            }
        }
        let mut corrupt = bytes.clone();
        for at in 0..span {
            for value in [0, 0xff, bytes[at] ^ 1, bytes[at].wrapping_add(1), bytes[at] ^ 0x80] {
                corrupt[at] = value;
                try_everything(&corrupt);
            }
            corrupt[at] = bytes[at];
        }
    }
}

fn try_everything(bytes: &[u8]) {
    match Message::decode(bytes) {
        Ok((xid, message)) => {
            assert!(message.to_bytes(xid).unwrap().len() <= bytes.len() + 64, "{message:?}");
            assert!(!message.display(xid).to_string().is_empty());
        }
        Err(error) => assert!(error.offset <= bytes.len(), "{error}"),
    }
}
