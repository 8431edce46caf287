//! Ports: description, status, modification (OpenFlow 1.3.5 §7.2.1, §7.3.4.4, §7.4.3).

use crate::error::DecodeError;
use crate::number::{MacAddr, PortNo};
use crate::wire::{FixedText, Reader, Wire, Writer, wire_structs};

wire_structs! {
    /// `struct ofp_port`.
    pub struct Port {
        /// Its number.
        port: PortNo, pad 4;
        /// Its address.
        hw_addr: MacAddr, pad 2;
        /// Its name.
        name: FixedText<16>;
        /// `OFPPC_*`: how it is set.
        config: u32;
        /// `OFPPS_*`: how it is.
        state: u32;
        /// `OFPPF_*` now.
        current: u32;
        /// `OFPPF_*` told to the other end.
        advertised: u32;
        /// `OFPPF_*` possible.
        supported: u32;
        /// `OFPPF_*` told by the other end.
        peer: u32;
        /// kbit/s.
        current_speed_kbps: u32;
        /// kbit/s.
        max_speed_kbps: u32;
    }

    /// `OFPT_PORT_MOD`.
    pub struct PortMod {
        /// Which port.
        port: PortNo, pad 4;
        /// Its address, as a check.
        hw_addr: MacAddr, pad 2;
        /// `OFPPC_*`.
        config: u32;
        /// Bits of `config` that change.
        mask: u32;
        /// `OFPPF_*` to tell, 0: as it is.
        advertise: u32, pad 4;
    }
}

impl Port {
    /// `OFPPC_PORT_DOWN`.
    pub const CONFIG_DOWN: u32 = 1;
    /// `OFPPS_LINK_DOWN`.
    pub const STATE_LINK_DOWN: u32 = 1;
}

/// `OFPT_PORT_STATUS`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PortStatus {
    /// What happened to it.
    pub reason: PortReason,
    /// The port.
    pub port: Port,
}

/// `enum ofp_port_reason`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum PortReason {
    /// It is new.
    Add,
    /// It is gone.
    Delete,
    /// It changed.
    Modify,
}

impl PortStatus {
    pub(super) fn encode(&self, out: &mut Writer<'_>) {
        out.u8(self.reason as u8);
        out.zeros(7);
        self.port.write(out);
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<PortStatus, DecodeError> {
        let at = body.offset();
        let reason = match body.u8()? {
            0 => PortReason::Add,
            1 => PortReason::Delete,
            2 => PortReason::Modify,
            other => return Err(DecodeError::bad(at, "port status reason", other.into())),
        };
        body.skip(7)?;
        Ok(PortStatus { reason, port: Port::read(body)? })
    }
}
