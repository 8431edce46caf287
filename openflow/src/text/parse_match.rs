//! Matches in ovs-ofctl's syntax, with its freedoms: `tp_dst` means TCP's, UDP's or SCTP's port as the protocol says, and
//! what the protocol does not have is dropped. It knows no actions.

use super::lex::{Item, ParseError, Result};
use super::parse_value::{all_ones, value};
use crate::flow_match::Match;
use crate::number::PortNo;
use crate::oxm::{Field, Oxm, Prerequisite};

/// Fields as Open vSwitch holds them while it reads: slots that several protocols share.
#[derive(Debug, Default)]
pub(super) struct Loose {
    simple: Match,
    eth_type: Option<u16>,
    proto: Option<u8>,
    nw_src: (u32, u32),
    nw_dst: (u32, u32),
    tp_src: (u16, u16),
    tp_dst: (u16, u16),
    sha: (u64, u64),
    tha: (u64, u64),
    tci: (u16, u16),
    tos: (u8, u8),
    /// Something was said that only Ethernet packets have.
    ethernet: bool,
}

const VLAN_PRESENT: u16 = 0x1000;

/// `ip`, `tcp6`, `arp` …: Ethernet type and protocol.
fn protocol(word: &str) -> Option<(u16, Option<u8>)> {
    Some(match word {
        "ip" | "ipv4" => (0x0800, None),
        "icmp" => (0x0800, Some(1)),
        "tcp" => (0x0800, Some(6)),
        "udp" => (0x0800, Some(17)),
        "sctp" => (0x0800, Some(132)),
        "ipv6" | "ip6" => (0x86dd, None),
        "icmp6" => (0x86dd, Some(58)),
        "tcp6" => (0x86dd, Some(6)),
        "udp6" => (0x86dd, Some(17)),
        "sctp6" => (0x86dd, Some(132)),
        "arp" => (0x0806, None),
        "rarp" => (0x8035, None),
        "mpls" => (0x8847, None),
        "mplsm" => (0x8848, None),
        _ => return None,
    })
}

impl Loose {
    /// Takes an item when it is part of a match.
    pub(super) fn take(&mut self, item: &Item<'_>) -> Result<bool> {
        if item.key == "eth" && !item.has_value {
            self.simple.set(exact(Field::PACKET_TYPE, 0));
            return Ok(true);
        }
        if let (Some((eth_type, proto)), false) = (protocol(item.key), item.has_value) {
            self.ethernet = true;
            self.eth_type = Some(eth_type);
            self.proto = proto.or(self.proto);
            return Ok(true);
        }
        if matches!(item.key, "dl_vlan" | "dl_vlan_pcp") {
            self.vlan_word(item)?;
            return Ok(true);
        }
        let Some(field) = Field::by_name(item.key) else { return Ok(false) };
        if field.wire_bytes() > 16 {
            self.simple.set(option(field, item)?);
            return Ok(true);
        }
        if field == Field::CT_STATE && item.has_value && item.value.is_empty() {
            return Ok(true);
        }
        if !item.has_value || item.value.is_empty() {
            return Err(ParseError::new(item.whole, format!("field {} missing value", item.key)));
        }
        let (value, mask) = value(field, item.value)?;
        let prerequisite = field.spec().map(|spec| spec.prerequisite);
        self.ethernet |= !matches!(
            prerequisite,
            None | Some(Prerequisite::None | Prerequisite::Tracked | Prerequisite::Nsh)
        );
        self.store(field, value, mask).map(|()| true)
    }

    fn vlan_word(&mut self, item: &Item<'_>) -> Result<()> {
        let number: u16 = super::lex::integer(item.key, item.value)?;
        self.ethernet = true;
        if item.key == "dl_vlan" {
            let none = number == 0xffff;
            self.tci.0 = self.tci.0 & 0xe000 | if none { 0 } else { number & 0x0fff | VLAN_PRESENT };
            self.tci.1 |= 0x1fff | if none { 0xe000 } else { 0 };
            return Ok(());
        }
        if number > 7 {
            return Err(ParseError::new(item.whole, "a VLAN priority is 0 to 7"));
        }
        self.tci.0 = self.tci.0 & 0x0fff | number << 13 | VLAN_PRESENT;
        self.tci.1 |= 0xe000 | VLAN_PRESENT;
        Ok(())
    }

