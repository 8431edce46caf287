//! What the switch is and how it is set: features, configuration, description (OpenFlow 1.3.5 §7.3.1, §7.3.2, §7.3.5.1).

use crate::number::BufferId;
use crate::wire::{FixedText, wire_structs};

wire_structs! {
    /// `OFPT_FEATURES_REPLY`.
    pub struct Features {
        /// The bridge's identity.
        datapath_id: u64;
        /// Packets that it can keep.
        n_buffers: u32;
        /// Tables that it has.
        n_tables: u8;
        /// 0 on a main connection.
        auxiliary_id: u8, pad 2;
        /// `OFPC_*`.
        capabilities: u32;
        /// Unused.
        reserved: u32;
    }

    /// `OFPT_GET_CONFIG_REPLY`, `OFPT_SET_CONFIG`.
    pub struct SwitchConfig {
        /// `OFPC_FRAG_*`.
        flags: u16;
        /// Bytes of a packet that a packet-in carries, when the packet is kept.
        miss_send_len: u16;
    }

    /// `OFPMP_DESC`.
    pub struct SwitchDesc {
        /// Who made it.
        manufacturer: FixedText<256>;
        /// What it is.
        hardware: FixedText<256>;
        /// What runs on it.
        software: FixedText<256>;
        /// Its number.
        serial: FixedText<32>;
        /// What its operator calls it.
        datapath: FixedText<256>;
    }
}

impl Features {
    /// `OFP_NO_BUFFER`, for comparison.
    pub const NO_BUFFER: BufferId = BufferId::NONE;
}
