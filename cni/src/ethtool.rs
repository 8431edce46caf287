//! Turning transmit checksum offload off, by ethtool's generic netlink (`linux/ethtool_netlink.h`, Linux 5.6). The ioctl would
//! need unsafe code.

use std::io;

use crate::generic::{Generic, attribute, nested, text};

/// `ETHTOOL_MSG_FEATURES_SET`, `ETHTOOL_A_FEATURES_HEADER`, `ETHTOOL_A_HEADER_DEV_NAME`, `ETHTOOL_A_FEATURES_WANTED`,
/// `ETHTOOL_A_BITSET_BITS`, `ETHTOOL_A_BITSET_BITS_BIT`, `ETHTOOL_A_BITSET_BIT_NAME`.
const FEATURES_SET: u8 = 12;
const FEATURES_HEADER: u16 = 1;
const HEADER_DEV_NAME: u16 = 2;
const FEATURES_WANTED: u16 = 3;
const BITSET_BITS: u16 = 3;
const BITS_BIT: u16 = 1;
const BIT_NAME: u16 = 2;

/// What `ethtool -K DEV tx off` turns off on a veth.
const CHECKSUMS: [&str; 2] = ["tx-checksum-ip-generic", "tx-checksum-sctp"];

/// Makes the interface compute checksums itself: on the userspace datapath nobody else does, and TCP would stall.
pub(crate) fn disable_transmit_checksums(interface: &str) -> io::Result<()> {
    let generic = Generic::connect()?;
    let family = generic.family("ethtool")?.ok_or_else(|| {
        io::Error::new(io::ErrorKind::Unsupported, "the kernel has no ethtool netlink (Linux 5.6)")
    })?;
    // A bit that is listed without a value is wanted off.
    let bits: Vec<u8> =
        CHECKSUMS.iter().flat_map(|name| nested(BITS_BIT, &attribute(BIT_NAME, &text(name)))).collect();
    let mut body = nested(FEATURES_HEADER, &attribute(HEADER_DEV_NAME, &text(interface)));
    body.extend(nested(FEATURES_WANTED, &nested(BITSET_BITS, &bits)));
    generic.exchange(family, FEATURES_SET, &body).map(drop)
}
