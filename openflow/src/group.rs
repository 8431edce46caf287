//! Groups: lists of buckets that flows refer to (OpenFlow 1.3.5 §7.3.4.2). It does not know flows.

use std::time::Duration;

use crate::action::{Action, decode_actions, encode_actions};
use crate::error::{DecodeError, EncodeError};
use crate::number::{GroupId, PortNo};
use crate::wire::{Reader, Writer};

/// `OFPT_GROUP_MOD`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupMod {
    /// What to do.
    pub command: GroupModCommand,
    /// How buckets are used.
    pub group_type: GroupType,
    /// Which group; [`GroupId::ALL`] in deletions.
    pub group: GroupId,
    /// The buckets.
    pub buckets: Vec<Bucket>,
}

impl GroupMod {
    /// A new group.
    pub fn add(group: GroupId, group_type: GroupType, buckets: Vec<Bucket>) -> GroupMod {
        GroupMod { command: GroupModCommand::Add, group_type, group, buckets }
    }

    /// Replaces a group.
    pub fn modify(group: GroupId, group_type: GroupType, buckets: Vec<Bucket>) -> GroupMod {
        GroupMod { command: GroupModCommand::Modify, group_type, group, buckets }
    }

    /// Deletes a group, and every flow that uses it.
    pub fn delete(group: GroupId) -> GroupMod {
        GroupMod { command: GroupModCommand::Delete, group_type: GroupType::All, group, buckets: Vec::new() }
    }
}

/// `enum ofp_group_mod_command`; Open vSwitch adds `ADD_OR_MOD`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
pub enum GroupModCommand {
    /// `OFPGC_ADD`.
    Add = 0,
    /// `OFPGC_MODIFY`.
    Modify = 1,
    /// `OFPGC_DELETE`.
    Delete = 2,
    /// `OFPGC_ADD_OR_MOD`, Open vSwitch's own.
    AddOrModify = 0x8000,
}

/// `enum ofp_group_type`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum GroupType {
    /// Every bucket.
    All = 0,
    /// One bucket, chosen by hash and weight.
    Select = 1,
    /// The one bucket.
    Indirect = 2,
    /// The first bucket that is alive.
    FastFailover = 3,
}

/// `struct ofp_bucket`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Bucket {
    /// Share of a select group.
    pub weight: u16,
    /// Alive while this port is.
    pub watch_port: PortNo,
    /// Alive while this group is.
    pub watch_group: GroupId,
    /// What it does.
    pub actions: Vec<Action>,
}

impl Default for Bucket {
    fn default() -> Bucket {
        Bucket { weight: 0, watch_port: PortNo::ANY, watch_group: GroupId::ANY, actions: Vec::new() }
    }
}

/// One group of an `OFPMP_GROUP_DESC` reply (OpenFlow 1.3.5 §7.3.5.10).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupDesc {
    /// How buckets are used.
    pub group_type: GroupType,
    /// Which group.
    pub group: GroupId,
    /// The buckets.
    pub buckets: Vec<Bucket>,
}

/// One group of an `OFPMP_GROUP` reply (OpenFlow 1.3.5 §7.3.5.9).
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct GroupStats {
    /// Which group.
    pub group: GroupId,
    /// Flows and groups that use it.
    pub ref_count: u32,
    /// Packets through it.
    pub packet_count: u64,
    /// Bytes through it.
    pub byte_count: u64,
    /// Its age.
    pub duration: Duration,
    /// Packets and bytes per bucket.
    pub buckets: Vec<(u64, u64)>,
}

impl GroupStats {
    pub(crate) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.measured("group statistics", out.position(), |out| {
            out.zeros(2);
            out.u32(self.group.0);
            out.u32(self.ref_count);
            out.zeros(4);
            out.u64(self.packet_count);
            out.u64(self.byte_count);
            out.u32(u32::try_from(self.duration.as_secs()).unwrap_or(u32::MAX));
            out.u32(self.duration.subsec_nanos());
            for (packets, bytes) in &self.buckets {
                out.u64(*packets);
                out.u64(*bytes);
            }
            Ok(())
        })
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<GroupStats, DecodeError> {
        let at = input.offset();
        let length = usize::from(input.u16()?);
        let rest = length.checked_sub(2).ok_or_else(|| DecodeError::bad(at, "group statistics length", 0))?;
        let mut body = input.sub(rest)?;
        body.skip(2)?;
        let (group, ref_count) = (GroupId(body.u32()?), body.u32()?);
        body.skip(4)?;
        let (packet_count, byte_count) = (body.u64()?, body.u64()?);
        let duration = decode_duration(&mut body)?;
        let mut buckets = Vec::with_capacity(body.len() / 16);
        while !body.is_empty() {
            buckets.push((body.u64()?, body.u64()?));
        }
        Ok(GroupStats { group, ref_count, packet_count, byte_count, duration, buckets })
    }
}

