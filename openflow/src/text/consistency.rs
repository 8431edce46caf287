//! Do a flow's actions fit its match? A switch refuses `dec_ttl` of what is no IP packet; so does the parser. It changes
//! nothing.

use super::lex::{ParseError, Result};
use crate::action::{Action, Ct, Learn, LearnDst, LearnSrc};
use crate::flow::FlowMod;
use crate::flow_match::Match;
use crate::instruction::Instruction;
use crate::number::PortNo;
use crate::oxm::{Field, Oxm, Prerequisite};

/// What the packet is at some point of the list.
#[derive(Clone)]
struct Packet {
    match_: Match,
    /// An encapsulation was put on or taken off: the rest is anyone's guess.
    changed: bool,
    vlan: bool,
}

pub(super) fn check(flow: &FlowMod) -> Result<()> {
    let vlan = flow.match_.satisfies(Prerequisite::VlanVid);
    let mut packet = Packet { match_: flow.match_.clone(), changed: false, vlan };
    for instruction in &flow.instructions {
        match instruction {
            Instruction::ApplyActions(actions) | Instruction::WriteActions(actions) => {
                packet.check(actions)?
            }
            Instruction::GotoTable(table) if *table <= flow.table && flow.table.0 != 0xff => {
                return Err(ParseError::new(
                    instruction.to_string(),
                    "actions are invalid with specified match (OFPBIC_BAD_TABLE_ID): goto_table goes forward only",
                ));
            }
            _ => {}
        }
    }
    Ok(())
}

impl Packet {
    fn check(&mut self, actions: &[Action]) -> Result<()> {
        for action in actions {
            if !self.allows(action) {
                return Err(ParseError::new(
                    action.to_string(),
                    "actions are invalid with specified match (OFPBAC_MATCH_INCONSISTENT)",
                ));
            }
            match action {
                Action::PushVlan(_) => self.vlan = true,
                Action::PopVlan => self.vlan = false,
                Action::PushMpls(_) | Action::PopMpls(_) | Action::Experimenter { .. } => self.changed = true,
                Action::Clone(actions) => self.clone().check(actions)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn allows(&self, action: &Action) -> bool {
        match action {
            Action::DecNwTtl | Action::DecTtlCntIds(_) | Action::SetNwTtl(_) => self.is(Prerequisite::Ip),
            Action::FinTimeout { .. } => self.is(Prerequisite::Tcp),
            Action::SetMplsTtl(_) | Action::DecMplsTtl | Action::PopMpls(_) => self.is(Prerequisite::Mpls),
            Action::SetField(oxm) | Action::RegLoad2(oxm) => self.has(oxm.field()),
            Action::RegLoad { dst, .. } => self.has(dst.field),
            Action::RegMove { src, dst } => self.has(src.field) && self.has(dst.field),
            Action::StackPush(place) | Action::StackPop(place) => self.has(place.field),
            Action::OutputReg { src, .. } => self.has(src.field),
            Action::Resubmit { ct: true, .. } => self.is(Prerequisite::Tracked),
            Action::PopVlan => self.vlan || self.changed,
            Action::Output { port, .. } => {
                port.0 < PortNo::MAX.0
                    || port.reserved_name().is_some() && !matches!(*port, PortNo::ANY | PortNo::UNSET)
            }
            Action::Learn(learn) => self.can_learn(learn),
            Action::Ct(ct) => self.is(Prerequisite::Ip) && self.nat_fits(ct),
            _ => true,
        }
    }

    fn is(&self, prerequisite: Prerequisite) -> bool {
        self.changed || self.match_.satisfies(prerequisite)
    }

    fn has(&self, field: Field) -> bool {
        match field.spec().map(|spec| spec.prerequisite) {
            None => true,
            Some(Prerequisite::VlanVid) => self.vlan,
            // The VLAN id can only be changed where there is a VLAN.
            Some(Prerequisite::Ethernet) if field == Field::VLAN_VID => self.vlan,
            Some(prerequisite) => self.is(prerequisite),
        }
    }

    /// What is learned must be a match in itself; what it is learned from must be there.
    fn can_learn(&self, learn: &Learn) -> bool {
        let mut learned = Match::new();
        for spec in &learn.specs {
            if let LearnSrc::Field(src) = &spec.src
                && !self.has(src.field)
            {
                return false;
            }
            let (LearnDst::Match(dst) | LearnDst::Load(dst)) = spec.dst else { continue };
            let prerequisite = dst.field.spec().map(|spec| spec.prerequisite);
            if prerequisite.is_some_and(|prerequisite| !learned.satisfies(prerequisite)) {
                return false;
            }
            if let (LearnSrc::Immediate(bytes), LearnDst::Match(_)) = (&spec.src, &spec.dst)
                && dst.n_bits == dst.field.width_bits()
            {
                let value = bytes.iter().fold(0u128, |number, byte| number << 8 | u128::from(*byte));
                if let Ok(oxm) = Oxm::exact(dst.field, value) {
                    learned.set(oxm);
                }
            }
        }
        true
    }

    fn nat_fits(&self, ct: &Ct) -> bool {
        let Some(nat) = &ct.nat else { return true };
        let (v4, v6) = (nat.range.ipv4_min.is_some(), nat.range.ipv6_min.is_some());
        (!v4 || self.is(Prerequisite::Ipv4)) && (!v6 || self.is(Prerequisite::Ipv6))
    }
}
