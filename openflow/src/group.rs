//! Groups: lists of buckets that flows refer to (OpenFlow 1.3.5 §7.3.4.2). It does not know flows.

use crate::action::Action;
use crate::number::{GroupId, PortNo};

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