/// Seconds and nanoseconds, 32 bits each.
pub(crate) fn decode_duration(input: &mut Reader<'_>) -> Result<Duration, DecodeError> {
    let at = input.offset();
    let (seconds, nanos) = (input.u32()?, input.u32()?);
    if nanos >= 1_000_000_000 {
        return Err(DecodeError::bad(at + 4, "nanoseconds", nanos.into()));
    }
    Ok(Duration::new(seconds.into(), nanos))
}

impl GroupMod {
    pub(crate) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u16(self.command as u16);
        out.u8(self.group_type as u8);
        out.zeros(1);
        out.u32(self.group.0);
        encode_buckets(&self.buckets, out)
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<GroupMod, DecodeError> {
        let at = input.offset();
        let command = match input.u16()? {
            0 => GroupModCommand::Add,
            1 => GroupModCommand::Modify,
            2 => GroupModCommand::Delete,
            0x8000 => GroupModCommand::AddOrModify,
            other => return Err(DecodeError::bad(at, "group-mod command", other.into())),
        };
        let group_type = decode_type(input)?;
        input.skip(1)?;
        let group = GroupId(input.u32()?);
        Ok(GroupMod { command, group_type, group, buckets: decode_buckets(input)? })
    }
}

impl GroupDesc {
    pub(crate) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.measured("group description", out.position(), |out| {
            out.u8(self.group_type as u8);
            out.zeros(1);
            out.u32(self.group.0);
            encode_buckets(&self.buckets, out)
        })
    }

    pub(crate) fn decode(input: &mut Reader<'_>) -> Result<GroupDesc, DecodeError> {
        let at = input.offset();
        let length = usize::from(input.u16()?);
        let rest =
            length.checked_sub(2).ok_or_else(|| DecodeError::bad(at, "group description length", 0))?;
        let mut body = input.sub(rest)?;
        let group_type = decode_type(&mut body)?;
        body.skip(1)?;
        let group = GroupId(body.u32()?);
        Ok(GroupDesc { group_type, group, buckets: decode_buckets(&mut body)? })
    }
}

fn decode_type(input: &mut Reader<'_>) -> Result<GroupType, DecodeError> {
    let at = input.offset();
    match input.u8()? {
        0 => Ok(GroupType::All),
        1 => Ok(GroupType::Select),
        2 => Ok(GroupType::Indirect),
        3 => Ok(GroupType::FastFailover),
        other => Err(DecodeError::bad(at, "group type", other.into())),
    }
}

fn encode_buckets(buckets: &[Bucket], out: &mut Writer<'_>) -> Result<(), EncodeError> {
    buckets.iter().try_for_each(|bucket| {
        out.measured("bucket", out.position(), |out| {
            out.u16(bucket.weight);
            out.u32(bucket.watch_port.0);
            out.u32(bucket.watch_group.0);
            out.zeros(4);
            encode_actions(&bucket.actions, out)
        })
    })
}

fn decode_buckets(input: &mut Reader<'_>) -> Result<Vec<Bucket>, DecodeError> {
    let mut buckets = Vec::with_capacity((input.len() / 32).min(16));
    while !input.is_empty() {
        let at = input.offset();
        let length = usize::from(input.u16()?);
        if length < 16 || !length.is_multiple_of(8) {
            return Err(DecodeError::bad(at, "bucket length", length as u64));
        }
        let mut body = input.sub(length - 2)?;
        let weight = body.u16()?;
        let (watch_port, watch_group) = (PortNo(body.u32()?), GroupId(body.u32()?));
        body.skip(4)?;
        buckets.push(Bucket { weight, watch_port, watch_group, actions: decode_actions(&mut body)? });
    }
    Ok(buckets)
}
