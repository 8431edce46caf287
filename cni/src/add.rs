//! ADD (CNI 1.1 §"ADD"): the veth first, the agent next; the container's end is configured while the agent waits for the
//! switch, which drops whatever the container sends before its policy is in force. What was begun is undone when a later step
//! fails, and owed when this is killed.

use std::path::Path;

use api::cni::{AddRequest, Attachment, Command, Failure, Reply, Tombstone, code};
use serde_json::Value;

use crate::agent::{Agent, AgentError};
use crate::config::Config;
use crate::delete::{lock, storage, tombstone};
use crate::environment::Container;
use crate::fault;
use crate::fields::invalid;
use crate::interface::{configure, create, open, raise_host_end, set_mtu};
use crate::netns::{Namespace, joined};
use crate::plugin;
use crate::result::{Address, Attached, Interface, Route};
use crate::take_back::take_back;

/// Attaches a container; gives the result document.
pub(crate) fn add(config: &Config, container: &Container, agent: Agent<'_>) -> Result<Value, Failure> {
    let namespace = Namespace::open(&container.netns)?;
    let request = request(config, container)?;
    let owed = tombstone(config, &container.id);
    let (mut intent, earlier) = lock(config, &owed)?;
    if let Some(earlier) = earlier {
        // A deletion that the agent has not seen yet must not hit what is made now.
        agent.ask(Command::Del(container.id.clone()))?;
        take_back(&earlier)?;
    }
    intent.write(&owed).map_err(|error| storage("write", config, &container.id, &error))?;
    fault::reach("cni.add.begun");
    let mut begun = Begun::default();
    let attached = attach(config, request, &namespace, agent, &mut begun);
    let end = |intent: crate::tombstone::Intent| {
        intent.end().map_err(|error| storage("remove", config, &container.id, &error))
    };
    match attached {
        Ok((attached, dns)) => {
            end(intent)?;
            fault::reach("cni.add.ended");
            Ok(attached.render(config.version, config.previous.as_ref(), dns.as_ref()))
        }
        Err(mut failure) => {
            // What cannot be undone now stays owed.
            if let Err(left) = undo(owed, begun, agent).and_then(|()| end(intent)) {
                let details = format!("{}; undoing it: {}", failure.details, left.msg);
                failure.details = details.trim_start_matches("; ").to_owned();
            }
            Err(failure)
        }
    }
}

/// Who may hold something.
#[derive(Clone, Copy, Debug, Default)]
struct Begun {
    plugin: bool,
    agent: bool,
}

fn undo(mut owed: Tombstone, begun: Begun, agent: Agent<'_>) -> Result<(), Failure> {
    let forgotten = if begun.agent { agent.ask(Command::Del(owed.id.clone())).map(drop) } else { Ok(()) };
    // A plugin that failed has nothing, or is not even there.
    owed.ipam = owed.ipam.filter(|_| begun.plugin);
    take_back(&owed)?;
    forgotten.map_err(Failure::from)
}

/// What the agent is told about an attachment.
pub(crate) fn request(config: &Config, container: &Container) -> Result<AddRequest, Failure> {
    let mut addresses = config.addresses.clone();
    addresses.extend(container.arguments.address.filter(|address| !config.addresses.contains(address)));
    if let Some(extra) = addresses
        .iter()
        .enumerate()
        .find_map(|(at, one)| addresses[..at].iter().any(|two| two.is_ipv4() == one.is_ipv4()).then_some(one))
    {
        return Err(invalid(format!(
            "`runtimeConfig.ips`, `args.cni.ips` and IP of CNI_ARGS together ask for {addresses:?}, {extra} is the second \
             of its family: ask for one per family"
        )));
    }
    let netns = container.netns.to_string_lossy().into_owned();
    Ok(AddRequest {
        id: container.id.clone(),
        network: config.name.clone(),
        netns,
        host_interface: container.id.host_interface(),
        pod: container.arguments.pod.clone(),
        addresses,
        mac: config.mac.or(container.arguments.mac),
        ipam: config.ipam.clone(),
        early: true,
        expected: Vec::new(),
    })
}

