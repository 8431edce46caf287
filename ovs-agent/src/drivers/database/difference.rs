//! The one transaction that takes the database from what it holds to what it should hold. Pure.

use std::collections::{BTreeMap, BTreeSet};

use api::insight::Difference;
use compiler::switch::{BridgeRow, PortRow, ROLE_KEY, SwitchRows};
use ovsdb::vswitch::{Bridge, Interface, Open_vSwitch, Port};
use ovsdb::{Atom, Datum, Mutation, Operation, Replica, Table, Transaction, Uuid};

use super::Wanted;
use crate::drift::Drift;

/// The key by which whatever starts ovs-vswitchd keeps it from forwarding until its flows are there.
const FLOW_RESTORE_WAIT: &str = "flow-restore-wait";

/// What is to change; `None` when nothing is.
pub fn transaction(replica: &Replica, wanted: &SwitchRows, target: &Wanted) -> Option<Transaction> {
    let mut transaction = Transaction::new();
    match replica.find::<Bridge>(|row| row.name == wanted.bridge.name) {
        Some((uuid, row)) => {
            update_bridge(&mut transaction, uuid, &row, &wanted.bridge);
            change_ports(&mut transaction, replica, (uuid, &row), wanted, &target.foreign);
        }
        None => insert_bridge(&mut transaction, wanted),
    }
    if target.flows_restored {
        for (uuid, row) in replica.rows::<Open_vSwitch>() {
            if row.other_config.contains_key(FLOW_RESTORE_WAIT) {
                let keys = [FLOW_RESTORE_WAIT.to_owned()];
                transaction.mutate(Open_vSwitch::at(uuid), [Open_vSwitch::OTHER_CONFIG.remove_keys(keys)]);
            }
        }
    }
    if transaction.operations().is_empty() {
        return None;
    }
    transaction.comment("ferrule-agent");
    Some(transaction)
}

/// What somebody else changed, where the database held all of `target` before.
pub fn drifts(replica: &Replica, target: &Wanted) -> Vec<Drift> {
    let Some(rows) = &target.rows else { return Vec::new() };
    let Some(transaction) = transaction(replica, rows, target) else { return Vec::new() };
    let list = |columns: Vec<&str>| columns.join(", ");
    let what = |table: &str, columns: Vec<&str>| match table {
        // Whatever starts ovs-vswitchd sets it.
        "Open_vSwitch" => None,
        _ => Some(Drift::other("database", Difference::Changed, format!("{table} {}", list(columns)), ROW)),
    };
    let drift = |operation: &Operation| match operation {
        Operation::Insert { table, row, .. } if table == "Port" || table == "Bridge" => {
            let name = match row.get("name") {
                Some(Datum::Set(atoms)) => atoms.first(),
                _ => None,
            };
            let Some(Atom::String(name)) = name else { return None };
            Some(Drift::other("database", Difference::Missing, format!("{table} {name}"), ROW))
        }
        Operation::Update { rows, row } => what(&rows.table, row.keys().map(String::as_str).collect()),
        Operation::Mutate { rows, mutations } => {
            what(&rows.table, mutations.iter().map(|mutation| mutation.column.as_str()).collect())
        }
        _ => None,
    };
    transaction.operations().iter().filter_map(drift).collect()
}

const ROW: &str = "a row of the switch's database";

fn insert_bridge(transaction: &mut Transaction, wanted: &SwitchRows) {
    let BridgeRow { name, datapath_type, fail_mode, protocols, other_config, external_ids } = &wanted.bridge;
    // Open vSwitch wants every bridge to have a local port of its own name.
    let local = PortRow { interface_type: "internal".into(), ..PortRow::default() };
    let mut ports: Vec<Atom> = vec![insert_port(transaction, name, &local)];
    for (name, port) in &wanted.ports {
        ports.push(insert_port(transaction, name, port));
    }
    let bridge = Bridge::row()
        .set(Bridge::NAME, name.clone())
        .set(Bridge::DATAPATH_TYPE, datapath_type.clone())
        .set(Bridge::FAIL_MODE, Some(fail_mode.clone()))
        .set(Bridge::PROTOCOLS, protocols.iter().cloned().collect::<BTreeSet<_>>())
        .set(Bridge::OTHER_CONFIG, other_config.clone())
        .set(Bridge::EXTERNAL_IDS, external_ids.clone())
        .refer(Bridge::PORTS, ports);
    let bridge = transaction.insert(bridge);
    transaction.mutate(Open_vSwitch::all(), [Open_vSwitch::BRIDGES.insert([bridge])]);
}

fn insert_port(transaction: &mut Transaction, name: &str, port: &PortRow) -> Atom {
    let interface = Interface::row()
        .set(Interface::NAME, name.to_owned())
        .set(Interface::TYPE, port.interface_type.clone())
        .set(Interface::OPTIONS, port.options.clone())
        .set(Interface::MAC, port.mac.clone())
        .set(Interface::MTU_REQUEST, port.mtu_request)
        .set(Interface::EXTERNAL_IDS, port.external_ids.clone());
    let interface = transaction.insert(interface);
    let port = Port::row().set(Port::NAME, name.to_owned()).refer(Port::INTERFACES, [interface]);
    transaction.insert(port).into()
}

