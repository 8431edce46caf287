//! Services and the EndpointSlices that name them: a change of either makes its Service anew.

use std::collections::{BTreeMap, BTreeSet};

use k8s_openapi::api::core::v1 as core;
use k8s_openapi::api::discovery::v1::EndpointSlice;
use network::{NamespacedName, Service};

use crate::problem::Problem;
use crate::translate::contested;
use crate::translate::service::{self, owner};

/// The Services of an API server.
#[derive(Debug, Default)]
pub(crate) struct Services {
    objects: BTreeMap<NamespacedName, core::Service>,
    slices: BTreeMap<NamespacedName, EndpointSlice>,
    /// The slices of a Service, whether or not that is there.
    slices_of: BTreeMap<NamespacedName, BTreeSet<NamespacedName>>,
    /// As they were told.
    services: BTreeMap<NamespacedName, Service>,
    dirty: BTreeSet<NamespacedName>,
    /// A Service claims something else than before, or is of another age.
    stale_claims: bool,
    /// Frontends that several claim.
    contested: Vec<Problem>,
}

impl Services {
    pub(crate) fn upsert(&mut self, key: NamespacedName, object: core::Service) {
        if self.objects.get(&key) != Some(&object) {
            self.dirty.insert(key.clone());
            self.objects.insert(key, object);
        }
    }

    pub(crate) fn upsert_slice(&mut self, key: NamespacedName, slice: EndpointSlice) {
        if self.slices.get(&key) == Some(&slice) {
            return;
        }
        self.remove_slice(&key);
        if let Some(owner) = owner(&key, &slice) {
            self.slices_of.entry(owner.clone()).or_default().insert(key.clone());
            self.dirty.insert(owner);
        }
        self.slices.insert(key, slice);
    }

    pub(crate) fn remove(&mut self, key: &NamespacedName) {
        if self.objects.remove(key).is_some() {
            self.dirty.insert(key.clone());
        }
    }

    pub(crate) fn remove_slice(&mut self, key: &NamespacedName) {
        let Some(owner) = self.slices.remove(key).and_then(|slice| owner(key, &slice)) else { return };
        if let Some(slices) = self.slices_of.get_mut(&owner) {
            slices.remove(key);
            if slices.is_empty() {
                self.slices_of.remove(&owner);
            }
        }
        self.dirty.insert(owner);
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &NamespacedName> {
        self.objects.keys()
    }

    pub(crate) fn slices(&self) -> impl Iterator<Item = &NamespacedName> {
        self.slices.keys()
    }

    /// The Services that are different, and what is wrong with each.
    pub(crate) fn take(&mut self) -> Vec<(NamespacedName, Option<Service>, Vec<Problem>)> {
        let mut changed = Vec::new();
        for key in std::mem::take(&mut self.dirty) {
            let (service, problems) = self.translated(&key);
            self.stale_claims |= !same_claims(self.services.get(&key), service.as_ref());
            match &service {
                Some(service) => drop(self.services.insert(key.clone(), service.clone())),
                None => drop(self.services.remove(&key)),
            }
            changed.push((key, service, problems));
        }
        changed
    }

    /// Frontends that several claim.
    pub(crate) fn contested(&self) -> &[Problem] {
        &self.contested
    }

    /// Looks again who claims what, where that may be different; whether it is. Endpoints that come and go claim nothing.
    pub(crate) fn contest(&mut self) -> bool {
        if !std::mem::take(&mut self.stale_claims) {
            return false;
        }
        let contested = contested(self.services.values());
        let changed = contested != self.contested;
        self.contested = contested;
        changed
    }

    fn translated(&self, key: &NamespacedName) -> (Option<Service>, Vec<Problem>) {
        let Some(object) = self.objects.get(key) else { return (None, Vec::new()) };
        let slices = self.slices_of.get(key).into_iter().flatten();
        let slices: Vec<&EndpointSlice> = slices.filter_map(|slice| self.slices.get(slice)).collect();
        service::service(object, &slices, None)
    }
}

fn same_claims(old: Option<&Service>, new: Option<&Service>) -> bool {
    let created = |service: Option<&Service>| service.and_then(|service| service.created);
    let claims =
        |service: Option<&'_ Service>| -> Vec<_> { service.iter().flat_map(|s| s.claims()).collect() };
    created(old) == created(new) && claims(old) == claims(new)
}