/// The steps that have to be undone together. Gives what the result says, and its `dns`.
fn attach(
    config: &Config,
    mut request: AddRequest,
    namespace: &Namespace,
    agent: Agent<'_>,
    begun: &mut Begun,
) -> Result<(Attached, Option<Value>), Failure> {
    let mut dns = config.dns.clone();
    if let Some(delegate) = &config.ipam {
        let given = plugin::add(delegate, &request.id)
            .inspect_err(|failure| begun.plugin = failure.code == code::TRY_AGAIN)?;
        begun.plugin = true;
        if let Some(other) = request.addresses.iter().find(|asked| !given.addresses.contains(asked)) {
            return Err(Failure {
                code: code::ADDRESS_REFUSED,
                msg: format!(
                    "address {other} was asked for, IPAM plugin `{}` gave {:?}: leave the request out, or let the plugin \
                     give that address",
                    delegate.plugin, given.addresses
                ),
                details: String::new(),
            });
        }
        request.addresses = given.addresses;
        dns = dns.or(given.dns);
        fault::reach("cni.add.delegated");
    }
    let netlink = &mut open()?;
    create(netlink, &request.host_interface, &request.id.interface, namespace)?;
    fault::reach("cni.add.veth");
    let host_mac = raise_host_end(netlink, &request.host_interface, &request.network)?;
    let limited = |mut attachment: Attachment| match config.mtu {
        Some(mtu) if mtu > attachment.mtu => Err(invalid(format!(
            "field `mtu` is {mtu}, but the underlay of this node carries {} at most: lower or remove it",
            attachment.mtu
        ))),
        limit => {
            attachment.mtu = limit.unwrap_or(attachment.mtu);
            Ok(attachment)
        }
    };
    let inside = request.id.interface.as_str();
    let (reply, early) = std::thread::scope(|scope| {
        let mut early = None;
        let reply = agent.ask_early(Command::Add(request.clone()), |assigned| {
            let begun = limited(assigned).map(|attachment| {
                let configured = attachment.clone();
                (attachment, namespace.start(scope, move || configure(inside, &configured)))
            });
            early = Some(begun);
        });
        let ended = early.map(|begun| begun.and_then(|(attachment, work)| joined(work).map(|()| attachment)));
        (reply, ended)
    });
    // A refusal leaves nothing behind (`Reply::Failed`), and who was not reached knows of nothing.
    begun.agent = !matches!(reply, Err(AgentError::Unreachable { .. } | AgentError::Refused(_)));
    let Reply::Added(attachment) = reply? else {
        return Err(Failure {
            code: code::DECODE,
            msg: format!(
                "ferrule-agent at {} did not answer ADD with an attachment: install the same version of both",
                agent.socket.display()
            ),
            details: String::new(),
        });
    };
    fault::reach("cni.add.answered");
    let attachment = match early {
        Some(configured) => configured?,
        None => {
            let attachment = limited(attachment)?;
            namespace.run(|| configure(inside, &attachment))?;
            attachment
        }
    };
    set_mtu(netlink, &request.host_interface, attachment.mtu)?;
    fault::reach("cni.add.configured");
    let host = Interface {
        name: request.host_interface.clone(),
        mac: host_mac,
        mtu: Some(attachment.mtu),
        sandbox: String::new(),
    };
    Ok((attached(host, Path::new(&request.netns), &request.id.interface, &attachment), dns))
}

/// The result of an attachment: the host's end, the container's end, and what the latter has.
fn attached(host: Interface, netns: &Path, name: &str, attachment: &Attachment) -> Attached {
    let inside = Interface {
        name: name.to_owned(),
        mac: Some(attachment.mac),
        mtu: Some(attachment.mtu),
        sandbox: netns.to_string_lossy().into_owned(),
    };
    let addresses = attachment.addresses.iter().map(|held| Address {
        address: held.address,
        length: if held.address.is_ipv4() { 32 } else { 128 },
        gateway: Some(held.gateway),
        interface: Some(1),
    });
    let routes = attachment.addresses.iter().map(|held| Route {
        destination: everything(held.gateway.is_ipv4()),
        gateway: Some(held.gateway),
        mtu: Some(attachment.mtu),
    });
    Attached { interfaces: vec![host, inside], addresses: addresses.collect(), routes: routes.collect() }
}

fn everything(ipv4: bool) -> network::Cidr {
    let zero: std::net::IpAddr =
        if ipv4 { std::net::Ipv4Addr::UNSPECIFIED.into() } else { std::net::Ipv6Addr::UNSPECIFIED.into() };
    // A prefix of length 0 fits every family.
    network::Cidr::new(zero, 0).unwrap_or_else(|_| network::Cidr::host(zero))
}
