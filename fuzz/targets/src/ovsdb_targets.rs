//! OVSDB's readers: the splitter of an undelimited JSON stream, and updates to a replica.

use ovsdb::vswitch::{Bridge, Interface, Open_vSwitch, Port};
use ovsdb::{
    DatabaseSchema, Incoming, Interest, Monitored, Replica, SplitError, SplitLimits, Splitter, Updates,
};
use serde_json::Value;

const LIMITS: SplitLimits = SplitLimits { message_bytes: 16 << 10, depth: 24 };

/// However a stream is cut, the same messages and the same error come of it.
pub fn json_splitter(data: &[u8]) {
    let whole = split(data, data.len().max(1));
    let piece = 1 + usize::from(data.first().copied().unwrap_or_default()) % 19;
    assert_eq!(whole, split(data, piece), "in pieces of {piece}");
    for message in &whole.0 {
        if let Ok(incoming) = Incoming::parse(message) {
            assert!(!format!("{incoming:?}").is_empty());
        }
    }
}

fn split(data: &[u8], piece: usize) -> (Vec<Vec<u8>>, Option<SplitError>) {
    let mut splitter = Splitter::new(LIMITS);
    let mut messages = Vec::new();
    for part in data.chunks(piece) {
        splitter.push(part);
        loop {
            match splitter.next_message() {
                Ok(Some(message)) => messages.push(message.to_vec()),
                Ok(None) => break,
                Err(error) => {
                    assert_eq!(splitter.pending_bytes(), 0, "a failed stream holds nothing");
                    assert_eq!(splitter.next_message(), Err(error.clone()), "an error is final");
                    return (messages, Some(error));
                }
            }
        }
        assert!(splitter.pending_bytes() <= LIMITS.message_bytes + part.len());
    }
    (messages, None)
}

/// The tables and columns that the agent reads, of the schema that the crate carries.
fn monitored() -> &'static Monitored {
    static MONITORED: std::sync::OnceLock<Monitored> = std::sync::OnceLock::new();
    MONITORED.get_or_init(|| {
        let json: Value = serde_json::from_str(include_str!("../../../ovsdb/schema/vswitch.ovsschema"))
            .expect("the schema is JSON");
        let schema = DatabaseSchema::from_json(&json).expect("the schema is one");
        let interest =
            Interest::new().table::<Open_vSwitch>().table::<Bridge>().table::<Port>().table::<Interface>();
        interest.agree(&schema).0
    })
}

/// Lines of JSON: the answer to a monitor request, then updates. An update that does not fit changes nothing.
pub fn ovsdb_update(data: &[u8]) {
    let mut lines = data.split(|byte| *byte == b'\n').filter_map(|line| serde_json::from_slice(line).ok());
    let Some(first) = lines.next() else { return };
    let mut replica = Updates::from_json2(&first, monitored())
        .and_then(|updates| Replica::initial(monitored(), &updates))
        .unwrap_or_default();
    for line in lines {
        // The older form of an update is read by other code.
        for updates in [Updates::from_json2(&line, monitored()), Updates::from_json(&line, monitored())] {
            let before = replica.clone();
            match updates.and_then(|updates| replica.apply(&updates)) {
                Ok(changes) => assert_eq!(changes.is_empty(), before == replica, "{changes:?}"),
                Err(error) => {
                    assert_eq!(before, replica, "{error}, and still something changed");
                    assert!(!error.to_string().is_empty());
                }
            }
        }
        for (_, interface) in replica.rows::<Interface>() {
            assert!(!format!("{interface:?}").is_empty());
        }
    }
}
