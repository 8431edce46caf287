//! What the switch should hold, what to send to make it so, and what its answers mean.

use std::sync::Arc;

use compiler::{Owner, PortRef, Program};
use openflow::PortNo;

use super::{Applying, Compiled, Confirmed, Node, Switch};
use crate::attachment::Attachment;
use crate::event::AttachmentIds;
use crate::plan::Plan;

impl Node {
    pub(super) fn switch_confirmed(&mut self) {
        if let Switch::Here { shadow, applying, problem, .. } = &mut self.switch
            && let Some(applying) = applying.take()
        {
            *problem = None;
            applying.confirmation.apply(shadow);
            self.confirmed = applying.promise;
        }
    }

    /// The whole bundle was discarded. What made the bad flow is left out from now on, the rest is sent again.
    pub(super) fn switch_refused(&mut self, index: usize, error: &str) {
        let Switch::Here { applying, problem, .. } = &mut self.switch else { return };
        let Some(applying) = applying.take() else { return };
        let reason =
            applying.confirmation.cookie(index).and_then(|cookie| self.compiled.reasons.get(&cookie));
        let what = reason.map_or("the deletion of a flow", |reason| &reason.what);
        let text = format!("the switch refused a flow ({what}): {error}");
        let before = (self.rejected.policies.len(), self.rejected.interfaces.len());
        for owner in reason.into_iter().flat_map(|reason| &reason.owners) {
            match owner {
                Owner::Rule { policy, .. } | Owner::Isolation { policy, .. } => {
                    self.rejected.policies.insert(policy.clone(), text.clone());
                }
                Owner::Pod(name) => {
                    let interfaces = self
                        .attachments
                        .values()
                        .filter(|plugged| plugged.attachment.pod_name().as_ref() == Some(name))
                        .map(|plugged| (plugged.attachment.host_interface.clone(), text.clone()));
                    self.rejected.interfaces.extend(interfaces);
                }
                Owner::Attachment(interface) => {
                    self.rejected.interfaces.insert(interface.clone(), text.clone());
                }
                Owner::Pipeline | Owner::Node(_) => {}
            }
        }
        if before == (self.rejected.policies.len(), self.rejected.interfaces.len()) {
            // Nobody to leave out: wait, or the same would be refused at once.
            *problem = Some(text);
            self.work.retry = true;
        }
        self.generation += 1;
    }

    /// Compiles when something changed; plans when the switch is free.
    pub(super) fn reconcile(&mut self) {
        let free = matches!(&self.switch, Switch::Here { applying: None, problem: None, .. });
        // Before the database was read no port has a number: a plan made then would take every pod's flows away.
        let due = free && self.database.is_some() && self.confirmed.generation != self.generation;
        if self.compiled.generation == self.generation && !due {
            return;
        }
        let program = self.compile();
        self.note(&program);
        if due {
            self.plan(&program);
        }
    }

    pub(super) fn compile(&mut self) -> Program {
        let mut view = Arc::clone(&self.view);
        if !view.nodes.contains_key(&self.config.node) {
            Arc::make_mut(&mut view).nodes.insert(self.config.node.clone(), self.described.clone());
        }
        if view.policies.keys().any(|id| self.rejected.policies.contains_key(id)) {
            // Without its rules a policy still isolates: what cannot be realized denies.
            let policies = &mut Arc::make_mut(&mut view).policies;
            for (_, policy) in policies.iter_mut().filter(|(id, _)| self.rejected.policies.contains_key(id)) {
                policy.rules.clear();
            }
        }
        let ports: Vec<_> = self
            .attachments
            .values()
            .map(|plugged| &plugged.attachment)
            .filter(|attachment| !self.rejected.interfaces.contains_key(&attachment.host_interface))
            .map(|attachment| attachment.local_port(self.known_uid(attachment)))
            .collect();
        compiler::compile(&view, &self.config, &ports)
    }

    pub(super) fn note(&mut self, program: &Program) {
        let ranges = self.own().pod_cidrs.clone();
        let rows = if *self.compiled.rows == program.switch && self.compiled.generation != 0 {
            Arc::clone(&self.compiled.rows)
        } else {
            let rows = Arc::new(program.switch.clone());
            self.work.rows = Some(Arc::clone(&rows));
            rows
        };
        let host = if *self.compiled.host == program.host && self.compiled.generation != 0 {
            Arc::clone(&self.compiled.host)
        } else {
            let host = Arc::new(program.host.clone());
            self.work.host = Some(Arc::clone(&host));
            host
        };
        let reasons = if *self.compiled.reasons == program.reasons {
            Arc::clone(&self.compiled.reasons)
        } else {
            Arc::new(program.reasons.clone())
        };
        self.work.ranges = Some(ranges);
        let refused = program.refused.clone();
        self.compiled = Compiled { generation: self.generation, rows, host, reasons, refused };
    }

    pub(super) fn plan(&mut self, program: &Program) {
        let resolve = |port: &PortRef| self.port_number(port);
        let unbound = program.port_refs().into_iter().filter(|port| resolve(port).is_none()).count();
        let promise = Confirmed {
            generation: self.generation,
            watermark: self.watermark.clone(),
            served: self.servable(),
            unbound,
        };
        let Switch::Here { shadow, .. } = &self.switch else { return };
        let plan = Plan::difference(shadow, program.bind(resolve));
        if plan.is_empty() {
            self.confirmed = promise;
            return;
        }
        self.flow_mods_sent += plan.len() as u64;
        for change in plan.changes() {
            tracing::trace!(flow = ?change.message, "differs");
        }
        let (messages, confirmation) = plan.split();
        if let Switch::Here { session, applying, .. } = &mut self.switch {
            *applying = Some(Applying { confirmation, promise });
            self.work.flows = Some((*session, messages));
        }
    }

    pub(super) fn port_number(&self, port: &PortRef) -> Option<PortNo> {
        let name = match port {
            PortRef::Interface(name) => name,
            PortRef::Gateway => &self.config.gateway,
            PortRef::Tunnel => &self.config.tunnel,
        };
        self.database.as_ref()?.ports.get(name)?.ofport.map(PortNo)
    }

    /// The attachments that a program made now serves in full: the port has a number, and the view carries the pod.
    pub(super) fn servable(&self) -> AttachmentIds {
        let served = |attachment: &Attachment| {
            let port = PortRef::Interface(attachment.host_interface.clone());
            let known = match &attachment.pod {
                None => true,
                Some(pod) => {
                    self.known_uid(attachment).is_some_and(|uid| pod.uid.is_empty() || uid == pod.uid)
                }
            };
            known
                && self.port_number(&port).is_some()
                && !self.rejected.interfaces.contains_key(&attachment.host_interface)
        };
        self.attachments.iter().filter(|(_, p)| served(&p.attachment)).map(|(id, _)| id.clone()).collect()
    }

    /// Once no flow speaks of an address any more, its connections can be forgotten: nothing makes new ones.
    pub(super) fn forget(&mut self) {
        let Switch::Here { session, .. } = &self.switch else { return };
        let reached = self.confirmed.generation;
        let (due, later): (Vec<_>, Vec<_>) = std::mem::take(&mut self.departed)
            .into_iter()
            .partition(|(generation, _)| *generation <= reached);
        self.departed = later;
        if !due.is_empty() {
            self.work.forget =
                Some((*session, due.into_iter().flat_map(|(_, addresses)| addresses).collect()));
        }
    }
}
