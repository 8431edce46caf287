//! Instructions: what a flow's actions are wrapped in. It does not know flows.

use bytes::Bytes;

use crate::action::{Action, decode_actions, encode_actions};
use crate::error::{DecodeError, DecodeErrorKind, EncodeError};
use crate::number::{MeterId, TableId};
use crate::wire::{Reader, Writer};

/// An instruction (OpenFlow 1.3.5 §7.2.4).
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[non_exhaustive]
pub enum Instruction {
    /// `OFPIT_METER`.
    Meter(MeterId),
    /// `OFPIT_APPLY_ACTIONS`: now, in order.
    ApplyActions(Vec<Action>),
    /// `OFPIT_CLEAR_ACTIONS`: forgets the action set.
    ClearActions,
    /// `OFPIT_WRITE_ACTIONS`: into the action set, done when the pipeline ends.
    WriteActions(Vec<Action>),
    /// `OFPIT_WRITE_METADATA`.
    WriteMetadata {
        /// Value.
        metadata: u64,
        /// Mask.
        mask: u64,
    },
    /// `OFPIT_GOTO_TABLE`: forward only.
    GotoTable(TableId),
    /// An experimenter's; `data` follows the id.
    Experimenter {
        /// Whose.
        vendor: u32,
        /// The rest.
        data: Bytes,
    },
    /// A type that this crate does not know; `data` follows type and length.
    Unknown {
        /// `OFPIT_*`.
        kind: u16,
        /// The rest.
        data: Bytes,
    },
}

const GOTO_TABLE: u16 = 1;
const WRITE_METADATA: u16 = 2;
const WRITE_ACTIONS: u16 = 3;
const APPLY_ACTIONS: u16 = 4;
const CLEAR_ACTIONS: u16 = 5;
const METER: u16 = 6;
const EXPERIMENTER: u16 = 0xffff;

pub(crate) fn encode_instructions(
    instructions: &[Instruction],
    out: &mut Writer<'_>,
) -> Result<(), EncodeError> {
    instructions.iter().try_for_each(|instruction| {
        let start = out.position();
        out.u16(instruction.kind());
        out.measured("instruction", start, |out| {
            match instruction {
                Instruction::Meter(meter) => out.u32(meter.0),
                Instruction::ApplyActions(actions) | Instruction::WriteActions(actions) => {
                    out.zeros(4);
                    encode_actions(actions, out)?;
                }
                Instruction::ClearActions => out.zeros(4),
                Instruction::WriteMetadata { metadata, mask } => {
                    out.zeros(4);
                    out.u64(*metadata);
                    out.u64(*mask);
                }
                Instruction::GotoTable(table) => {
                    out.u8(table.0);
                    out.zeros(3);
                }
                Instruction::Experimenter { vendor, data } => {
                    out.u32(*vendor);
                    out.bytes(data);
                }
                Instruction::Unknown { data, .. } => out.bytes(data),
            }
            Ok(())
        })
    })
}

/// Reads instructions until the end of `input`.
pub(crate) fn decode_instructions(input: &mut Reader<'_>) -> Result<Vec<Instruction>, DecodeError> {
    let mut instructions: Vec<Instruction> = Vec::with_capacity((input.len() / 8).min(2));
    while !input.is_empty() {
        let at = input.offset();
        let kind = input.u16()?;
        let length = usize::from(input.u16()?);
        let bad = || DecodeError::bad(at + 2, "instruction length", length as u64);
        let mut body = input.sub(length.checked_sub(4).ok_or_else(bad)?)?;
        if !length.is_multiple_of(8) {
            return Err(bad());
        }
        if kind != EXPERIMENTER && instructions.iter().any(|earlier| earlier.kind() == kind) {
            return Err(DecodeError::new(at, DecodeErrorKind::Nesting("a second instruction of one type")));
        }
        instructions.push(match kind {
            METER => Instruction::Meter(MeterId(body.u32()?)),
            APPLY_ACTIONS | WRITE_ACTIONS => {
                body.skip(4)?;
                let actions = decode_actions(&mut body)?;
                if kind == APPLY_ACTIONS {
                    Instruction::ApplyActions(actions)
                } else {
                    Instruction::WriteActions(actions)
                }
            }
            CLEAR_ACTIONS => {
                body.skip(4)?;
                Instruction::ClearActions
            }
            WRITE_METADATA => {
                body.skip(4)?;
                Instruction::WriteMetadata { metadata: body.u64()?, mask: body.u64()? }
            }
            GOTO_TABLE => {
                let table = TableId(body.u8()?);
                body.skip(3)?;
                Instruction::GotoTable(table)
            }
            EXPERIMENTER => {
                let vendor = body.u32()?;
                Instruction::Experimenter { vendor, data: Bytes::copy_from_slice(body.rest()) }
            }
            _ => Instruction::Unknown { kind, data: Bytes::copy_from_slice(body.rest()) },
        });
        body.finish()?;
    }
    Ok(instructions)
}

impl Instruction {
    /// `OFPIT_*`.
    pub fn kind(&self) -> u16 {
        match self {
            Instruction::GotoTable(_) => GOTO_TABLE,
            Instruction::WriteMetadata { .. } => WRITE_METADATA,
            Instruction::WriteActions(_) => WRITE_ACTIONS,
            Instruction::ApplyActions(_) => APPLY_ACTIONS,
            Instruction::ClearActions => CLEAR_ACTIONS,
            Instruction::Meter(_) => METER,
            Instruction::Experimenter { .. } => EXPERIMENTER,
            Instruction::Unknown { kind, .. } => *kind,
        }
    }
}
