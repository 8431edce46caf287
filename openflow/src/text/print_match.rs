//! Matches as ovs-ofctl prints them: `priority=5,tcp,nw_src=10.0.0.0/8,tp_dst=80`. It only prints.

use std::fmt::{self, Write};

use crate::flow_match::Match;
use crate::number::{MacAddr, PortNo};
use crate::oxm::{CT_STATE_FLAGS, Field, Hex, Oxm, TCP_FLAGS, TUN_FLAGS, ValueText, flags, ipv4, ipv6};

const ETH_TYPE_IP: u128 = 0x0800;
const ETH_TYPE_ARP: u128 = 0x0806;
const ETH_TYPE_RARP: u128 = 0x8035;
const ETH_TYPE_IPV6: u128 = 0x86dd;

/// A match with a flow's priority in front, which is left out when it is the usual 0x8000.
pub(crate) struct MatchText<'a> {
    pub(crate) match_: &'a Match,
    pub(crate) priority: u16,
}

impl fmt::Display for Match {
    /// As `ovs-ofctl ofp-print` does.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        MatchText { match_: self, priority: 0x8000 }.fmt(f)
    }
}

impl fmt::Debug for Match {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Match({self})")
    }
}

/// Writes `name=value` items with commas between them.
struct Items<'a, 'b> {
    out: &'a mut fmt::Formatter<'b>,
    match_: &'a Match,
    any: bool,
}

impl Items<'_, '_> {
    fn item(&mut self, write: impl FnOnce(&mut fmt::Formatter<'_>) -> fmt::Result) -> fmt::Result {
        if self.any {
            self.out.write_char(',')?;
        }
        self.any = true;
        write(self.out)
    }

    fn word(&mut self, word: &str) -> fmt::Result {
        self.item(|f| f.write_str(word))
    }

    /// Value and mask (all ones of the type's width when exact).
    fn number(&self, field: Field) -> Option<(u128, u128)> {
        let (value, mask) = self.match_.get(field)?;
        Some((value, mask.unwrap_or(u128::MAX >> (128 - 8 * field.wire_bytes().clamp(1, 16)))))
    }

    /// Hex, whatever the field's own format; masked too.
    fn hex(&mut self, name: &str, field: Field) -> fmt::Result {
        let Some((value, mask)) = self.match_.get(field) else { return Ok(()) };
        self.item(|f| match mask {
            None => write!(f, "{name}={}", Hex(value)),
            Some(mask) => write!(f, "{name}={}/{}", Hex(value), Hex(mask)),
        })
    }

    /// Decimal when exact, hex under a mask.
    fn decimal(&mut self, name: &str, field: Field) -> fmt::Result {
        let Some((value, mask)) = self.match_.get(field) else { return Ok(()) };
        self.item(|f| match mask {
            None => write!(f, "{name}={value}"),
            Some(mask) => write!(f, "{name}={:#x}/{:#x}", value, mask),
        })
    }

    fn ip(&mut self, name: &str, field: Field) -> fmt::Result {
        let Some((value, mask)) = self.match_.get(field) else { return Ok(()) };
        self.item(|f| {
            write!(f, "{name}=")?;
            if field.wire_bytes() == 16 {
                return ipv6(f, value, mask);
            }
            ipv4(f, value as u32, mask.map(|mask| mask as u32))
        })
    }

    fn mac(&mut self, name: &str, field: Field) -> fmt::Result {
        let Some((value, mask)) = self.match_.get(field) else { return Ok(()) };
        self.item(|f| {
            write!(f, "{name}={}", MacAddr::from_u64(value as u64))?;
            mask.map_or(Ok(()), |mask| write!(f, "/{}", MacAddr::from_u64(mask as u64)))
        })
    }

    fn flags(&mut self, name: &str, field: Field, names: &[&str], all: u128) -> fmt::Result {
        let Some((value, mask)) = self.number(field) else { return Ok(()) };
        self.item(|f| {
            write!(f, "{name}=")?;
            if mask & all == all {
                exact_flags(f, names, value & all)
            } else {
                flags(f, names, value, mask & all)
            }
        })
    }
}

/// `syn|ack`, or `0`.
pub(crate) fn exact_flags(f: &mut fmt::Formatter<'_>, names: &[&str], value: u128) -> fmt::Result {
    if value == 0 {
        return f.write_char('0');
    }
    let mut first = true;
    for bit in (0..128).filter(|bit| value >> bit & 1 == 1) {
        if !std::mem::take(&mut first) {
            f.write_char('|')?;
        }
        match names.get(bit) {
            Some(name) => f.write_str(name)?,
            None => write!(f, "{:#x}", 1u128 << bit)?,
        }
    }
    Ok(())
}

impl fmt::Display for MatchText<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut items = Items { out: f, match_: self.match_, any: false };
        if self.priority != 0x8000 {
            items.item(|f| write!(f, "priority={}", self.priority))?;
        }
        // Ethernet, the default, is not worth a word.
        if let Some((packet_type, _)) = items.number(Field::PACKET_TYPE).filter(|(kind, _)| *kind != 0) {
            let (namespace, kind) = (packet_type >> 16, packet_type & 0xffff);
            items.item(|f| match namespace {
                // Ethernet types are hex.
                1 => write!(f, "packet_type=(1,{})", Hex(kind)),
                _ => write!(f, "packet_type=({namespace},{kind})"),
            })?;
        }
        items.hex("pkt_mark", Field::PKT_MARK)?;
        items.hex("recirc_id", Field::RECIRC_ID)?;
        items.hex("dp_hash", Field::DP_HASH)?;
        items.decimal("conj_id", Field::CONJ_ID)?;
        if let Some((port, _)) = items.number(Field::ACTSET_OUTPUT) {
            items.item(|f| write!(f, "actset_output={}", PortNo(port as u32)))?;
        }
        conntrack(&mut items)?;
        let known_type = protocol(&mut items)?;
        for n in 0..16 {
            items.hex(REGISTERS[usize::from(n)], Field::reg(n))?;
        }
        for n in 0..8 {
            items.hex(XREGISTERS[usize::from(n)], Field::xreg(n))?;
        }
        for n in 0..4 {
            items.hex(XXREGISTERS[usize::from(n)], Field::xxreg(n))?;
        }
        tunnel(&mut items)?;
        items.hex("metadata", Field::METADATA)?;
        in_port(&mut items)?;
        link_layer(&mut items, known_type)?;
        network_layer(&mut items)?;
        transport_layer(&mut items)?;
        for oxm in self.match_.iter().filter(|oxm| oxm.field().row().is_none()) {
            items.item(|f| write!(f, "{oxm}"))?;
        }
        Ok(())
    }
}

