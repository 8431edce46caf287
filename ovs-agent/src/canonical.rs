//! One spelling for what the switch spells in several ways, so that what was sent and what is read back compare equal
//! exactly when they do the same. It must not know what flows are for.
//!
//! Open vSwitch 3.1 reads every code point of a field and answers with the one that it prefers (Nicira's, in operands),
//! and pads notes.

use bytes::Bytes;
use openflow::action::CtExec;
use openflow::{Action, Ct, CtZone, Instruction, LearnDst, LearnSrc, Subfield};

/// The instructions in their one spelling, in the order in which they take effect.
pub fn instructions(instructions: &[Instruction]) -> Vec<Instruction> {
    let one = |instruction: &Instruction| match instruction {
        // An empty list is no list.
        Instruction::ApplyActions(list) | Instruction::WriteActions(list) if list.is_empty() => None,
        Instruction::ApplyActions(list) => Some(Instruction::ApplyActions(actions(list))),
        Instruction::WriteActions(list) => Some(Instruction::WriteActions(actions(list))),
        other => Some(other.clone()),
    };
    instructions.iter().filter_map(one).collect()
}

fn actions(list: &[Action]) -> Vec<Action> {
    list.iter().map(action).collect()
}

fn action(action: &Action) -> Action {
    match action.clone() {
        Action::RegMove { src, dst } | Action::CopyField { src, dst } => {
            Action::RegMove { src: operand(src), dst: operand(dst) }
        }
        Action::RegLoad { dst, value } => Action::RegLoad { dst: operand(dst), value },
        Action::OutputReg { src, max_len } => Action::OutputReg { src: operand(src), max_len },
        Action::StackPush(subfield) => Action::StackPush(operand(subfield)),
        Action::StackPop(subfield) => Action::StackPop(operand(subfield)),
        Action::CheckPktLarger { length, dst } => Action::CheckPktLarger { length, dst: operand(dst) },
        Action::Multipath(mut multipath) => {
            multipath.dst = operand(multipath.dst);
            Action::Multipath(multipath)
        }
        Action::Ct(ct) => Action::Ct(Box::new(tracking(*ct))),
        Action::Learn(mut learn) => {
            learn.result = learn.result.map(operand);
            for spec in &mut learn.specs {
                if let LearnSrc::Field(subfield) = &mut spec.src {
                    *subfield = operand(*subfield);
                }
                if let LearnDst::Match(subfield) | LearnDst::Load(subfield) = &mut spec.dst {
                    *subfield = operand(*subfield);
                }
            }
            Action::Learn(learn)
        }
        Action::Note(bytes) => Action::Note(padded(&bytes)),
        Action::Clone(list) => Action::Clone(actions(&list)),
        other => other,
    }
}

fn tracking(mut ct: Ct) -> Ct {
    if let CtZone::Field(subfield) = &mut ct.zone {
        *subfield = operand(*subfield);
    }
    for exec in &mut ct.exec {
        if let CtExec::RegLoad { dst, .. } = exec {
            *dst = operand(*dst);
        }
        if let CtExec::RegMove { src, dst } = exec {
            (*src, *dst) = (operand(*src), operand(*dst));
        }
    }
    ct
}

fn operand(subfield: Subfield) -> Subfield {
    Subfield { field: subfield.field.preferred(), ..subfield }
}

/// `NXAST_NOTE` is 6 + 8n bytes of note behind its header (nicira-ext.h, `struct nx_action_note`).
fn padded(note: &Bytes) -> Bytes {
    let length = note.len().saturating_sub(6).next_multiple_of(8) + 6;
    let mut padded = note.to_vec();
    padded.resize(length, 0);
    padded.into()
}

#[cfg(test)]
mod tests {
    use openflow::oxm::class;
    use openflow::{Field, TableId};

    use super::*;

    #[test]
    fn the_code_point_of_an_operand_does_not_matter() {
        let nicira = Field::from_raw(class::NXM_OF.0, 2, 0);
        assert_ne!(nicira, Field::ETH_SRC);
        let copy = |src| {
            vec![Instruction::ApplyActions(vec![Action::RegMove {
                src: Subfield { field: src, start_bit: 0, n_bits: 48 },
                dst: Subfield::all(Field::ETH_DST),
            }])]
        };
        assert_eq!(instructions(&copy(nicira)), instructions(&copy(Field::ETH_SRC)));
        assert_ne!(instructions(&copy(nicira)), instructions(&copy(Field::ETH_DST)));
    }

    #[test]
    fn notes_are_padded_and_empty_lists_are_none() {
        let note = |bytes: &'static [u8]| Action::Note(Bytes::from_static(bytes));
        assert_eq!(action(&note(b"a")), note(b"a\0\0\0\0\0"));
        assert_eq!(action(&note(b"1234567")), action(&note(b"1234567\0\0\0\0\0\0\0")));
        let goto = Instruction::GotoTable(TableId(1));
        assert_eq!(instructions(&[Instruction::ApplyActions(Vec::new()), goto.clone()]), [goto]);
    }
}