fn update_bridge(transaction: &mut Transaction, uuid: Uuid, row: &Bridge, wanted: &BridgeRow) {
    let protocols: BTreeSet<_> = wanted.protocols.iter().cloned().collect();
    let mut fields = Bridge::row();
    let mut differs = false;
    if row.datapath_type != wanted.datapath_type {
        fields = fields.set(Bridge::DATAPATH_TYPE, wanted.datapath_type.clone());
        differs = true;
    }
    if row.fail_mode.as_ref() != Some(&wanted.fail_mode) {
        fields = fields.set(Bridge::FAIL_MODE, Some(wanted.fail_mode.clone()));
        differs = true;
    }
    if row.protocols != protocols {
        fields = fields.set(Bridge::PROTOCOLS, protocols);
        differs = true;
    }
    if differs {
        transaction.update(Bridge::at(uuid), fields);
    }
    let mut mutations = Vec::new();
    put_missing(&mut mutations, &row.other_config, &wanted.other_config, |k, v| {
        Bridge::OTHER_CONFIG.put(k, v)
    });
    put_missing(&mut mutations, &row.external_ids, &wanted.external_ids, |k, v| {
        Bridge::EXTERNAL_IDS.put(k, v)
    });
    if !mutations.is_empty() {
        transaction.mutate(Bridge::at(uuid), mutations);
    }
}

fn put_missing(
    mutations: &mut Vec<Mutation>,
    held: &BTreeMap<String, String>,
    wanted: &BTreeMap<String, String>,
    put: impl Fn(String, String) -> [Mutation; 2],
) {
    for (key, value) in wanted.iter().filter(|(key, value)| held.get(*key) != Some(value)) {
        mutations.extend(put(key.clone(), value.clone()));
    }
}

fn change_ports(
    transaction: &mut Transaction,
    replica: &Replica,
    (bridge, row): (Uuid, &Bridge),
    wanted: &SwitchRows,
    foreign: &BTreeSet<String>,
) {
    let mut held: BTreeSet<&str> = BTreeSet::new();
    let mut gone: Vec<Uuid> = Vec::new();
    for uuid in &row.ports {
        let Some(port) = replica.row::<Port>(*uuid) else { continue };
        let interface = port.interfaces.iter().find_map(|i| Some((*i, replica.row::<Interface>(*i)?)));
        match (wanted.ports.get_key_value(port.name.as_str()), interface) {
            (Some((name, target)), Some((uuid, interface))) => {
                held.insert(name);
                update_interface(transaction, uuid, &interface, target);
            }
            // A port without a readable interface carries nothing: it is made anew.
            (Some(_), None) => gone.push(*uuid),
            (None, Some((_, interface))) if interface.external_ids.contains_key(ROLE_KEY) => gone.push(*uuid),
            (None, _) if foreign.contains(&port.name) => gone.push(*uuid),
            (None, _) => {}
        }
    }
    let added: Vec<Atom> = wanted
        .ports
        .iter()
        .filter(|(name, _)| !held.contains(name.as_str()))
        .map(|(name, port)| insert_port(transaction, name, port))
        .collect();
    let mut mutations = Vec::new();
    if !gone.is_empty() {
        mutations.push(Bridge::PORTS.remove(gone));
    }
    if !added.is_empty() {
        mutations.push(Bridge::PORTS.insert(added));
    }
    if !mutations.is_empty() {
        transaction.mutate(Bridge::at(bridge), mutations);
    }
}

fn update_interface(transaction: &mut Transaction, uuid: Uuid, row: &Interface, wanted: &PortRow) {
    let mut fields = Interface::row();
    let mut differs = false;
    if row.type_ != wanted.interface_type {
        fields = fields.set(Interface::TYPE, wanted.interface_type.clone());
        differs = true;
    }
    if row.options != wanted.options {
        fields = fields.set(Interface::OPTIONS, wanted.options.clone());
        differs = true;
    }
    if row.mac != wanted.mac {
        fields = fields.set(Interface::MAC, wanted.mac.clone());
        differs = true;
    }
    if row.mtu_request != wanted.mtu_request {
        fields = fields.set(Interface::MTU_REQUEST, wanted.mtu_request);
        differs = true;
    }
    if differs {
        transaction.update(Interface::at(uuid), fields);
    }
    // Others keep keys here too (attached-mac, iface-id): only ours are kept true.
    let mut mutations = Vec::new();
    put_missing(&mut mutations, &row.external_ids, &wanted.external_ids, |k, v| {
        Interface::EXTERNAL_IDS.put(k, v)
    });
    if !mutations.is_empty() {
        transaction.mutate(Interface::at(uuid), mutations);
    }
}