const REGISTERS: [&str; 16] = [
    "reg0", "reg1", "reg2", "reg3", "reg4", "reg5", "reg6", "reg7", "reg8", "reg9", "reg10", "reg11",
    "reg12", "reg13", "reg14", "reg15",
];
const XREGISTERS: [&str; 8] = ["xreg0", "xreg1", "xreg2", "xreg3", "xreg4", "xreg5", "xreg6", "xreg7"];
const XXREGISTERS: [&str; 4] = ["xxreg0", "xxreg1", "xxreg2", "xxreg3"];

fn conntrack(items: &mut Items<'_, '_>) -> fmt::Result {
    items.flags("ct_state", Field::CT_STATE, CT_STATE_FLAGS, 0xff)?;
    items.decimal("ct_zone", Field::CT_ZONE)?;
    items.hex("ct_mark", Field::CT_MARK)?;
    items.hex("ct_label", Field::CT_LABEL)?;
    items.ip("ct_nw_src", Field::CT_NW_SRC)?;
    items.ip("ct_ipv6_src", Field::CT_IPV6_SRC)?;
    items.ip("ct_nw_dst", Field::CT_NW_DST)?;
    items.ip("ct_ipv6_dst", Field::CT_IPV6_DST)?;
    items.decimal("ct_nw_proto", Field::CT_NW_PROTO)?;
    items.decimal("ct_tp_src", Field::CT_TP_SRC)?;
    items.decimal("ct_tp_dst", Field::CT_TP_DST)
}

/// `tcp`, `ipv6`, `arp` … Whether the word says the Ethernet type.
fn protocol(items: &mut Items<'_, '_>) -> Result<bool, fmt::Error> {
    let Some((eth_type, _)) = items.match_.get(Field::ETH_TYPE) else { return Ok(false) };
    let proto = items.match_.get(Field::IP_PROTO).map(|(proto, _)| proto);
    let word = match (eth_type, proto) {
        (ETH_TYPE_IP, proto) => ip_word(proto),
        (ETH_TYPE_IPV6, proto) => ipv6_word(proto),
        (ETH_TYPE_ARP, _) => "arp",
        (ETH_TYPE_RARP, _) => "rarp",
        (0x8847, _) => "mpls",
        (0x8848, _) => "mplsm",
        _ => return Ok(false),
    };
    items.word(word)?;
    Ok(true)
}

fn ip_word(proto: Option<u128>) -> &'static str {
    match proto {
        Some(1) => "icmp",
        Some(6) => "tcp",
        Some(17) => "udp",
        Some(132) => "sctp",
        _ => "ip",
    }
}

fn ipv6_word(proto: Option<u128>) -> &'static str {
    match proto {
        Some(58) => "icmp6",
        Some(6) => "tcp6",
        Some(17) => "udp6",
        Some(132) => "sctp6",
        _ => "ipv6",
    }
}

