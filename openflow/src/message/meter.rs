//! Meters: rate limits that flows refer to (OpenFlow 1.3.5 §7.3.4.3, §7.3.5.11 to §7.3.5.13).

use std::time::Duration;

use bytes::Bytes;

use super::rest;
use crate::error::{DecodeError, EncodeError};
use crate::group::decode_duration;
use crate::number::MeterId;
use crate::wire::{Reader, Writer, wire_structs};

/// `OFPT_METER_MOD`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeterMod {
    /// What to do.
    pub command: MeterModCommand,
    /// How rates count.
    pub flags: MeterFlags,
    /// Which meter.
    pub meter: MeterId,
    /// What happens above which rate.
    pub bands: Vec<MeterBand>,
}

/// `enum ofp_meter_mod_command`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u16)]
#[allow(missing_docs)]
pub enum MeterModCommand {
    Add = 0,
    Modify = 1,
    Delete = 2,
}

/// `enum ofp_meter_flags`, with unknown bits kept.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct MeterFlags(pub u16);

impl MeterFlags {
    /// Rates in kbit/s.
    pub const KBPS: MeterFlags = MeterFlags(1);
    /// Rates in packets/s.
    pub const PKTPS: MeterFlags = MeterFlags(2);
    /// Bursts count.
    pub const BURST: MeterFlags = MeterFlags(4);
    /// Keep statistics.
    pub const STATS: MeterFlags = MeterFlags(8);
}

impl std::ops::BitOr for MeterFlags {
    type Output = MeterFlags;

    fn bitor(self, other: MeterFlags) -> MeterFlags {
        MeterFlags(self.0 | other.0)
    }
}

/// `struct ofp_meter_band_header` and its kinds.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum MeterBand {
    /// Drops what is above the rate.
    Drop {
        /// See [`MeterFlags`].
        rate: u32,
        /// Kbit or packets.
        burst: u32,
    },
    /// Raises the drop precedence of what is above the rate.
    DscpRemark {
        /// See [`MeterFlags`].
        rate: u32,
        /// Kbit or packets.
        burst: u32,
        /// By how much.
        prec_level: u8,
    },
    /// Another type; `data` follows rate and burst.
    Unknown {
        /// `OFPMBT_*`.
        kind: u16,
        /// See [`MeterFlags`].
        rate: u32,
        /// Kbit or packets.
        burst: u32,
        /// The rest.
        data: Bytes,
    },
}

/// One meter of an `OFPMP_METER_CONFIG` reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeterConfig {
    /// How rates count.
    pub flags: MeterFlags,
    /// Which meter.
    pub meter: MeterId,
    /// What happens above which rate.
    pub bands: Vec<MeterBand>,
}

/// One meter of an `OFPMP_METER` reply.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct MeterStats {
    /// Which meter.
    pub meter: MeterId,
    /// Flows that use it.
    pub flow_count: u32,
    /// Packets that came.
    pub packet_in_count: u64,
    /// Bytes that came.
    pub byte_in_count: u64,
    /// Its age.
    pub duration: Duration,
    /// Packets and bytes above each band's rate.
    pub bands: Vec<(u64, u64)>,
}

wire_structs! {
    /// `OFPMP_METER_FEATURES`.
    pub struct MeterFeatures {
        /// How many meters.
        max_meters: u32;
        /// Bits of band types.
        band_types: u32;
        /// Bits of [`MeterFlags`].
        capabilities: u32;
        /// Bands of one meter.
        max_bands: u8;
        /// Colors.
        max_colors: u8, pad 2;
    }
}

impl MeterMod {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.u16(self.command as u16);
        out.u16(self.flags.0);
        out.u32(self.meter.0);
        encode_bands(&self.bands, out)
    }

    pub(super) fn decode(body: &mut Reader<'_>) -> Result<MeterMod, DecodeError> {
        let at = body.offset();
        let command = match body.u16()? {
            0 => MeterModCommand::Add,
            1 => MeterModCommand::Modify,
            2 => MeterModCommand::Delete,
            other => return Err(DecodeError::bad(at, "meter-mod command", other.into())),
        };
        let (flags, meter) = (MeterFlags(body.u16()?), MeterId(body.u32()?));
        Ok(MeterMod { command, flags, meter, bands: decode_bands(body)? })
    }
}

