//! Do the fields of a match have what they depend on? (OpenFlow 1.3.5 §7.2.3.6; `ovs-fields(7)`, "Prerequisites".) It knows
//! matches and nothing else.

use crate::flow_match::Match;
use crate::oxm::{Field, Prerequisite};

const TRACKED: u128 = 0x20;
const INVALID: u128 = 0x10;
/// `new`, `est`, `rel`, `rpl`: each says that there is a connection.
const KNOWN: u128 = 0x0f;

impl Match {
    /// The first field whose prerequisite is missing; a switch refuses such a match (`OFPBMC_BAD_PREREQ`).
    pub fn missing_prerequisite(&self) -> Option<Field> {
        self.iter()
            .map(|oxm| oxm.field())
            .find(|field| field.spec().is_some_and(|spec| !self.satisfies(spec.prerequisite)))
    }

    /// Says this match what the prerequisite asks for?
    pub fn satisfies(&self, prerequisite: Prerequisite) -> bool {
        let eth_type = self.exact(Field::ETH_TYPE);
        let type_is = |types: &[u128]| eth_type.is_some_and(|eth_type| types.contains(&eth_type));
        let ip_proto = |types: &[u128], proto| type_is(types) && self.exact(Field::IP_PROTO) == Some(proto);
        let icmpv6_type = |types: &[u128]| {
            ip_proto(&[0x86dd], 58)
                && self.exact(Field::ICMPV6_TYPE).is_some_and(|icmp_type| types.contains(&icmp_type))
                && self.exact(Field::ICMPV6_CODE).is_none_or(|code| code == 0)
        };
        match prerequisite {
            Prerequisite::None => true,
            Prerequisite::Ethernet => {
                self.exact(Field::PACKET_TYPE).is_none_or(|packet_type| packet_type == 0)
            }
            Prerequisite::Arp => type_is(&[0x0806, 0x8035]),
            Prerequisite::VlanVid => self.has_vlan(),
            Prerequisite::Ipv4 => type_is(&[0x0800]),
            Prerequisite::Ipv6 => type_is(&[0x86dd]),
            Prerequisite::Ip => type_is(&[0x0800, 0x86dd]),
            Prerequisite::Nsh => type_is(&[0x894f]) || self.exact(Field::PACKET_TYPE) == Some(0x0001_894f),
            Prerequisite::Mpls => type_is(&[0x8847, 0x8848]),
            Prerequisite::Pbb => type_is(&[0x88e7]),
            Prerequisite::Tcp => ip_proto(&[0x0800, 0x86dd], 6),
            Prerequisite::Udp => ip_proto(&[0x0800, 0x86dd], 17),
            Prerequisite::Sctp => ip_proto(&[0x0800, 0x86dd], 132),
            Prerequisite::Icmpv4 => ip_proto(&[0x0800], 1),
            Prerequisite::Icmpv6 => ip_proto(&[0x86dd], 58),
            Prerequisite::Nd => icmpv6_type(&[135, 136]),
            Prerequisite::NdSolicit => icmpv6_type(&[135]),
            Prerequisite::NdAdvert => icmpv6_type(&[136]),
            Prerequisite::Tracked => self.is_tracked(),
        }
    }

    fn has_vlan(&self) -> bool {
        [Field::VLAN_VID, Field::VLAN_TCI]
            .iter()
            .filter_map(|field| self.get(*field))
            .any(|(value, mask)| value & mask.unwrap_or(0xffff) & 0x1000 != 0)
    }

    /// A tracked packet of a connection that conntrack knows.
    fn is_tracked(&self) -> bool {
        let Some((state, mask)) = self.get(Field::CT_STATE) else { return false };
        let mask = mask.unwrap_or(u128::MAX);
        let not_invalid = mask & INVALID != 0 && state & INVALID == 0;
        state & TRACKED != 0 && (state & KNOWN != 0 || not_invalid)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn conntrack_tuples_need_more_than_trk() {
        let tuple = |state: u32, mask: u32| {
            Match::new()
                .with(Field::ETH_TYPE, 0x800u16)
                .with_masked(Field::CT_STATE, state, mask)
                .with(Field::CT_NW_SRC, 1u32)
                .missing_prerequisite()
        };
        assert_eq!(tuple(0x20, 0x20), Some(Field::CT_NW_SRC));
        assert_eq!(tuple(0x21, 0x21), None);
        assert_eq!(tuple(0x20, 0x30), None);
    }

    #[test]
    fn ports_need_their_protocol() {
        let tcp = Match::new().with(Field::ETH_TYPE, 0x86ddu16).with(Field::IP_PROTO, 6u8);
        assert_eq!(tcp.clone().with(Field::TCP_DST, 80u16).missing_prerequisite(), None);
        assert_eq!(tcp.with(Field::UDP_DST, 80u16).missing_prerequisite(), Some(Field::UDP_DST));
    }
}
