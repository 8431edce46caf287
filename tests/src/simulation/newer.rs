//! Messages as a peer of a later version would send them: with fields that nobody knows here wherever a message is, and between
//! them messages of kinds that nobody knows. It does not know what they mean.

use prost::Message;
use prost::encoding::{DecodeContext, decode_key, encode_key, encode_varint, skip_field};

/// A message, and which of its fields hold messages.
#[derive(Debug)]
struct Shape(&'static [(u32, &'static Shape)]);

const FLAT: Shape = Shape(&[]);
const NAMED: Shape = Shape(&[(1, &FLAT)]);
const RESOURCE: Shape =
    Shape(&[(1, &FLAT), (3, &FLAT), (4, &FLAT), (5, &FLAT), (6, &FLAT), (7, &FLAT), (8, &FLAT)]);
const BUNDLE: Shape = Shape(&[(1, &RESOURCE)]);
const DELTA: Shape = Shape(&[(2, &FLAT), (3, &RESOURCE), (4, &FLAT), (11, &BUNDLE)]);
const HOLDING: Shape = Shape(&[(1, &NAMED), (2, &FLAT), (3, &FLAT)]);

/// `FromAgent`.
const FROM_AGENT: Shape = Shape(&[
    (1, &Shape(&[(3, &NAMED), (4, &FLAT), (5, &FLAT)])),
    (2, &Shape(&[(2, &NAMED)])),
    (3, &NAMED),
    (4, &FLAT),
    (5, &Shape(&[(1, &HOLDING), (2, &NAMED)])),
    (6, &Shape(&[(1, &HOLDING)])),
    (7, &Shape(&[(1, &NAMED), (2, &FLAT), (3, &NAMED)])),
]);

/// `FromController`.
const FROM_CONTROLLER: Shape = Shape(&[(1, &DELTA), (2, &FLAT), (3, &NAMED)]);

/// Fields of every wire type (Protocol Buffers, "Encoding") that nobody has given a meaning: 2000 a number, 2001 eight bytes, 2002 a
/// message, 2003 four bytes.
const LATER: &[u8] = b"\x80\x7d\x2a\x89\x7d12345678\x92\x7d\x03abc\x9d\x7d1234";

/// Of a kind that nobody knows: a message of either side whose only field is 2002.
pub const UNKNOWN: &[u8] = b"\x92\x7d\x03abc";

/// What an agent of a later version would have sent.
pub fn from_agent<M: Message + Default>(message: &M) -> Result<M, String> {
    later(message, &FROM_AGENT)
}

/// What a controller of a later version would have sent.
pub fn from_controller<M: Message + Default>(message: &M) -> Result<M, String> {
    later(message, &FROM_CONTROLLER)
}

fn later<M: Message + Default>(message: &M, shape: &Shape) -> Result<M, String> {
    let bytes = extended(&message.encode_to_vec(), shape)?;
    M::decode(&bytes[..]).map_err(|error| format!("a field that is not known here is no reason: {error}"))
}

/// The same fields in the same order, with more behind them, in every message that is inside.
fn extended(mut bytes: &[u8], shape: &Shape) -> Result<Vec<u8>, String> {
    let mut longer = Vec::new();
    while !bytes.is_empty() {
        let begin = bytes;
        let (tag, kind) = decode_key(&mut bytes).map_err(|error| error.to_string())?;
        let value = bytes;
        skip_field(kind, tag, &mut bytes, DecodeContext::default()).map_err(|error| error.to_string())?;
        let Some((_, inner)) = shape.0.iter().find(|(inner, _)| *inner == tag) else {
            longer.extend_from_slice(&begin[..begin.len() - bytes.len()]);
            continue;
        };
        let mut content = &value[..value.len() - bytes.len()];
        let _ = prost::encoding::decode_varint(&mut content).map_err(|error| error.to_string())?;
        let content = extended(content, inner)?;
        encode_key(tag, kind, &mut longer);
        encode_varint(content.len() as u64, &mut longer);
        longer.extend_from_slice(&content);
    }
    longer.extend_from_slice(LATER);
    Ok(longer)
}

#[cfg(test)]
mod tests {
    use api::generated::ferrule::v1alpha1 as wire;

    use super::*;

    #[test]
    fn what_is_later_stands_in_every_message_and_changes_none() {
        let id = Some(wire::ResourceId { kind: 1, name: "node-1".into() });
        let node = wire::Node { name: "node-1".into(), ..Default::default() };
        let resource = wire::Resource { id, version: 7, body: Some(wire::resource::Body::Node(node)) };
        let bundle = wire::Bundle { changed: vec![resource.encode_to_vec().into()] };
        let delta = wire::Delta { bundles: vec![bundle.encode_to_vec().into()], ..Default::default() };
        let bytes = extended(&delta.encode_to_vec(), &DELTA).unwrap();
        // In the delta, the bundle, the resource, its id and its node.
        assert_eq!(bytes.windows(LATER.len()).filter(|part| *part == LATER).count(), 5);
        let read = wire::Delta::decode(&bytes[..]).unwrap();
        assert_eq!(api::delta::bodies(&read).collect::<Vec<_>>(), [resource]);
        assert_eq!(wire::FromAgent::decode(UNKNOWN), Ok(wire::FromAgent { body: None }));
    }
}