    fn store(&mut self, field: Field, value: u128, mask: u128) -> Result<()> {
        let narrow = |value: u128, mask: u128| (value as u16, mask as u16);
        match field {
            Field::ETH_TYPE => self.eth_type = Some(value as u16),
            Field::IP_PROTO => self.proto = Some(value as u8),
            Field::ARP_OP => {
                // Open vSwitch keeps eight bits of it.
                self.proto = Some(value as u8);
            }
            Field::IPV4_SRC | Field::ARP_SPA => self.nw_src = (value as u32, mask as u32),
            Field::IPV4_DST | Field::ARP_TPA => self.nw_dst = (value as u32, mask as u32),
            Field::TCP_SRC | Field::UDP_SRC | Field::SCTP_SRC => self.tp_src = narrow(value, mask),
            Field::TCP_DST | Field::UDP_DST | Field::SCTP_DST => self.tp_dst = narrow(value, mask),
            Field::ICMPV4_TYPE | Field::ICMPV6_TYPE => self.tp_src = (value as u16, 0xffff),
            Field::ICMPV4_CODE | Field::ICMPV6_CODE => self.tp_dst = (value as u16, 0xffff),
            Field::ARP_SHA | Field::ND_SLL => self.sha = (value as u64, mask as u64),
            Field::ARP_THA | Field::ND_TLL => self.tha = (value as u64, mask as u64),
            Field::VLAN_TCI => self.tci = narrow(value, mask),
            Field::VLAN_VID => {
                self.tci.0 = self.tci.0 & 0xe000 | (value & mask) as u16 & 0x1fff;
                self.tci.1 = self.tci.1 & 0xe000 | mask as u16 & 0x1fff;
            }
            Field::VLAN_PCP => {
                self.tci.0 = self.tci.0 & 0x0fff | (value as u16) << 13 | VLAN_PRESENT;
                self.tci.1 |= 0xe000 | VLAN_PRESENT;
            }
            Field::IP_DSCP => self.tos = (self.tos.0 & 3 | (value as u8) << 2, self.tos.1 | 0xfc),
            Field::IP_TOS => self.tos = (self.tos.0 & 3 | value as u8 & 0xfc, self.tos.1 | 0xfc),
            Field::IP_ECN => self.tos = (self.tos.0 & 0xfc | value as u8 & 3, self.tos.1 | 3),
            Field::IN_PORT_NXM => {
                let port = PortNo::from_16(value as u16);
                self.simple.set(exact(Field::IN_PORT, port.0.into()));
            }
            // Open vSwitch takes the value for the mask here, when the match is exact.
            Field::TUN_ERSPAN_VER
            | Field::TUN_ERSPAN_DIR
            | Field::TUN_ERSPAN_HWID
            | Field::TUN_GTPU_FLAGS
            | Field::TUN_GTPU_MSGTYPE => self.put(field, value, if mask == 0xff { value } else { mask }),
            Field::MPLS_LABEL | Field::MPLS_TC | Field::MPLS_BOS => {
                let bits = u128::MAX >> (128 - u32::from(field.width_bits()));
                self.put(field, value & bits, mask);
            }
            // Wide registers are registers.
            _ if self.registers(field, value, mask) => {}
            _ => self.put(field, value, mask),
        }
        Ok(())
    }

    fn registers(&mut self, field: Field, value: u128, mask: u128) -> bool {
        let wide =
            (0..8).map(|n| (Field::xreg(n), n * 2, 2)).chain((0..4).map(|n| (Field::xxreg(n), n * 4, 4)));
        let Some((_, first, count)) = wide.into_iter().find(|(wide, ..)| *wide == field) else {
            return false;
        };
        for part in 0..count {
            let shift = 32 * u32::from(count - 1 - part);
            let word = |number: u128| number >> shift & 0xffff_ffff;
            self.put(Field::reg(first + part), word(value), word(mask));
        }
        true
    }

    fn put(&mut self, field: Field, value: u128, mask: u128) {
        if mask == 0 {
            self.simple.remove(field);
            return;
        }
        if let Ok(oxm) = if mask == all_ones(field) {
            Oxm::exact_wire(field, value)
        } else {
            Oxm::masked_wire(field, value, mask)
        } {
            self.simple.set(oxm);
        }
    }

    /// What OpenFlow 1.3 can say of it.
    pub(super) fn finish(mut self) -> Match {
        let eth_type = self.eth_type.unwrap_or(0);
        let (is_ip4, is_ip6) = (eth_type == 0x0800, eth_type == 0x86dd);
        let is_ip = is_ip4 || is_ip6;
        if let Some(eth_type) = self.eth_type {
            self.put(Field::ETH_TYPE, eth_type.into(), 0xffff);
        }
        self.finish_vlan();
        self.drop_foreign(is_ip, is_ip6, matches!(eth_type, 0x8847 | 0x8848));
        if is_ip4 {
            self.put(Field::IPV4_SRC, self.nw_src.0.into(), self.nw_src.1.into());
            self.put(Field::IPV4_DST, self.nw_dst.0.into(), self.nw_dst.1.into());
        }
        if is_ip {
            if self.tos.1 & 0xfc != 0 {
                self.put(Field::IP_DSCP, u128::from(self.tos.0 >> 2), 0xff);
            }
            if self.tos.1 & 3 != 0 {
                self.put(Field::IP_ECN, u128::from(self.tos.0 & 3), 0xff);
            }
            if let Some(proto) = self.proto {
                self.put(Field::IP_PROTO, proto.into(), 0xff);
                self.finish_transport(is_ip4, proto);
            }
        } else if matches!(eth_type, 0x0806 | 0x8035) {
            if let Some(op) = self.proto {
                self.put(Field::ARP_OP, op.into(), 0xffff);
            }
            self.put(Field::ARP_SPA, self.nw_src.0.into(), self.nw_src.1.into());
            self.put(Field::ARP_TPA, self.nw_dst.0.into(), self.nw_dst.1.into());
            self.put(Field::ARP_SHA, self.sha.0.into(), self.sha.1.into());
            self.put(Field::ARP_THA, self.tha.0.into(), self.tha.1.into());
        }
        let implied = self.simple.iter().any(|oxm| {
            oxm.field().spec().is_some_and(|spec| {
                !matches!(spec.prerequisite, Prerequisite::None | Prerequisite::Tracked | Prerequisite::Nsh)
            })
        });
        match self.simple.exact(Field::PACKET_TYPE) {
            Some(0) if implied => {
                self.simple.remove(Field::PACKET_TYPE);
            }
            None if self.ethernet && !implied => self.put(Field::PACKET_TYPE, 0, 0xffff_ffff),
            _ => {}
        }
        self.simple
    }

