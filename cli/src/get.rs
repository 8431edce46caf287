//! `ferrule get`: asks a controller or an agent and prints the answer.

use std::io::Write;
use std::path::Path;

use api::insight::{
    DropItem, FlowItem, Item, List, NodeItem, PodItem, PolicyItem, PortItem, ProblemItem, ServiceItem,
    SwitchItem, TunnelItem,
};
use lab::http::Endpoint;
use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::arguments::{ControllerArguments, EndpointArguments, Format, Get, Resource};
use crate::fail::{Fail, Outcome};
use crate::paint::Paint;
use crate::resource::{self, Row};
use crate::{cost, flows, table};

/// Where a controller listens when it is installed.
const INSTALLED: &str = "/run/ferrule/controller.sock";

pub fn run(get: &Get) -> Result<Outcome, Fail> {
    check(get)?;
    match get.resource {
        Resource::Nodes => show::<NodeItem>(get, "nodes"),
        Resource::Switches => show::<SwitchItem>(get, "switches"),
        Resource::Ports => show::<PortItem>(get, "ports"),
        Resource::Pods => show::<PodItem>(get, "pods"),
        Resource::Policies if get.cost => cost::run(get),
        Resource::Policies => {
            let list: List<PolicyItem> = ask(get, "policies")?;
            print(get, &list, |list| policies(list, get.output == Format::Wide))
        }
        Resource::Tunnels => show::<TunnelItem>(get, "tunnels"),
        Resource::Services => {
            let list: List<ServiceItem> = ask(get, "services")?;
            print(get, &list, |list| services(list, get.output == Format::Wide))
        }
        Resource::Drops => show::<DropItem>(get, "drops"),
        Resource::Problems => show::<ProblemItem>(get, "problems"),
        Resource::Flows => {
            let list: List<FlowItem> = ask(get, "flows")?;
            print(get, &list, |list| flows::render(list, get.output == Format::Wide, Paint::stdout()))
        }
    }
}

/// Options that a resource does not know would be ignored silently: say so instead.
fn check(get: &Get) -> Result<(), Fail> {
    use Resource::{Drops, Flows, Nodes, Pods, Policies, Problems, Services};
    let unfit: &[(&str, bool, bool)] = &[
        ("--node", get.node.is_some(), !matches!(get.resource, Nodes | Problems)),
        ("--namespace", get.namespace.is_some(), matches!(get.resource, Pods | Policies | Services)),
        ("--pod", get.pod.is_some(), matches!(get.resource, Flows | Drops)),
        ("--policy", get.policy.is_some(), get.resource == Flows || get.cost),
        ("--service", get.service.is_some(), matches!(get.resource, Flows | Services)),
        ("--cost", get.cost, get.resource == Policies),
        ("--table", get.table.is_some(), get.resource == Flows),
    ];
    match unfit.iter().find(|(_, given, known)| *given && !known) {
        Some((option, ..)) => {
            let name = format!("{:?}", get.resource).to_lowercase();
            Err(Fail::Said(format!("{option} does not apply to {name}: see `ferrule get --help`")))
        }
        None => Ok(()),
    }
}

fn show<T: Item + Row + Serialize + DeserializeOwned>(get: &Get, resource: &str) -> Result<Outcome, Fail> {
    let list: List<T> = ask(get, resource)?;
    let wide = get.output == Format::Wide;
    print(get, &list, |list| text(list, resource, wide))
}

fn text<T: Row>(list: &List<T>, resource: &str, wide: bool) -> String {
    if list.items.is_empty() {
        return format!("no {resource} found\n");
    }
    let rows = list.items.iter().map(|item| item.cells(wide)).collect();
    table::columns(&T::headings(wide), rows) + "\n"
}

/// The policies, and below them what each of their rules met.
fn policies(list: &List<PolicyItem>, wide: bool) -> String {
    let rules = list.items.iter().flat_map(|policy| policy.rules.iter().map(move |rule| (policy, rule)));
    let rows = rules.map(|(policy, rule)| resource::rule(policy, rule)).collect();
    text(list, "policies", wide) + &below(&resource::RULE_HEADINGS, rows)
}

/// The Services, and below them what they go without and who serves each of their ports.
fn services(list: &List<ServiceItem>, wide: bool) -> String {
    let lost = list.items.iter().flat_map(resource::lost).collect();
    let endpoints = list.items.iter().flat_map(resource::endpoints).collect();
    text(list, "services", wide)
        + &below(&resource::LOST_HEADINGS, lost)
        + &below(&resource::ENDPOINT_HEADINGS, endpoints)
}

/// Another table below one, where it says something.
fn below(headings: &[&str], rows: Vec<Vec<String>>) -> String {
    if rows.is_empty() { String::new() } else { format!("\n{}\n", table::columns(headings, rows)) }
}

pub fn ask<T: DeserializeOwned>(get: &Get, resource: &str) -> Result<List<T>, Fail> {
    let query: Vec<(&str, &str)> = [
        ("node", &get.node),
        // An agent that is asked for costs knows no namespaces.
        ("namespace", if get.cost { &None } else { &get.namespace }),
        ("pod", &get.pod),
        ("policy", &get.policy),
        ("service", &get.service),
        ("table", &get.table),
    ]
    .into_iter()
    .filter_map(|(key, value)| Some((key, value.as_deref()?)))
    // What rules count is asked of the agents; a node's own agent has no policies but rules.
    .chain((resource == "policies").then_some(("rules", "true")))
    .collect();
    let endpoint = endpoint(&get.endpoint);
    Ok(endpoint.list(resource, &query)?)
}

/// Whom to ask: who was named, else the lab's controller when a lab is up, else the installed one.
pub fn endpoint(arguments: &EndpointArguments) -> Endpoint {
    if let Some(bundle) = &arguments.bundle {
        return Endpoint::Bundle(bundle.clone());
    }
    arguments.agent.clone().unwrap_or_else(|| controller(&arguments.at))
}

/// The same where only a controller can be asked.
pub fn controller(arguments: &ControllerArguments) -> Endpoint {
    if let Some(named) = &arguments.controller {
        return named.clone();
    }
    let state = std::env::var_os("FERRULE_LAB_STATE");
    let state = state.as_deref().map_or(Path::new(lab::layout::DEFAULT_STATE), Path::new);
    let lab = lab::Layout::new(state).map(|layout| layout.controller_socket()).ok();
    Endpoint::Unix(lab.filter(|socket| socket.exists()).unwrap_or_else(|| INSTALLED.into()))
}

pub fn print<T: Serialize>(
    get: &Get,
    list: &List<T>,
    people: impl FnOnce(&List<T>) -> String,
) -> Result<Outcome, Fail> {
    let text = match get.output {
        Format::Table | Format::Wide => people(list),
        Format::Json => json(list)?,
        Format::Yaml => serde_saphyr::to_string(list).map_err(|error| error.to_string())?,
    };
    std::io::stdout().write_all(text.as_bytes())?;
    if matches!(get.output, Format::Table | Format::Wide) {
        let paint = Paint::stderr();
        for warning in &list.warnings {
            eprintln!("{} {warning}", paint.warning("warning:"));
        }
    }
    // An answer that lacks a part is not what was asked for.
    Ok(if list.warnings.is_empty() { Outcome::Expected } else { Outcome::Failed })
}

/// Indented JSON with a line's end.
pub fn json<T: Serialize>(value: &T) -> Result<String, Fail> {
    serde_json::to_string_pretty(value).map(|text| text + "\n").map_err(|error| Fail::Said(error.to_string()))
}
