//! A tracked connection, read from a line of `ovs-appctl dpctl/dump-conntrack`. It must not know why anybody lists them.

use std::net::IpAddr;

/// A connection that the datapath remembers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connection {
    /// IP protocol number.
    pub protocol: u8,
    /// Who began it.
    pub source: IpAddr,
    /// Whom it was addressed to.
    pub destination: IpAddr,
    /// What tells it from others of the same two addresses.
    pub discriminator: Discriminator,
    /// Who answers: differs from `destination` where that was translated.
    pub answerer: IpAddr,
    /// The port that it answers from, where the protocol has ports.
    pub answerer_port: Option<u16>,
    /// The zone.
    pub zone: u16,
    /// `ct_mark`.
    pub mark: u32,
    /// Both sides have closed it.
    pub is_over: bool,
}

/// Ports, or what ICMP has in their place.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Discriminator {
    /// Of TCP, UDP, SCTP and their kin.
    Ports {
        /// Of the source.
        source: u16,
        /// Of the destination.
        destination: u16,
    },
    /// Of ICMP and ICMPv6.
    Echo {
        /// Identifier.
        id: u16,
        /// Type.
        kind: u8,
        /// Code.
        code: u8,
    },
    /// The protocol has nothing of the kind.
    None,
}

/// Numbers by the names that Open vSwitch gives (`lib/ct-dpif.c`, `ct_dpif_format_ipproto`); others it prints as numbers.
const PROTOCOLS: [(&str, u8); 7] =
    [("tcp", 6), ("udp", 17), ("icmp", 1), ("icmpv6", 58), ("sctp", 132), ("udplite", 136), ("dccp", 33)];

impl Connection {
    /// Reads a line; `None` when it is none of a connection.
    pub fn parse(line: &str) -> Option<Self> {
        let (name, rest) = line.split_once(',')?;
        let known = PROTOCOLS.iter().find(|(known, _)| *known == name).map(|(_, number)| *number);
        let protocol = known.or_else(|| name.parse().ok())?;
        let (original, rest) = tuple(rest, "orig=(")?;
        let (reply, rest) = tuple(rest, "reply=(")?;
        let discriminator = match (value(original, "sport"), value(original, "id")) {
            (Some(source), _) => Discriminator::Ports {
                source: source.parse().ok()?,
                destination: value(original, "dport")?.parse().ok()?,
            },
            (None, Some(id)) => Discriminator::Echo {
                id: id.parse().ok()?,
                kind: value(original, "type")?.parse().ok()?,
                code: value(original, "code")?.parse().ok()?,
            },
            (None, None) => Discriminator::None,
        };
        Some(Self {
            protocol,
            source: value(original, "src")?.parse().ok()?,
            destination: value(original, "dst")?.parse().ok()?,
            discriminator,
            answerer: value(reply, "src")?.parse().ok()?,
            answerer_port: value(reply, "sport").and_then(|port| port.parse().ok()),
            zone: value(rest, "zone").unwrap_or("0").parse().ok()?,
            mark: value(rest, "mark").map_or(Some(0), number)?,
            // The kernel's CLOSE_WAIT is half of a connection: who has not closed goes on speaking.
            is_over: rest.contains("state=TIME_WAIT)") || rest.contains("state=CLOSED)"),
        })
    }

    /// Whether a policy blocked it before.
    pub fn is_blocked(&self) -> bool {
        self.mark & compiler::register::CT_BLOCKED.bits.mask() as u32 != 0
    }
}

/// What stands between the bracket that `start` ends with and its counterpart, and what comes after.
fn tuple<'a>(text: &'a str, start: &str) -> Option<(&'a str, &'a str)> {
    text[text.find(start)? + start.len()..].split_once(')')
}

fn value<'a>(list: &'a str, name: &str) -> Option<&'a str> {
    list.split(',').find_map(|item| item.strip_prefix(name)?.strip_prefix('='))
}

fn number(text: &str) -> Option<u32> {
    match text.strip_prefix("0x") {
        Some(digits) => u32::from_str_radix(digits, 16).ok(),
        None => text.parse().ok(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_of_open_vswitch_are_read() {
        // Open vSwitch 3.1.0, userspace datapath.
        let line = "tcp,orig=(src=10.9.0.1,dst=10.9.0.2,sport=40001,dport=80),reply=(src=10.9.0.3,dst=10.9.0.1,sport=80,\
                    dport=40001),zone=5,mark=268435457,protoinfo=(state=ESTABLISHED)";
        let tcp = Connection::parse(line).unwrap();
        assert_eq!((tcp.protocol, tcp.zone, tcp.mark), (6, 5, 0x1000_0001));
        assert_eq!(tcp.discriminator, Discriminator::Ports { source: 40_001, destination: 80 });
        assert_eq!(tcp.answerer, IpAddr::from([10, 9, 0, 3]));
        assert!(tcp.is_blocked() && !tcp.is_over);

        let line = "icmpv6,orig=(src=fd00::1,dst=fd00::2,id=7,type=128,code=0),reply=(src=fd00::2,dst=fd00::1,id=7,type=129,\
                    code=0),zone=65025,mark=268435456";
        let echo = Connection::parse(line).unwrap();
        assert_eq!((echo.protocol, echo.zone), (58, 65_025));
        assert_eq!(echo.discriminator, Discriminator::Echo { id: 7, kind: 128, code: 0 });
        assert!(!echo.is_blocked());

        let line = "47,orig=(src=10.9.0.1,dst=10.9.0.2),reply=(src=10.9.0.2,dst=10.9.0.1)";
        let gre = Connection::parse(line).unwrap();
        assert_eq!((gre.protocol, gre.discriminator, gre.zone), (47, Discriminator::None, 0));

        let over = "tcp,orig=(src=10.9.0.1,dst=10.9.0.2,sport=1,dport=2),reply=(src=10.9.0.2,dst=10.9.0.1,sport=2,dport=1),\
                    zone=5,protoinfo=(state=TIME_WAIT)";
        assert!(Connection::parse(over).unwrap().is_over);
        assert!(Connection::parse(&over.replace("TIME_WAIT", "CLOSED")).unwrap().is_over);
        // Open vSwitch 3.1.0, Linux 6.1's datapath: a client that has closed its end still hears the server.
        let half = Connection::parse(&over.replace("TIME_WAIT", "CLOSE_WAIT")).unwrap();
        assert!(!half.is_over);
    }

    #[test]
    fn other_lines_are_none() {
        for line in
            ["", "tcp", "tcp,orig=(src=1.2.3.4", "spdy,orig=(src=1.2.3.4,dst=1.2.3.5),reply=()", "x,y"]
        {
            assert_eq!(Connection::parse(line), None, "{line}");
        }
    }
}