    fn finish_vlan(&mut self) {
        let (vid, vid_mask) = (self.tci.0 & 0x1fff, self.tci.1 & 0x1fff);
        match vid_mask {
            0x1fff => self.put(Field::VLAN_VID, vid.into(), 0xffff),
            0 => {}
            mask => self.put(Field::VLAN_VID, (vid & mask).into(), mask.into()),
        }
        if vid & vid_mask != 0 && self.tci.1 & 0xe000 != 0 {
            self.put(Field::VLAN_PCP, u128::from(self.tci.0 >> 13), 0xff);
        }
    }

    fn drop_foreign(&mut self, is_ip: bool, is_ip6: bool, is_mpls: bool) {
        let foreign: Vec<Field> = self
            .simple
            .iter()
            .filter(|oxm| match oxm.field().spec().map(|spec| spec.prerequisite) {
                Some(Prerequisite::Ip) => !is_ip,
                Some(Prerequisite::Ipv6) => !is_ip6,
                Some(Prerequisite::Mpls) => !is_mpls,
                Some(Prerequisite::Tcp) => !(is_ip && self.proto == Some(6)),
                Some(Prerequisite::Nd) => !self.is_neighbour(is_ip6),
                _ => false,
            })
            .map(Oxm::field)
            .collect();
        for field in foreign {
            self.simple.remove(field);
        }
    }

    fn is_neighbour(&self, is_ip6: bool) -> bool {
        is_ip6 && self.proto == Some(58) && self.tp_dst.0 == 0 && matches!(self.tp_src.0, 135 | 136)
    }

    fn finish_transport(&mut self, is_ip4: bool, proto: u8) {
        let (src, dst) = (self.tp_src, self.tp_dst);
        let ports = match proto {
            6 => Some((Field::TCP_SRC, Field::TCP_DST)),
            17 => Some((Field::UDP_SRC, Field::UDP_DST)),
            132 => Some((Field::SCTP_SRC, Field::SCTP_DST)),
            _ => None,
        };
        if let Some((src_field, dst_field)) = ports {
            self.put(src_field, src.0.into(), src.1.into());
            self.put(dst_field, dst.0.into(), dst.1.into());
            return;
        }
        let icmp = match (is_ip4, proto) {
            (true, 1) => (Field::ICMPV4_TYPE, Field::ICMPV4_CODE),
            (false, 58) => (Field::ICMPV6_TYPE, Field::ICMPV6_CODE),
            _ => return,
        };
        for (field, (value, mask)) in [(icmp.0, src), (icmp.1, dst)] {
            if mask != 0 {
                self.put(field, u128::from(value & 0xff), 0xff);
            }
        }
        if self.is_neighbour(!is_ip4) {
            match src.0 {
                135 => self.put(Field::ND_SLL, self.sha.0.into(), self.sha.1.into()),
                _ => self.put(Field::ND_TLL, self.tha.0.into(), self.tha.1.into()),
            }
        }
    }
}

fn exact(field: Field, value: u128) -> Oxm {
    Oxm::exact(field, value).expect("a known field takes a value that was read for it")
}

/// `tun_metadata0`, `tun_metadata0=0x1234/0xff00`: as many bytes as the numbers need.
fn option(field: Field, item: &Item<'_>) -> Result<Oxm> {
    let bad = || ParseError::new(item.whole, "is no number of at most 124 bytes in hex");
    if !item.has_value {
        return Oxm::from_bytes(field, &[], Some(&[])).map_err(|_| bad());
    }
    let (value, mask) =
        item.value.split_once('/').map_or((item.value, None), |(value, mask)| (value, Some(mask)));
    let value = super::parse_action::long_number(value).ok_or_else(bad)?;
    let mask = mask.map(|mask| super::parse_action::long_number(mask).ok_or_else(bad)).transpose()?;
    let length = value.len().max(mask.as_ref().map_or(0, Vec::len)).max(1);
    let widen = |bytes: Vec<u8>| [vec![0; length - bytes.len()], bytes].concat();
    let mut value = widen(value);
    let mask = mask.map(widen);
    if let Some(mask) = &mask {
        value.iter_mut().zip(mask).for_each(|(byte, mask)| *byte &= mask);
    }
    Oxm::from_bytes(field, &value, mask.as_deref()).map_err(|_| bad())
}
