//! The part of a deletion that needs no agent: the veth and the addresses of a delegated IPAM plugin. The binary does it in
//! DEL, the agent when it carries out what is owed. It must not know ports and flows.

use std::collections::BTreeSet;

use api::cni::{Failure, Tombstone};
use netlink_packet_route::RouteNetlinkMessage;
use netlink_packet_route::link::{LinkAttribute, LinkMessage};

use crate::fault;
use crate::interface::{alias, open, refused};
use crate::plugin;

/// Deletes the veth, then gives the addresses back. Succeeds when there is nothing.
pub fn take_back(owed: &Tombstone) -> Result<(), Failure> {
    // Its other end goes with it, in whatever namespace that is, or was.
    delete_veth(&owed.id.host_interface())?;
    fault::reach("cni.del.veth");
    if let Some(delegate) = &owed.ipam {
        plugin::del(delegate, &owed.id)?;
        fault::reach("cni.del.delegated");
    }
    Ok(())
}

/// Deletes the host's end of a veth, and with it the container's; nothing happens when there is none.
pub(crate) fn delete_veth(host: &str) -> Result<(), Failure> {
    open()?.delete_link(host).map(drop).map_err(|error| refused("delete the host's end", host, &error))
}

/// Deletes every veth that was made for `network` and whose name is not in `keep`; gives their names.
pub fn sweep(network: &str, keep: &BTreeSet<String>) -> Result<Vec<String>, Failure> {
    let mut netlink = open()?;
    let failed = |error| refused("list the devices beside the host's end", "(any)", &error);
    let links = netlink.list(RouteNetlinkMessage::GetLink(LinkMessage::default())).map_err(failed)?;
    let mut swept = Vec::new();
    for link in links {
        let RouteNetlinkMessage::NewLink(link) = link else { continue };
        let (mut name, mut made_for) = (None, None);
        for attribute in &link.attributes {
            match attribute {
                LinkAttribute::IfName(text) => name = Some(text),
                LinkAttribute::IfAlias(text) => made_for = Some(text),
                _ => {}
            }
        }
        let Some(name) = name.filter(|name| !keep.contains(*name)) else { continue };
        if made_for.is_some_and(|text| *text == alias(network)) {
            netlink.delete_link(name).map_err(|error| refused("delete the host's end", name, &error))?;
            swept.push(name.clone());
        }
    }
    Ok(swept)
}
