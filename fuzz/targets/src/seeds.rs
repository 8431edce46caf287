//! Good bytes to begin with: one seed a line in `fuzz/seeds/TARGET.txt` (hexadecimal for binary targets), and the messages
//! recorded for `openflow`'s own tests.

use std::path::{Path, PathBuf};

/// The seeds of a target, by the target's name. Lines that cannot be read are left out: a test counts what is there.
pub fn of(target: &str) -> Vec<Vec<u8>> {
    let text = read(&root().join("fuzz/seeds").join(format!("{target}.txt")));
    let lines = text.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let mut seeds: Vec<Vec<u8>> = match target {
        "text" => lines.map(|line| line.as_bytes().to_vec()).collect(),
        // One seed of several lines ends where a line of dashes stands.
        "json_splitter" | "ovsdb_update" => {
            text.split("---\n").map(|seed| seed.as_bytes().to_vec()).collect()
        }
        _ => lines.filter_map(unhex).collect(),
    };
    match target {
        "message" => seeds.extend(recorded_messages()),
        "stream" => {
            // A HELLO, then what the switch said, several messages in one stream.
            let hello = [4, 0, 0, 8, 0, 0, 0, 0];
            let streams = recorded_messages();
            seeds.extend(
                streams
                    .chunks(5)
                    .map(|messages| hello.iter().copied().chain(messages.concat()).take(4096).collect()),
            );
        }
        "match_fields" => {
            seeds.extend(
                recorded_messages().iter().filter_map(|message| match_of(message)).collect::<Vec<_>>(),
            );
        }
        "actions" => {
            seeds.extend(
                recorded_messages().iter().filter_map(|message| actions_of(message)).collect::<Vec<_>>(),
            );
        }
        "multipart" => seeds.extend(recorded_messages().iter().filter_map(|message| {
            let kind = *message.get(9)?;
            let body = message.get(16..)?;
            (message[1] == 19).then(|| [&[kind], body].concat())
        })),
        "text" => {
            let flows = read(&root().join("openflow/tests/vectors/flows.txt"));
            seeds.extend(
                flows.lines().filter(|line| !line.starts_with('#')).map(|line| line.as_bytes().to_vec()),
            );
        }
        _ => {}
    }
    seeds
}

/// Every message in `openflow/tests/vectors`, and in the shared oracles where those lie beside the project; shorter ones
/// first.
pub fn recorded_messages() -> Vec<Vec<u8>> {
    let mut messages = Vec::new();
    for file in ["flow-mods.jsonl", "requests.jsonl"] {
        let own = read(&root().join("openflow/tests/vectors").join(file));
        let shared = read(&root().join("../shared/oracles").join(format!("openflow-{file}")));
        for line in own.lines().chain(shared.lines()) {
            let Ok(json) = serde_json::from_str::<serde_json::Value>(line) else { continue };
            let whole = [&json["bytes"], &json["dump_bytes"]].into_iter();
            let parts = ["messages", "replies"].iter().filter_map(|part| json[*part].as_array()).flatten();
            let hex = whole.chain(parts.map(|message| &message["hex"]));
            messages.extend(hex.filter_map(|hex| unhex(hex.as_str()?)));
        }
    }
    messages.sort_by_key(|message| (message.len(), message.clone()));
    messages.dedup();
    messages
}

/// The TLVs of a flow-mod's match.
fn match_of(message: &[u8]) -> Option<Vec<u8>> {
    if *message.get(1)? != 14 {
        return None;
    }
    let length = usize::from(u16::from_be_bytes([*message.get(50)?, *message.get(51)?]));
    message.get(52..48 + length).filter(|fields| !fields.is_empty()).map(<[u8]>::to_vec)
}

/// The actions of a flow-mod's first instruction, if it is to apply them.
fn actions_of(message: &[u8]) -> Option<Vec<u8>> {
    if *message.get(1)? != 14 {
        return None;
    }
    let match_length = usize::from(u16::from_be_bytes([*message.get(50)?, *message.get(51)?]));
    let instruction = message.get(48 + match_length.next_multiple_of(8)..)?;
    let length = usize::from(u16::from_be_bytes([*instruction.get(2)?, *instruction.get(3)?]));
    (instruction.get(..2)? == [0, 4]).then(|| instruction.get(8..length).map(<[u8]>::to_vec))?
}

fn read(path: &Path) -> String {
    std::fs::read_to_string(path).unwrap_or_default()
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

fn unhex(hex: &str) -> Option<Vec<u8>> {
    let digits: Vec<u8> =
        hex.trim().chars().map(|c| c.to_digit(16).map(|d| d as u8)).collect::<Option<_>>()?;
    Some(digits.chunks_exact(2).map(|pair| pair[0] << 4 | pair[1]).collect())
}