impl MeterConfig {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        out.measured("meter", out.position(), |out| {
            out.u16(self.flags.0);
            out.u32(self.meter.0);
            encode_bands(&self.bands, out)
        })
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<MeterConfig, DecodeError> {
        let at = input.offset();
        let length = usize::from(input.u16()?);
        let rest =
            length.checked_sub(2).ok_or_else(|| DecodeError::bad(at, "meter length", length as u64))?;
        let mut body = input.sub(rest)?;
        let (flags, meter) = (MeterFlags(body.u16()?), MeterId(body.u32()?));
        Ok(MeterConfig { flags, meter, bands: decode_bands(&mut body)? })
    }
}

impl MeterStats {
    pub(super) fn encode(&self, out: &mut Writer<'_>) -> Result<(), EncodeError> {
        let start = out.position();
        out.u32(self.meter.0);
        out.measured("meter statistics", start, |out| {
            out.zeros(6);
            out.u32(self.flow_count);
            out.u64(self.packet_in_count);
            out.u64(self.byte_in_count);
            out.u32(u32::try_from(self.duration.as_secs()).unwrap_or(u32::MAX));
            out.u32(self.duration.subsec_nanos());
            for (packets, bytes) in &self.bands {
                out.u64(*packets);
                out.u64(*bytes);
            }
            Ok(())
        })
    }

    pub(super) fn decode(input: &mut Reader<'_>) -> Result<MeterStats, DecodeError> {
        let meter = MeterId(input.u32()?);
        let at = input.offset();
        let length = usize::from(input.u16()?);
        let rest = length
            .checked_sub(6)
            .ok_or_else(|| DecodeError::bad(at, "meter statistics length", length as u64))?;
        let mut body = input.sub(rest)?;
        body.skip(6)?;
        let flow_count = body.u32()?;
        let (packet_in_count, byte_in_count) = (body.u64()?, body.u64()?);
        let duration = decode_duration(&mut body)?;
        let mut bands = Vec::with_capacity(body.len() / 16);
        while !body.is_empty() {
            bands.push((body.u64()?, body.u64()?));
        }
        Ok(MeterStats { meter, flow_count, packet_in_count, byte_in_count, duration, bands })
    }
}

fn encode_bands(bands: &[MeterBand], out: &mut Writer<'_>) -> Result<(), EncodeError> {
    bands.iter().try_for_each(|band| {
        let start = out.position();
        let (kind, rate, burst) = match band {
            MeterBand::Drop { rate, burst } => (1, rate, burst),
            MeterBand::DscpRemark { rate, burst, .. } => (2, rate, burst),
            MeterBand::Unknown { kind, rate, burst, .. } => (*kind, rate, burst),
        };
        out.u16(kind);
        out.measured("meter band", start, |out| {
            out.u32(*rate);
            out.u32(*burst);
            match band {
                MeterBand::Drop { .. } => out.zeros(4),
                MeterBand::DscpRemark { prec_level, .. } => out.bytes(&[*prec_level, 0, 0, 0]),
                MeterBand::Unknown { data, .. } => out.bytes(data),
            }
            Ok(())
        })
    })
}

fn decode_bands(input: &mut Reader<'_>) -> Result<Vec<MeterBand>, DecodeError> {
    let mut bands = Vec::with_capacity(input.len() / 16);
    while !input.is_empty() {
        let at = input.offset();
        let kind = input.u16()?;
        let length = usize::from(input.u16()?);
        if length < 12 {
            return Err(DecodeError::bad(at + 2, "meter band length", length as u64));
        }
        let mut body = input.sub(length - 4)?;
        let (rate, burst) = (body.u32()?, body.u32()?);
        bands.push(match (kind, body.len()) {
            (1, 4) => {
                body.skip(4)?;
                MeterBand::Drop { rate, burst }
            }
            (2, 4) => {
                let prec_level = body.u8()?;
                MeterBand::DscpRemark { rate, burst, prec_level }
            }
            (1 | 2, _) => return Err(DecodeError::bad(at + 2, "meter band length", length as u64)),
            _ => MeterBand::Unknown { kind, rate, burst, data: rest(&mut body) },
        });
    }
    Ok(bands)
}
