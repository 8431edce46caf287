//! From the node's state to what should be done about it: what the database and the host should hold, and the flow-mods that
//! take the switch to where it should be.

use std::collections::BTreeSet;
use std::sync::Arc;

use api::stream::ResourceId;
use compiler::PortRef;
use compiler::incremental::Touched;
use network::NodeView;

use super::{Applying, Confirmed, Node, Switch, cut};
use crate::attachment::Attachment;
use crate::plan::Plan;
use crate::recipe::{Numbers, Recipe};

impl Node {
    /// Compiles when something changed; plans when the switch is free.
    pub(super) fn reconcile(&mut self) {
        let free = matches!(&self.switch, Switch::Here { applying: None, problem: None, .. });
        // Before the database was read no port has a number: a plan made then would take every pod's flows away.
        let due = free && self.database.is_some() && self.confirmed.generation != self.generation;
        if self.compiled.generation == self.generation && !due {
            return;
        }
        let recipe = self.recipe();
        if self.compiled.generation != self.generation {
            self.surroundings(&recipe);
        }
        if due {
            self.plan(recipe);
        }
    }

    /// Notes what a delta brought, for the next plan.
    pub(super) fn touch(&mut self, changed: &BTreeSet<ResourceId>) {
        for id in changed {
            match id {
                ResourceId::Policy(_) => self.touched.policies = true,
                ResourceId::AddressSet(id) => {
                    if let Some(sets) = &mut self.touched.sets {
                        sets.insert(*id);
                    }
                }
                // Nodes and pods are few: they are compared.
                _ => {}
            }
        }
    }

    /// What the flows are made from now.
    pub(super) fn recipe(&self) -> Recipe {
        let ports: Vec<_> = self
            .attachments
            .values()
            .map(|plugged| &plugged.attachment)
            .filter(|attachment| !self.rejected.interfaces.contains_key(&attachment.host_interface))
            .map(|attachment| attachment.local_port(self.known_uid(attachment)))
            .collect();
        let interfaces = ports.iter().map(|port| PortRef::Interface(port.interface.clone()));
        let numbers: Numbers = [PortRef::Gateway, PortRef::Tunnel]
            .into_iter()
            .chain(interfaces)
            .filter_map(|port| self.port_number(&port).map(|number| (port, number)))
            .collect();
        Recipe {
            view: self.view_to_compile(),
            described: self.described.clone(),
            config: self.config.clone(),
            closed: self.rejected.policies.keys().cloned().collect(),
            ports,
            numbers,
        }
    }

    /// The view without the Services that the switch would not take.
    fn view_to_compile(&self) -> Arc<NodeView> {
        let mut view = Arc::clone(&self.view);
        if !self.rejected.services.is_empty() {
            Arc::make_mut(&mut view).services.retain(|key, _| !self.rejected.services.contains_key(key));
        }
        view
    }

    pub(super) fn known_uid(&self, attachment: &Attachment) -> Option<&str> {
        Some(&self.view.pods.get(&attachment.pod_name()?)?.uid)
    }

    /// What the database and the host should hold.
    fn surroundings(&mut self, recipe: &Recipe) {
        let first = self.compiled.generation == 0;
        let (rows, host) = compiler::surroundings(recipe.input());
        if first || *self.compiled.rows != rows {
            self.compiled.rows = Arc::new(rows);
            self.work.rows = Some(Arc::clone(&self.compiled.rows));
        }
        if first || *self.compiled.host != host {
            self.compiled.host = Arc::new(host);
            self.work.host = Some(Arc::clone(&self.compiled.host));
            self.compiled.host_owed.get_or_insert(self.generation);
        }
        self.work.ranges = Some(self.own().pod_cidrs.clone());
        self.compiled.generation = self.generation;
    }

    fn plan(&mut self, recipe: Recipe) {
        // Every port of ours has flows that speak of it.
        let unbound = recipe.ports.len() + 2 - recipe.numbers.len();
        let promise = Confirmed {
            generation: self.generation,
            watermark: self.watermark.clone(),
            served: self.servable(),
            unbound,
        };
        let Switch::Here { shadow, session, applying, .. } = &mut self.switch else { return };
        let touched = std::mem::replace(&mut self.touched, Touched::nothing());
        let Plan { flows, confirmation, refused } = self.planner.plan(recipe.clone(), touched, shadow);
        if refused != self.compiled.refused {
            self.cuts.unknown();
        }
        self.compiled.refused = refused;
        let threat = self.cuts.planned(&self.view, |key| cut::addresses_of(&self.attachments, key));
        if flows.is_empty() {
            self.confirmed = promise;
            return;
        }
        self.flow_mods_sent += flows.len() as u64;
        *applying = Some(Box::new(Applying { confirmation, promise, doubtful: false, recipe, threat }));
        self.work.flows = Some((*session, flows));
    }
}
