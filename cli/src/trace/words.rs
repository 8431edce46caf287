//! A simulated packet in ovs-ofctl's words, as `ofproto/trace` reads them. Pure.

use std::net::IpAddr;

use compiler::simulate::Packet;
use network::Mac;
use openflow::Field;

/// The packet as it comes in by the port of this number, from this source port.
pub fn flow(packet: &Packet, in_port: u32, source_port: u16) -> String {
    let (Some(source), Some(destination)) = (packet.source(), packet.destination()) else {
        return String::new();
    };
    let v4 = source.is_ipv4();
    let six = if v4 { "" } else { "6" };
    let prefix = if v4 { "nw" } else { "ipv6" };
    let ports = |name: &str, destination: Field| {
        let destination = packet.get(destination);
        format!("{name}{six},{name}_src={source_port},{name}_dst={destination}")
    };
    let protocol = match packet.get(Field::IP_PROTO) {
        6 => format!("{},tcp_flags=syn", ports("tcp", Field::TCP_DST)),
        17 => ports("udp", Field::UDP_DST),
        132 => ports("sctp", Field::SCTP_DST),
        1 => "icmp,icmp_type=8,icmp_code=0".to_owned(),
        _ => "icmp6,icmpv6_type=128,icmpv6_code=0".to_owned(),
    };
    let tunnel = match (packet.get(Field::TUN_SRC) as u32, packet.get(Field::TUN_IPV6_SRC)) {
        (0, 0) => String::new(),
        (0, outer) => format!(
            "tun_id={:#x},tun_ipv6_src={},",
            packet.get(Field::TUN_ID),
            IpAddr::from(outer.to_be_bytes())
        ),
        (outer, _) => {
            format!("tun_id={:#x},tun_src={},", packet.get(Field::TUN_ID), IpAddr::from(outer.to_be_bytes()))
        }
    };
    let [from, to] = [Field::ETH_SRC, Field::ETH_DST].map(|field| Mac(array(packet.get(field))));
    let ttl = packet.get(Field::IP_TTL).max(2);
    format!(
        "{tunnel}in_port={in_port},dl_src={from},dl_dst={to},{protocol},{prefix}_src={source},{prefix}_dst={destination},nw_ttl={ttl}"
    )
}

fn array(bits: u128) -> [u8; 6] {
    let [.., a, b, c, d, e, f] = bits.to_be_bytes();
    [a, b, c, d, e, f]
}

#[cfg(test)]
mod tests {
    use network::Protocol;

    use super::*;

    #[test]
    fn packets_are_written_as_ovs_reads_them() {
        let [a, b] = ["10.244.1.2", "10.244.2.3"].map(|text| text.parse().unwrap());
        let packet = Packet::first(a, b, Protocol::Tcp, 80).ethernet(Mac([2, 0, 0, 0, 0, 1]), Mac::ROUTER);
        assert_eq!(
            flow(&packet, 7, 50_000),
            "in_port=7,dl_src=02:00:00:00:00:01,dl_dst=0e:00:00:0f:e0:01,tcp,tcp_src=50000,tcp_dst=80,tcp_flags=syn,\
             nw_src=10.244.1.2,nw_dst=10.244.2.3,nw_ttl=64"
        );
        let mut echo = Packet::echo("fd00::1".parse().unwrap(), "fd00::2".parse().unwrap());
        echo.set(Field::TUN_SRC, 0xac1e_0101);
        echo.set(Field::TUN_ID, 0x10);
        assert_eq!(
            flow(&echo, 1, 0),
            "tun_id=0x10,tun_src=172.30.1.1,in_port=1,dl_src=00:00:00:00:00:00,dl_dst=00:00:00:00:00:00,\
             icmp6,icmpv6_type=128,icmpv6_code=0,ipv6_src=fd00::1,ipv6_dst=fd00::2,nw_ttl=64"
        );
    }
}
