//! Label selectors of the API into ours (apimachinery `LabelSelectorAsSelector` with its validation).

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector as ApiSelector;
use network::{Few, LabelSelector, Operator, Requirement};

use crate::problem::RuleFault;
use crate::syntax::{is_label_key, is_label_value};

/// The selector, or the path inside it and what is wrong there.
pub(crate) fn selector(api: &ApiSelector) -> Result<LabelSelector, (String, RuleFault)> {
    let mut requirements = Vec::new();
    for (key, value) in api.match_labels.iter().flatten() {
        let at = |fault| (format!("matchLabels.{key}"), fault);
        check_key(key).map_err(at)?;
        check_value(value).map_err(at)?;
        let values = [value.clone()].into();
        requirements.push(Requirement { key: key.clone(), operator: Operator::In, values });
    }
    for (index, expression) in api.match_expressions.iter().flatten().enumerate() {
        let at = |field: &str, fault| (format!("matchExpressions[{index}].{field}"), fault);
        let values: Few<String> = expression.values.iter().flatten().cloned().collect();
        let name = expression.operator.clone();
        let operator = match name.as_str() {
            "In" => Operator::In,
            "NotIn" => Operator::NotIn,
            "Exists" => Operator::Exists,
            "DoesNotExist" => Operator::DoesNotExist,
            _ => return Err(at("operator", RuleFault::Operator(name))),
        };
        match operator {
            Operator::In | Operator::NotIn if values.is_empty() => {
                return Err(at("values", RuleFault::NoValues(name)));
            }
            Operator::Exists | Operator::DoesNotExist if !values.is_empty() => {
                return Err(at("values", RuleFault::Values(name)));
            }
            _ => {}
        }
        check_key(&expression.key).map_err(|fault| at("key", fault))?;
        for value in &values {
            check_value(value).map_err(|fault| at("values", fault))?;
        }
        requirements.push(Requirement { key: expression.key.clone(), operator, values });
    }
    Ok(LabelSelector::new(requirements))
}

fn check_key(key: &str) -> Result<(), RuleFault> {
    if is_label_key(key) { Ok(()) } else { Err(RuleFault::Key(key.to_owned())) }
}

fn check_value(value: &str) -> Result<(), RuleFault> {
    if is_label_value(value) { Ok(()) } else { Err(RuleFault::Value(value.to_owned())) }
}