fn tunnel(items: &mut Items<'_, '_>) -> fmt::Result {
    items.hex("tun_id", Field::TUN_ID)?;
    items.ip("tun_src", Field::TUN_SRC)?;
    items.ip("tun_dst", Field::TUN_DST)?;
    items.ip("tun_ipv6_src", Field::TUN_IPV6_SRC)?;
    items.ip("tun_ipv6_dst", Field::TUN_IPV6_DST)?;
    items.decimal("tun_gbp_id", Field::TUN_GBP_ID)?;
    if let Some((flags, _)) = items.number(Field::TUN_GBP_FLAGS) {
        items.item(|f| write!(f, "tun_gbp_flags={}", Hex(flags)))?;
    }
    let version = items.number(Field::TUN_ERSPAN_VER).map(|(version, _)| version);
    // Open vSwitch prints what the version has, and no masks.
    for (name, field, of_version) in [
        ("tun_erspan_ver", Field::TUN_ERSPAN_VER, None),
        ("tun_erspan_idx", Field::TUN_ERSPAN_IDX, Some(1)),
        ("tun_erspan_dir", Field::TUN_ERSPAN_DIR, Some(2)),
        ("tun_erspan_hwid", Field::TUN_ERSPAN_HWID, Some(2)),
        ("gtpu_flags", Field::TUN_GTPU_FLAGS, None),
        ("gtpu_msgtype", Field::TUN_GTPU_MSGTYPE, None),
    ] {
        let Some((value, _)) = items.number(field).filter(|_| of_version.is_none() || of_version == version)
        else {
            continue;
        };
        let hex = matches!(name, "tun_erspan_idx" | "tun_erspan_hwid" | "gtpu_flags");
        items.item(|f| if hex { write!(f, "{name}={}", Hex(value)) } else { write!(f, "{name}={value}") })?;
    }
    items.flags("tun_flags", Field::TUN_FLAGS, TUN_FLAGS, 0xf)?;
    for n in 0..64 {
        if let Some(oxm) = items.match_.oxm(Field::tun_metadata(n)) {
            items.item(|f| metadata_option(f, oxm))?;
        }
    }
    Ok(())
}

fn metadata_option(f: &mut fmt::Formatter<'_>, oxm: &Oxm) -> fmt::Result {
    let wildcard = matches!(oxm.long_bytes(), Some((_, Some(mask))) if mask.iter().all(|byte| *byte == 0));
    if wildcard {
        return write!(f, "{}", oxm.field());
    }
    write!(f, "{}={}", oxm.field(), ValueText(oxm))
}

fn in_port(items: &mut Items<'_, '_>) -> fmt::Result {
    if let Some((port, _)) = items.number(Field::IN_PORT) {
        items.item(|f| write!(f, "in_port={}", PortNo(port as u32)))?;
    }
    if let Some((port, _)) = items.number(Field::IN_PORT_NXM) {
        items.item(|f| write!(f, "in_port={}", PortNo::from_16(port as u16)))?;
    }
    Ok(())
}

const VLAN_PRESENT: u16 = 0x1000;

fn link_layer(items: &mut Items<'_, '_>, known_type: bool) -> fmt::Result {
    let (mut tci, mut tci_mask) = (0u16, 0u16);
    let parts = [(Field::VLAN_TCI, 0, 0xffff), (Field::VLAN_VID, 0, 0x1fff), (Field::VLAN_PCP, 13, 7)];
    for (field, shift, bits) in parts {
        if let Some((value, mask)) = items.number(field) {
            tci |= ((value & bits) as u16) << shift;
            tci_mask |= ((mask & bits) as u16) << shift;
        }
    }
    if items.match_.get(Field::VLAN_PCP).is_some() {
        tci_mask |= VLAN_PRESENT;
        tci |= VLAN_PRESENT;
    }
    vlan(items, tci, tci_mask)?;
    items.mac("dl_src", Field::ETH_SRC)?;
    items.mac("dl_dst", Field::ETH_DST)?;
    if let (false, Some((eth_type, _))) = (known_type, items.number(Field::ETH_TYPE)) {
        items.item(|f| write!(f, "dl_type={eth_type:#06x}"))?;
    }
    Ok(())
}

fn vlan(items: &mut Items<'_, '_>, tci: u16, mask: u16) -> fmt::Result {
    let (vid_mask, pcp_mask) = (mask & 0x0fff, mask & 0xe000);
    let whole = |part: u16, all: u16| part == 0 || part == all;
    if mask == 0 {
        return Ok(());
    }
    let tagged = mask & tci & VLAN_PRESENT != 0;
    if tagged && whole(vid_mask, 0x0fff) && whole(pcp_mask, 0xe000) && (vid_mask | pcp_mask) != 0 {
        if vid_mask != 0 {
            items.item(|f| write!(f, "dl_vlan={}", tci & 0x0fff))?;
        }
        if pcp_mask != 0 {
            items.item(|f| write!(f, "dl_vlan_pcp={}", tci >> 13))?;
        }
        return Ok(());
    }
    if mask == 0xffff {
        return items.item(|f| write!(f, "vlan_tci={tci:#06x}"));
    }
    items.item(|f| write!(f, "vlan_tci={tci:#06x}/{mask:#06x}"))
}

