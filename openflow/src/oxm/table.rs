//! The one declarative table of match fields: code points, widths, masks, prerequisites, access, formatting. It knows no
//! values and no messages.
//!
//! Sources: OpenFlow 1.3.5 §7.2.3.7 (the 40 basic fields), `ovs-fields(7)` of Open vSwitch 3.1 (everything else). The rows
//! stand in the order in which Open vSwitch writes fields into a match: prerequisites before what depends on them.

use super::field::{Access, Code, Field, FieldSpec, Format, Masking, Prerequisite, class};

macro_rules! field_table {
    ($( $konst:ident = $name:literal [$($aka:literal)?] $wire:literal / $bits:literal $format:ident $masking:ident
        $pre:ident $access:ident [$(($code:literal, $class:ident, $number:literal, $of:literal, $ovs:literal)),+]; )*) => {
        /// Every field this crate knows, in encoding order.
        pub static FIELDS: &[FieldSpec] = &[$(FieldSpec {
            name: $name,
            aka: { #[allow(unused_mut, unused_assignments)] let mut aka = ""; $(aka = $aka;)? aka },
            wire_bytes: ($wire as u16 / 8) as u8,
            bits: $bits,
            format: Format::$format,
            masking: Masking::$masking,
            prerequisite: Prerequisite::$pre,
            access: Access::$access,
            codes: &[$(Code {
                name: $code, class: class::$class.0, experimenter: class::$class.1, number: $number,
                since_openflow: $of, since_ovs: $ovs,
            }),+],
        }),*];

        /// The code points alone, for the index that the compiler builds.
        pub(super) const ROWS_FOR_INDEX: &[&[((u16, u32), u8)]] = &[$(&[$((class::$class, $number)),+]),*];

        /// One constant per row: the code point that Open vSwitch prefers under OpenFlow 1.3.
        impl Field {
            $(
                #[doc = concat!("`", $name, "`, ", stringify!($bits), " bits.")]
                pub const $konst: Field = Field::first(&[$((class::$class, $number)),+]);
            )*
        }
    };
}

field_table! {
    PACKET_TYPE = "packet_type" [] 32/32 PacketType Exact None ReadOnly [("OXM_OF_PACKET_TYPE", OXM_OF, 44, "1.5", "2.8")];
    DP_HASH = "dp_hash" [] 32/32 Hexadecimal Bitwise None ReadOnly [("NXM_NX_DP_HASH", NXM_NX, 35, "", "2.2"), ("NXOXM_ET_DP_HASH", NX_ET, 0, "1.5", "2.4")];
    RECIRC_ID = "recirc_id" [] 32/32 Decimal Exact None ReadOnly [("NXM_NX_RECIRC_ID", NXM_NX, 36, "", "2.2")];
    CONJ_ID = "conj_id" [] 32/32 Decimal Exact None ReadOnly [("NXM_NX_CONJ_ID", NXM_NX, 37, "", "2.4")];
    IN_PORT = "in_port_oxm" [] 32/32 Port Exact None ReadWrite [("OXM_OF_IN_PORT", OXM_OF, 0, "1.2", "1.7")];
    IN_PORT_NXM = "in_port" [] 16/16 Port16 Exact None ReadWrite [("NXM_OF_IN_PORT", NXM_OF, 0, "", "1.1")];
    ACTSET_OUTPUT = "actset_output" [] 32/32 Port Exact None ReadOnly [("ONFOXM_ET_ACTSET_OUTPUT", ONF_ET, 43, "1.3", "2.4"), ("OXM_OF_ACTSET_OUTPUT", OXM_OF, 43, "1.5", "2.4")];
    ETH_SRC = "eth_src" ["dl_src"] 48/48 Ethernet Bitwise Ethernet ReadWrite [("OXM_OF_ETH_SRC", OXM_OF, 4, "1.2", "1.7"), ("NXM_OF_ETH_SRC", NXM_OF, 2, "", "1.1")];
    ETH_DST = "eth_dst" ["dl_dst"] 48/48 Ethernet Bitwise Ethernet ReadWrite [("OXM_OF_ETH_DST", OXM_OF, 3, "1.2", "1.7"), ("NXM_OF_ETH_DST", NXM_OF, 1, "", "1.1")];
    ETH_TYPE = "eth_type" ["dl_type"] 16/16 Hexadecimal Exact Ethernet ReadOnly [("OXM_OF_ETH_TYPE", OXM_OF, 5, "1.2", "1.7"), ("NXM_OF_ETH_TYPE", NXM_OF, 3, "", "1.1")];
    VLAN_VID = "vlan_vid" [] 16/12 Decimal Bitwise Ethernet ReadWrite [("OXM_OF_VLAN_VID", OXM_OF, 6, "1.2", "1.7")];
    VLAN_PCP = "vlan_pcp" [] 8/3 Decimal Exact VlanVid ReadWrite [("OXM_OF_VLAN_PCP", OXM_OF, 7, "1.2", "1.7")];
    VLAN_TCI = "vlan_tci" [] 16/16 Hexadecimal Bitwise Ethernet ReadWrite [("NXM_OF_VLAN_TCI", NXM_OF, 4, "", "1.1")];
    MPLS_TC = "mpls_tc" [] 8/3 Decimal Exact Mpls ReadWrite [("OXM_OF_MPLS_TC", OXM_OF, 35, "1.2", "1.11")];
    MPLS_BOS = "mpls_bos" [] 8/1 Decimal Exact Mpls ReadOnly [("OXM_OF_MPLS_BOS", OXM_OF, 36, "1.3", "1.11")];
    MPLS_TTL = "mpls_ttl" [] 8/8 Decimal Exact Mpls ReadWrite [("NXM_NX_MPLS_TTL", NXM_NX, 30, "", "2.6")];
    MPLS_LABEL = "mpls_label" [] 32/20 Decimal Exact Mpls ReadWrite [("OXM_OF_MPLS_LABEL", OXM_OF, 34, "1.2", "1.11")];
    IPV4_SRC = "ip_src" ["nw_src"] 32/32 Ipv4 Bitwise Ipv4 ReadWrite [("OXM_OF_IPV4_SRC", OXM_OF, 11, "1.2", "1.7"), ("NXM_OF_IP_SRC", NXM_OF, 7, "", "1.1")];
    IPV4_DST = "ip_dst" ["nw_dst"] 32/32 Ipv4 Bitwise Ipv4 ReadWrite [("OXM_OF_IPV4_DST", OXM_OF, 12, "1.2", "1.7"), ("NXM_OF_IP_DST", NXM_OF, 8, "", "1.1")];
    IPV6_SRC = "ipv6_src" [] 128/128 Ipv6 Bitwise Ipv6 ReadWrite [("OXM_OF_IPV6_SRC", OXM_OF, 26, "1.2", "1.1"), ("NXM_NX_IPV6_SRC", NXM_NX, 19, "", "1.1")];
    IPV6_DST = "ipv6_dst" [] 128/128 Ipv6 Bitwise Ipv6 ReadWrite [("OXM_OF_IPV6_DST", OXM_OF, 27, "1.2", "1.1"), ("NXM_NX_IPV6_DST", NXM_NX, 20, "", "1.1")];
    PBB_ISID = "pbb_isid" [] 24/24 Hexadecimal Bitwise Pbb ReadWrite [("OXM_OF_PBB_ISID", OXM_OF, 37, "1.3", "")];
    IPV6_EXTHDR = "ipv6_exthdr" [] 16/9 Hexadecimal Bitwise Ipv6 ReadOnly [("OXM_OF_IPV6_EXTHDR", OXM_OF, 39, "1.3", "")];
    IP_FRAG = "ip_frag" ["nw_frag"] 8/2 Fragment Bitwise Ip ReadOnly [("NXM_NX_IP_FRAG", NXM_NX, 26, "", "1.3")];
    IP_DSCP = "ip_dscp" [] 8/6 Decimal Exact Ip ReadWrite [("OXM_OF_IP_DSCP", OXM_OF, 8, "1.2", "1.7")];
    IP_TOS = "nw_tos" [] 8/8 Decimal Exact Ip ReadWrite [("NXM_OF_IP_TOS", NXM_OF, 5, "", "1.1")];
    IP_ECN = "nw_ecn" ["ip_ecn"] 8/2 Decimal Exact Ip ReadWrite [("OXM_OF_IP_ECN", OXM_OF, 9, "1.2", "1.7"), ("NXM_NX_IP_ECN", NXM_NX, 28, "", "1.4")];
    IP_TTL = "nw_ttl" [] 8/8 Decimal Exact Ip ReadWrite [("NXM_NX_IP_TTL", NXM_NX, 29, "", "1.4")];
    IPV6_LABEL = "ipv6_label" [] 32/20 Hexadecimal Bitwise Ipv6 ReadWrite [("OXM_OF_IPV6_FLABEL", OXM_OF, 28, "1.2", "1.7"), ("NXM_NX_IPV6_LABEL", NXM_NX, 27, "", "1.4")];
    IP_PROTO = "nw_proto" ["ip_proto"] 8/8 Decimal Exact Ip ReadOnly [("OXM_OF_IP_PROTO", OXM_OF, 10, "1.2", "1.7"), ("NXM_OF_IP_PROTO", NXM_OF, 6, "", "1.1")];
    TCP_SRC = "tcp_src" ["tp_src"] 16/16 Decimal Bitwise Tcp ReadWrite [("OXM_OF_TCP_SRC", OXM_OF, 13, "1.2", "1.7"), ("NXM_OF_TCP_SRC", NXM_OF, 9, "", "1.1")];
    TCP_DST = "tcp_dst" ["tp_dst"] 16/16 Decimal Bitwise Tcp ReadWrite [("OXM_OF_TCP_DST", OXM_OF, 14, "1.2", "1.7"), ("NXM_OF_TCP_DST", NXM_OF, 10, "", "1.1")];
    TCP_FLAGS = "tcp_flags" [] 16/12 TcpFlags Bitwise Tcp ReadOnly [("ONFOXM_ET_TCP_FLAGS", ONF_ET, 42, "1.3", "2.4"), ("NXM_NX_TCP_FLAGS", NXM_NX, 34, "", "2.1"), ("OXM_OF_TCP_FLAGS", OXM_OF, 42, "1.5", "2.3")];
    UDP_SRC = "udp_src" [] 16/16 Decimal Bitwise Udp ReadWrite [("OXM_OF_UDP_SRC", OXM_OF, 15, "1.2", "1.7"), ("NXM_OF_UDP_SRC", NXM_OF, 11, "", "1.1")];
    UDP_DST = "udp_dst" [] 16/16 Decimal Bitwise Udp ReadWrite [("OXM_OF_UDP_DST", OXM_OF, 16, "1.2", "1.7"), ("NXM_OF_UDP_DST", NXM_OF, 12, "", "1.1")];
    SCTP_SRC = "sctp_src" [] 16/16 Decimal Bitwise Sctp ReadWrite [("OXM_OF_SCTP_SRC", OXM_OF, 17, "1.2", "2.0")];
    SCTP_DST = "sctp_dst" [] 16/16 Decimal Bitwise Sctp ReadWrite [("OXM_OF_SCTP_DST", OXM_OF, 18, "1.2", "2.0")];
    ICMPV4_TYPE = "icmp_type" [] 8/8 Decimal Exact Icmpv4 ReadWrite [("OXM_OF_ICMPV4_TYPE", OXM_OF, 19, "1.2", "1.7"), ("NXM_OF_ICMP_TYPE", NXM_OF, 13, "", "1.1")];
    ICMPV4_CODE = "icmp_code" [] 8/8 Decimal Exact Icmpv4 ReadWrite [("OXM_OF_ICMPV4_CODE", OXM_OF, 20, "1.2", "1.7"), ("NXM_OF_ICMP_CODE", NXM_OF, 14, "", "1.1")];
    ICMPV6_TYPE = "icmpv6_type" [] 8/8 Decimal Exact Icmpv6 ReadWrite [("OXM_OF_ICMPV6_TYPE", OXM_OF, 29, "1.2", "1.7"), ("NXM_NX_ICMPV6_TYPE", NXM_NX, 21, "", "1.1")];
    ICMPV6_CODE = "icmpv6_code" [] 8/8 Decimal Exact Icmpv6 ReadWrite [("OXM_OF_ICMPV6_CODE", OXM_OF, 30, "1.2", "1.7"), ("NXM_NX_ICMPV6_CODE", NXM_NX, 22, "", "1.1")];
    ND_TARGET = "nd_target" [] 128/128 Ipv6 Bitwise Nd ReadWrite [("OXM_OF_IPV6_ND_TARGET", OXM_OF, 31, "1.2", "1.7"), ("NXM_NX_ND_TARGET", NXM_NX, 23, "", "1.1")];
    ND_SLL = "nd_sll" [] 48/48 Ethernet Bitwise NdSolicit ReadWrite [("OXM_OF_IPV6_ND_SLL", OXM_OF, 32, "1.2", "1.7"), ("NXM_NX_ND_SLL", NXM_NX, 24, "", "1.1")];
    ND_TLL = "nd_tll" [] 48/48 Ethernet Bitwise NdAdvert ReadWrite [("OXM_OF_IPV6_ND_TLL", OXM_OF, 33, "1.2", "1.7"), ("NXM_NX_ND_TLL", NXM_NX, 25, "", "1.1")];
    ND_RESERVED = "nd_reserved" [] 32/32 Decimal Exact Nd ReadWrite [("ERICOXM_OF_ICMPV6_ND_RESERVED", ERICSSON, 1, "", "2.11")];
    ND_OPTIONS_TYPE = "nd_options_type" [] 8/8 Decimal Exact Nd ReadWrite [("ERICOXM_OF_ICMPV6_ND_OPTIONS_TYPE", ERICSSON, 2, "", "2.11")];
    ARP_OP = "arp_op" [] 16/16 Decimal Exact Arp ReadWrite [("OXM_OF_ARP_OP", OXM_OF, 21, "1.2", "1.7"), ("NXM_OF_ARP_OP", NXM_OF, 15, "", "1.1")];
    ARP_SPA = "arp_spa" [] 32/32 Ipv4 Bitwise Arp ReadWrite [("OXM_OF_ARP_SPA", OXM_OF, 22, "1.2", "1.7"), ("NXM_OF_ARP_SPA", NXM_OF, 16, "", "1.1")];
    ARP_TPA = "arp_tpa" [] 32/32 Ipv4 Bitwise Arp ReadWrite [("OXM_OF_ARP_TPA", OXM_OF, 23, "1.2", "1.7"), ("NXM_OF_ARP_TPA", NXM_OF, 17, "", "1.1")];
    ARP_SHA = "arp_sha" [] 48/48 Ethernet Bitwise Arp ReadWrite [("OXM_OF_ARP_SHA", OXM_OF, 24, "1.2", "1.7"), ("NXM_NX_ARP_SHA", NXM_NX, 17, "", "1.1")];
    ARP_THA = "arp_tha" [] 48/48 Ethernet Bitwise Arp ReadWrite [("OXM_OF_ARP_THA", OXM_OF, 25, "1.2", "1.7"), ("NXM_NX_ARP_THA", NXM_NX, 18, "", "1.1")];
    TUN_ID = "tun_id" ["tunnel_id"] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_TUNNEL_ID", OXM_OF, 38, "1.3", "1.10"), ("NXM_NX_TUN_ID", NXM_NX, 16, "", "1.1")];
    TUN_FLAGS = "tun_flags" [] 16/1 TunnelFlags Bitwise None ReadWrite [("NXM_NX_TUN_FLAGS", NXM_NX, 104, "", "2.5")];
    TUN_SRC = "tun_src" [] 32/32 Ipv4 Bitwise None ReadWrite [("NXM_NX_TUN_IPV4_SRC", NXM_NX, 31, "", "2.0")];
    TUN_DST = "tun_dst" [] 32/32 Ipv4 Bitwise None ReadWrite [("NXM_NX_TUN_IPV4_DST", NXM_NX, 32, "", "2.0")];
    TUN_IPV6_SRC = "tun_ipv6_src" [] 128/128 Ipv6 Bitwise None ReadWrite [("NXM_NX_TUN_IPV6_SRC", NXM_NX, 109, "", "2.5")];
    TUN_IPV6_DST = "tun_ipv6_dst" [] 128/128 Ipv6 Bitwise None ReadWrite [("NXM_NX_TUN_IPV6_DST", NXM_NX, 110, "", "2.5")];
    TUN_GBP_ID = "tun_gbp_id" [] 16/16 Decimal Bitwise None ReadWrite [("NXM_NX_TUN_GBP_ID", NXM_NX, 38, "", "2.4")];
    TUN_GBP_FLAGS = "tun_gbp_flags" [] 8/8 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_GBP_FLAGS", NXM_NX, 39, "", "2.4")];
    TUN_METADATA0 = "tun_metadata0" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA0", NXM_NX, 40, "", "2.5")];
    TUN_METADATA1 = "tun_metadata1" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA1", NXM_NX, 41, "", "2.5")];
    TUN_METADATA2 = "tun_metadata2" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA2", NXM_NX, 42, "", "2.5")];
    TUN_METADATA3 = "tun_metadata3" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA3", NXM_NX, 43, "", "2.5")];
    TUN_METADATA4 = "tun_metadata4" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA4", NXM_NX, 44, "", "2.5")];
    TUN_METADATA5 = "tun_metadata5" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA5", NXM_NX, 45, "", "2.5")];
    TUN_METADATA6 = "tun_metadata6" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA6", NXM_NX, 46, "", "2.5")];
    TUN_METADATA7 = "tun_metadata7" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA7", NXM_NX, 47, "", "2.5")];
    TUN_METADATA8 = "tun_metadata8" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA8", NXM_NX, 48, "", "2.5")];
    TUN_METADATA9 = "tun_metadata9" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA9", NXM_NX, 49, "", "2.5")];
    TUN_METADATA10 = "tun_metadata10" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA10", NXM_NX, 50, "", "2.5")];
    TUN_METADATA11 = "tun_metadata11" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA11", NXM_NX, 51, "", "2.5")];
    TUN_METADATA12 = "tun_metadata12" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA12", NXM_NX, 52, "", "2.5")];
    TUN_METADATA13 = "tun_metadata13" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA13", NXM_NX, 53, "", "2.5")];
    TUN_METADATA14 = "tun_metadata14" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA14", NXM_NX, 54, "", "2.5")];
    TUN_METADATA15 = "tun_metadata15" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA15", NXM_NX, 55, "", "2.5")];
    TUN_METADATA16 = "tun_metadata16" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA16", NXM_NX, 56, "", "2.5")];
    TUN_METADATA17 = "tun_metadata17" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA17", NXM_NX, 57, "", "2.5")];
    TUN_METADATA18 = "tun_metadata18" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA18", NXM_NX, 58, "", "2.5")];
    TUN_METADATA19 = "tun_metadata19" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA19", NXM_NX, 59, "", "2.5")];
    TUN_METADATA20 = "tun_metadata20" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA20", NXM_NX, 60, "", "2.5")];
    TUN_METADATA21 = "tun_metadata21" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA21", NXM_NX, 61, "", "2.5")];
    TUN_METADATA22 = "tun_metadata22" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA22", NXM_NX, 62, "", "2.5")];
    TUN_METADATA23 = "tun_metadata23" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA23", NXM_NX, 63, "", "2.5")];
    TUN_METADATA24 = "tun_metadata24" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA24", NXM_NX, 64, "", "2.5")];
    TUN_METADATA25 = "tun_metadata25" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA25", NXM_NX, 65, "", "2.5")];
    TUN_METADATA26 = "tun_metadata26" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA26", NXM_NX, 66, "", "2.5")];
    TUN_METADATA27 = "tun_metadata27" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA27", NXM_NX, 67, "", "2.5")];
    TUN_METADATA28 = "tun_metadata28" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA28", NXM_NX, 68, "", "2.5")];
    TUN_METADATA29 = "tun_metadata29" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA29", NXM_NX, 69, "", "2.5")];
    TUN_METADATA30 = "tun_metadata30" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA30", NXM_NX, 70, "", "2.5")];
    TUN_METADATA31 = "tun_metadata31" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA31", NXM_NX, 71, "", "2.5")];
    TUN_METADATA32 = "tun_metadata32" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA32", NXM_NX, 72, "", "2.5")];
    TUN_METADATA33 = "tun_metadata33" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA33", NXM_NX, 73, "", "2.5")];
    TUN_METADATA34 = "tun_metadata34" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA34", NXM_NX, 74, "", "2.5")];
    TUN_METADATA35 = "tun_metadata35" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA35", NXM_NX, 75, "", "2.5")];
    TUN_METADATA36 = "tun_metadata36" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA36", NXM_NX, 76, "", "2.5")];
    TUN_METADATA37 = "tun_metadata37" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA37", NXM_NX, 77, "", "2.5")];
    TUN_METADATA38 = "tun_metadata38" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA38", NXM_NX, 78, "", "2.5")];
    TUN_METADATA39 = "tun_metadata39" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA39", NXM_NX, 79, "", "2.5")];
    TUN_METADATA40 = "tun_metadata40" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA40", NXM_NX, 80, "", "2.5")];
    TUN_METADATA41 = "tun_metadata41" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA41", NXM_NX, 81, "", "2.5")];
    TUN_METADATA42 = "tun_metadata42" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA42", NXM_NX, 82, "", "2.5")];
    TUN_METADATA43 = "tun_metadata43" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA43", NXM_NX, 83, "", "2.5")];
    TUN_METADATA44 = "tun_metadata44" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA44", NXM_NX, 84, "", "2.5")];
    TUN_METADATA45 = "tun_metadata45" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA45", NXM_NX, 85, "", "2.5")];
    TUN_METADATA46 = "tun_metadata46" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA46", NXM_NX, 86, "", "2.5")];
    TUN_METADATA47 = "tun_metadata47" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA47", NXM_NX, 87, "", "2.5")];
    TUN_METADATA48 = "tun_metadata48" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA48", NXM_NX, 88, "", "2.5")];
    TUN_METADATA49 = "tun_metadata49" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA49", NXM_NX, 89, "", "2.5")];
    TUN_METADATA50 = "tun_metadata50" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA50", NXM_NX, 90, "", "2.5")];
    TUN_METADATA51 = "tun_metadata51" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA51", NXM_NX, 91, "", "2.5")];
    TUN_METADATA52 = "tun_metadata52" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA52", NXM_NX, 92, "", "2.5")];
    TUN_METADATA53 = "tun_metadata53" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA53", NXM_NX, 93, "", "2.5")];
    TUN_METADATA54 = "tun_metadata54" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA54", NXM_NX, 94, "", "2.5")];
    TUN_METADATA55 = "tun_metadata55" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA55", NXM_NX, 95, "", "2.5")];
    TUN_METADATA56 = "tun_metadata56" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA56", NXM_NX, 96, "", "2.5")];
    TUN_METADATA57 = "tun_metadata57" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA57", NXM_NX, 97, "", "2.5")];
    TUN_METADATA58 = "tun_metadata58" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA58", NXM_NX, 98, "", "2.5")];
    TUN_METADATA59 = "tun_metadata59" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA59", NXM_NX, 99, "", "2.5")];
    TUN_METADATA60 = "tun_metadata60" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA60", NXM_NX, 100, "", "2.5")];
    TUN_METADATA61 = "tun_metadata61" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA61", NXM_NX, 101, "", "2.5")];
    TUN_METADATA62 = "tun_metadata62" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA62", NXM_NX, 102, "", "2.5")];
    TUN_METADATA63 = "tun_metadata63" [] 992/992 Hexadecimal Bitwise None ReadWrite [("NXM_NX_TUN_METADATA63", NXM_NX, 103, "", "2.5")];
    TUN_ERSPAN_IDX = "tun_erspan_idx" [] 32/20 Hexadecimal Bitwise None ReadWrite [("NXOXM_ET_ERSPAN_IDX", NX_ET, 11, "", "2.10")];
    TUN_ERSPAN_VER = "tun_erspan_ver" [] 8/4 Decimal Bitwise None ReadWrite [("NXOXM_ET_ERSPAN_VER", NX_ET, 12, "", "2.10")];
    TUN_ERSPAN_DIR = "tun_erspan_dir" [] 8/1 Decimal Bitwise None ReadWrite [("NXOXM_ET_ERSPAN_DIR", NX_ET, 13, "", "2.10")];
    TUN_ERSPAN_HWID = "tun_erspan_hwid" [] 8/6 Hexadecimal Bitwise None ReadWrite [("NXOXM_ET_ERSPAN_HWID", NX_ET, 14, "", "2.10")];
    TUN_GTPU_FLAGS = "tun_gtpu_flags" [] 8/8 Hexadecimal Bitwise None ReadOnly [("NXOXM_ET_GTPU_FLAGS", NX_ET, 15, "", "2.13")];
    TUN_GTPU_MSGTYPE = "tun_gtpu_msgtype" [] 8/8 Decimal Bitwise None ReadOnly [("NXOXM_ET_GTPU_MSGTYPE", NX_ET, 16, "", "2.13")];
    NSH_FLAGS = "nsh_flags" [] 8/8 Decimal Bitwise Nsh ReadWrite [("NXOXM_NSH_FLAGS", NX_NSH, 1, "", "2.8")];
    NSH_TTL = "nsh_ttl" [] 8/8 Decimal Exact Nsh ReadWrite [("NXOXM_NSH_TTL", NX_NSH, 10, "", "2.9")];
    NSH_MDTYPE = "nsh_mdtype" [] 8/8 Decimal Exact Nsh ReadOnly [("NXOXM_NSH_MDTYPE", NX_NSH, 2, "", "2.8")];
    NSH_NP = "nsh_np" [] 8/8 Decimal Exact Nsh ReadOnly [("NXOXM_NSH_NP", NX_NSH, 3, "", "2.8")];
    NSH_SPI = "nsh_spi" ["nsp"] 32/24 Hexadecimal Exact Nsh ReadWrite [("NXOXM_NSH_SPI", NX_NSH, 4, "", "2.8")];
    NSH_SI = "nsh_si" ["nsi"] 8/8 Decimal Exact Nsh ReadWrite [("NXOXM_NSH_SI", NX_NSH, 5, "", "2.8")];
    NSH_C1 = "nsh_c1" ["nshc1"] 32/32 Hexadecimal Bitwise Nsh ReadWrite [("NXOXM_NSH_C1", NX_NSH, 6, "", "2.8")];
    NSH_C2 = "nsh_c2" ["nshc2"] 32/32 Hexadecimal Bitwise Nsh ReadWrite [("NXOXM_NSH_C2", NX_NSH, 7, "", "2.8")];
    NSH_C3 = "nsh_c3" ["nshc3"] 32/32 Hexadecimal Bitwise Nsh ReadWrite [("NXOXM_NSH_C3", NX_NSH, 8, "", "2.8")];
    NSH_C4 = "nsh_c4" ["nshc4"] 32/32 Hexadecimal Bitwise Nsh ReadWrite [("NXOXM_NSH_C4", NX_NSH, 9, "", "2.8")];
    REG0 = "reg0" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG0", NXM_NX, 0, "", "1.1")];
    REG1 = "reg1" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG1", NXM_NX, 1, "", "1.1")];
    REG2 = "reg2" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG2", NXM_NX, 2, "", "1.1")];
    REG3 = "reg3" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG3", NXM_NX, 3, "", "1.1")];
    REG4 = "reg4" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG4", NXM_NX, 4, "", "1.3")];
    REG5 = "reg5" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG5", NXM_NX, 5, "", "1.7")];
    REG6 = "reg6" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG6", NXM_NX, 6, "", "1.7")];
    REG7 = "reg7" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG7", NXM_NX, 7, "", "1.7")];
    REG8 = "reg8" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG8", NXM_NX, 8, "", "2.6")];
    REG9 = "reg9" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG9", NXM_NX, 9, "", "2.6")];
    REG10 = "reg10" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG10", NXM_NX, 10, "", "2.6")];
    REG11 = "reg11" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG11", NXM_NX, 11, "", "2.6")];
    REG12 = "reg12" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG12", NXM_NX, 12, "", "2.6")];
    REG13 = "reg13" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG13", NXM_NX, 13, "", "2.6")];
    REG14 = "reg14" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG14", NXM_NX, 14, "", "2.6")];
    REG15 = "reg15" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_REG15", NXM_NX, 15, "", "2.6")];
    XREG0 = "xreg0" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_PKT_REG0", PKT_REG, 0, "1.3", "2.4")];
    XREG1 = "xreg1" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_PKT_REG1", PKT_REG, 1, "1.3", "2.4")];
    XREG2 = "xreg2" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_PKT_REG2", PKT_REG, 2, "1.3", "2.4")];
    XREG3 = "xreg3" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_PKT_REG3", PKT_REG, 3, "1.3", "2.4")];
    XREG4 = "xreg4" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_PKT_REG4", PKT_REG, 4, "1.3", "2.4")];
    XREG5 = "xreg5" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_PKT_REG5", PKT_REG, 5, "1.3", "2.4")];
    XREG6 = "xreg6" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_PKT_REG6", PKT_REG, 6, "1.3", "2.4")];
    XREG7 = "xreg7" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_PKT_REG7", PKT_REG, 7, "1.3", "2.4")];
    XXREG0 = "xxreg0" [] 128/128 Hexadecimal Bitwise None ReadWrite [("NXM_NX_XXREG0", NXM_NX, 111, "", "2.6")];
    XXREG1 = "xxreg1" [] 128/128 Hexadecimal Bitwise None ReadWrite [("NXM_NX_XXREG1", NXM_NX, 112, "", "2.6")];
    XXREG2 = "xxreg2" [] 128/128 Hexadecimal Bitwise None ReadWrite [("NXM_NX_XXREG2", NXM_NX, 113, "", "2.6")];
    XXREG3 = "xxreg3" [] 128/128 Hexadecimal Bitwise None ReadWrite [("NXM_NX_XXREG3", NXM_NX, 114, "", "2.6")];
    PKT_MARK = "pkt_mark" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_PKT_MARK", NXM_NX, 33, "", "2.0")];
    CT_STATE = "ct_state" [] 32/32 CtState Bitwise None ReadOnly [("NXM_NX_CT_STATE", NXM_NX, 105, "", "2.5")];
    CT_ZONE = "ct_zone" [] 16/16 Hexadecimal Exact None ReadOnly [("NXM_NX_CT_ZONE", NXM_NX, 106, "", "2.5")];
    CT_MARK = "ct_mark" [] 32/32 Hexadecimal Bitwise None ReadWrite [("NXM_NX_CT_MARK", NXM_NX, 107, "", "2.5")];
    CT_LABEL = "ct_label" [] 128/128 Hexadecimal Bitwise None ReadWrite [("NXM_NX_CT_LABEL", NXM_NX, 108, "", "2.5")];
    CT_NW_SRC = "ct_nw_src" [] 32/32 Ipv4 Bitwise Tracked ReadOnly [("NXM_NX_CT_NW_SRC", NXM_NX, 120, "", "2.8")];
    CT_IPV6_SRC = "ct_ipv6_src" [] 128/128 Ipv6 Bitwise Tracked ReadOnly [("NXM_NX_CT_IPV6_SRC", NXM_NX, 122, "", "2.8")];
    CT_NW_DST = "ct_nw_dst" [] 32/32 Ipv4 Bitwise Tracked ReadOnly [("NXM_NX_CT_NW_DST", NXM_NX, 121, "", "2.8")];
    CT_IPV6_DST = "ct_ipv6_dst" [] 128/128 Ipv6 Bitwise Tracked ReadOnly [("NXM_NX_CT_IPV6_DST", NXM_NX, 123, "", "2.8")];
    CT_NW_PROTO = "ct_nw_proto" [] 8/8 Decimal Exact Tracked ReadOnly [("NXM_NX_CT_NW_PROTO", NXM_NX, 119, "", "2.8")];
    CT_TP_SRC = "ct_tp_src" [] 16/16 Decimal Bitwise Tracked ReadOnly [("NXM_NX_CT_TP_SRC", NXM_NX, 124, "", "2.8")];
    CT_TP_DST = "ct_tp_dst" [] 16/16 Decimal Bitwise Tracked ReadOnly [("NXM_NX_CT_TP_DST", NXM_NX, 125, "", "2.8")];
    METADATA = "metadata" [] 64/64 Hexadecimal Bitwise None ReadWrite [("OXM_OF_METADATA", OXM_OF, 2, "1.2", "1.8")];
}
