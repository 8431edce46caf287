//! Queues of a port and their settings (OpenFlow 1.3.5 §7.2.2, §7.3.6).

use bytes::Bytes;

use super::rest;
use crate::error::{DecodeError, EncodeError};
use crate::number::{PortNo, QueueId};
use crate::wire::{Reader, Writer};

/// `OFPT_QUEUE_GET_CONFIG_REPLY`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct QueueConfig {
    /// The port, or [`PortNo::ANY`].
    pub port: PortNo,
    /// Its queues.
    pub queues: Vec<PacketQueue>,
}

/// `struct ofp_packet_queue`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PacketQueue {
    /// Which queue.
    pub queue: QueueId,
    /// Of which port.
    pub port: PortNo,
    /// How it is set.
    pub properties: Vec<QueueProperty>,
}

/// `struct ofp_queue_prop_header` and its kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum QueueProperty {
    /// Rate guaranteed, in tenths of a percent; above 1000: not set.
    MinRate(u16),
    /// Rate allowed, in tenths of a percent; above 1000: not set.
    MaxRate(u16),
    /// Another; `data` follows the eight bytes of its header.
    Unknown {
        /// `OFPQT_*`.
        kind: u16,
        /// The rest.
        data: Bytes,
    },
}

impl QueueConfig {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u32(self.port.0);
        out.zeros(4);
        self.queues.iter().try_for_each(|queue| {
            let start = out.position();
            out.u32(queue.queue.0);
            out.u32(queue.port.0);
            out.measured("queue", start, |out| {
                out.zeros(6);
                queue.properties.iter().try_for_each(|property| {
                    let (kind, rate) = match property {
                        QueueProperty::MinRate(rate) => (1, Some(*rate)),
                        QueueProperty::MaxRate(rate) => (2, Some(*rate)),
                        QueueProperty::Unknown { kind, .. } => (*kind, None),
                    };
                    let start = out.position();
                    out.u16(kind);
                    out.measured("queue property", start, |out| {
                        out.zeros(4);
                        if let Some(rate) = rate {
                            out.u16(rate);
                            out.zeros(6);
                        }
                        if let QueueProperty::Unknown { data, .. } = property {
                            out.bytes(data);
                        }
                        Ok(())
                    })
                })
            })
        })
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<QueueConfig, DecodeError> {
        let port = PortNo(body.u32()?);
        body.skip(4)?;
        let mut queues = Vec::new();
        while !body.is_empty() {
            let (queue, port) = (QueueId(body.u32()?), PortNo(body.u32()?));
            let at = body.offset();
            let length = usize::from(body.u16()?);
            let rest =
                length.checked_sub(10).ok_or_else(|| DecodeError::bad(at, "queue length", length as u64))?;
            let mut one = body.sub(rest)?;
            one.skip(6)?;
            let mut properties = Vec::new();
            while !one.is_empty() {
                properties.push(decode_property(&mut one)?);
            }
            queues.push(PacketQueue { queue, port, properties });
        }
        Ok(QueueConfig { port, queues })
    }
}

fn decode_property(input: &mut Reader<'_>) -> Result<QueueProperty, DecodeError> {
    let kind = input.u16()?;
    let at = input.offset();
    let length = usize::from(input.u16()?);
    let payload =
        length.checked_sub(8).ok_or_else(|| DecodeError::bad(at, "queue property length", length as u64))?;
    input.skip(4)?;
    let mut body = input.sub(payload)?;
    Ok(match (kind, payload) {
        (1, 8) => QueueProperty::MinRate(body.u16()?),
        (2, 8) => QueueProperty::MaxRate(body.u16()?),
        _ => QueueProperty::Unknown { kind, data: rest(&mut body) },
    })
}