fn network_layer(items: &mut Items<'_, '_>) -> fmt::Result {
    items.ip("ipv6_src", Field::IPV6_SRC)?;
    items.ip("ipv6_dst", Field::IPV6_DST)?;
    if let Some((label, mask)) = items.match_.get(Field::IPV6_LABEL) {
        items.item(|f| {
            write!(f, "ipv6_label={label:#07x}")?;
            mask.map_or(Ok(()), |mask| write!(f, "/{mask:#07x}"))
        })?;
    }
    items.ip("arp_spa", Field::ARP_SPA)?;
    items.ip("arp_tpa", Field::ARP_TPA)?;
    items.ip("nw_src", Field::IPV4_SRC)?;
    items.ip("nw_dst", Field::IPV4_DST)?;
    let eth_type = items.match_.exact(Field::ETH_TYPE);
    if let Some((proto, _)) = items.number(Field::IP_PROTO) {
        let said = match eth_type {
            Some(ETH_TYPE_IP) => ip_word(Some(proto)) != "ip",
            Some(ETH_TYPE_IPV6) => ipv6_word(Some(proto)) != "ipv6",
            _ => false,
        };
        if !said {
            items.item(|f| write!(f, "nw_proto={proto}"))?;
        }
    }
    items.decimal("arp_op", Field::ARP_OP)?;
    items.mac("arp_sha", Field::ARP_SHA)?;
    items.mac("arp_tha", Field::ARP_THA)?;
    nsh(items)?;
    if let Some((dscp, _)) = items.number(Field::IP_DSCP) {
        items.item(|f| write!(f, "nw_tos={}", dscp << 2))?;
    }
    if let Some((tos, _)) = items.number(Field::IP_TOS) {
        items.item(|f| write!(f, "nw_tos={}", tos & 0xfc))?;
    }
    items.decimal("nw_ecn", Field::IP_ECN)?;
    items.decimal("nw_ttl", Field::IP_TTL)?;
    items.decimal("mpls_label", Field::MPLS_LABEL)?;
    items.decimal("mpls_tc", Field::MPLS_TC)?;
    items.decimal("mpls_ttl", Field::MPLS_TTL)?;
    items.decimal("mpls_bos", Field::MPLS_BOS)?;
    if let Some(oxm) = items.match_.oxm(Field::IP_FRAG) {
        items.item(|f| write!(f, "nw_frag={}", ValueText(oxm)))?;
    }
    Ok(())
}

fn nsh(items: &mut Items<'_, '_>) -> fmt::Result {
    items.decimal("nsh_flags", Field::NSH_FLAGS)?;
    items.decimal("nsh_ttl", Field::NSH_TTL)?;
    items.decimal("nsh_mdtype", Field::NSH_MDTYPE)?;
    items.decimal("nsh_np", Field::NSH_NP)?;
    items.hex("nsh_spi", Field::NSH_SPI)?;
    items.decimal("nsh_si", Field::NSH_SI)?;
    items.hex("nsh_c1", Field::NSH_C1)?;
    items.hex("nsh_c2", Field::NSH_C2)?;
    items.hex("nsh_c3", Field::NSH_C3)?;
    items.hex("nsh_c4", Field::NSH_C4)
}

fn transport_layer(items: &mut Items<'_, '_>) -> fmt::Result {
    for (name, field) in [
        ("icmp_type", Field::ICMPV4_TYPE),
        ("icmp_code", Field::ICMPV4_CODE),
        ("icmp_type", Field::ICMPV6_TYPE),
        ("icmp_code", Field::ICMPV6_CODE),
    ] {
        items.decimal(name, field)?;
    }
    items.ip("nd_target", Field::ND_TARGET)?;
    items.mac("nd_sll", Field::ND_SLL)?;
    items.mac("nd_tll", Field::ND_TLL)?;
    items.decimal("nd_reserved", Field::ND_RESERVED)?;
    items.decimal("nd_options_type", Field::ND_OPTIONS_TYPE)?;
    for field in [Field::TCP_SRC, Field::UDP_SRC, Field::SCTP_SRC] {
        items.decimal("tp_src", field)?;
    }
    for field in [Field::TCP_DST, Field::UDP_DST, Field::SCTP_DST] {
        items.decimal("tp_dst", field)?;
    }
    items.flags("tcp_flags", Field::TCP_FLAGS, TCP_FLAGS, 0xfff)
}
