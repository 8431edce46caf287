//! A plan as people read it. Knows how many names are readable, and no networks.

use std::collections::BTreeMap;
use std::fmt::Write;

use network::difference::services::{Reach, ServiceChange};
use network::difference::{Group, Relation, Who};
use network::matrix::Entry;

use super::document::{Cause, Change, Cost, Members, Plan, members};
use super::expect::Expectation;
use super::note::Note;
use crate::paint::Paint;
use crate::table::{columns, list};

/// Names of one group in a line.
const NAMES: usize = 6;

/// How many pods every namespace has, to tell that a group is all of one.
pub type Census = BTreeMap<String, usize>;

pub fn render(plan: &Plan, census: &Census, paint: Paint) -> String {
    let mut out = String::new();
    let mut section = |title: String, changes: &[Change], allowed: bool| {
        if !changes.is_empty() {
            let _ = writeln!(out, "{title}");
            changes.iter().for_each(|it| change(&mut out, it, allowed, census, paint));
            out.push('\n');
        }
    };
    section(paint.bold("NEWLY ALLOWED"), &plan.newly_allowed, true);
    let cut = paint.warning("established connections of these are cut");
    section(format!("{}  {cut}", paint.bold("NEWLY DENIED")), &plan.newly_denied, false);
    if !plan.vanished.is_empty() {
        let _ = writeln!(out, "{}\n  {}\n", paint.bold("PODS THAT GO"), some(plan.vanished.clone()));
    }
    if !plan.appeared.is_empty() {
        let _ = writeln!(out, "{}\n  {}", paint.bold("NEW PODS"), some(plan.appeared.clone()));
        let all = match plan.new_pods.is_empty() {
            true => "nothing passes to or from them",
            false => "this passes to and from them, and nothing else:",
        };
        let _ = writeln!(out, "  {}", paint.dim(all));
        plan.new_pods.iter().for_each(|it| change(&mut out, it, true, census, paint));
        out.push('\n');
    }
    if !plan.services.is_empty() {
        let _ = writeln!(out, "{}", paint.bold("SERVICES"));
        plan.services.iter().for_each(|it| service(&mut out, it, census, paint));
        out.push('\n');
    }
    if plan.is_empty() {
        out.push_str("Nothing changes in who reaches whom.\n\n");
    }
    if !plan.warnings.is_empty() {
        let _ = writeln!(out, "{}", paint.bold("WARNINGS"));
        plan.warnings.iter().for_each(|it| note(&mut out, it, paint));
        out.push('\n');
    }
    if !plan.assumed.is_empty() {
        let _ = writeln!(out, "{}", paint.bold("TAKEN FOR GRANTED"));
        for it in &plan.assumed {
            let _ = writeln!(out, "  {}: {}", paint.name(&it.object), it.text);
        }
        out.push('\n');
    }
    if !plan.skipped.is_empty() {
        let kinds = plan.skipped.iter().map(|(kind, count)| format!("{count} {kind}")).collect();
        let _ = writeln!(
            out,
            "{}\n",
            paint.dim(format!("Not looked at, as no part of the network: {}", some(kinds)))
        );
    }
    match &plan.costs {
        None => out.push_str("Flows are not counted in passing for a network of this size: say --costs.\n\n"),
        Some(costs) if costs.is_empty() => {}
        Some(costs) => {
            let row = |cost: &Cost| {
                let numbers = [cost.before, cost.after, cost.budget].map(|number| number.to_string());
                let refused = list(&cost.refused);
                std::iter::once(cost.node.clone()).chain(numbers).chain([refused]).collect()
            };
            let headings = ["NODE", "FLOWS BEFORE", "AFTER", "BUDGET", "REFUSED"];
            let _ = writeln!(out, "{}\n", columns(&headings, costs.iter().map(row).collect()));
        }
    }
    if let Some(expectations) = &plan.expectations {
        let _ = writeln!(out, "{}", paint.bold("EXPECTATIONS"));
        expectations.iter().for_each(|it| expectation(&mut out, it, paint));
        out.push('\n');
    }
    out.pop();
    out
}

fn change(out: &mut String, change: &Change, allowed: bool, census: &Census, paint: Paint) {
    let node = |members: &Members| {
        let has = matches!(members.group.listed.first(), Some(Who::Node { .. })) && !members.all_but;
        match change.relation {
            Relation::OwnNode if has => "the pod's own node".to_owned(),
            Relation::OtherNodes if has => {
                format!("nodes that are not the pod's own, of {}", summary(members, census))
            }
            _ => summary(members, census),
        }
    };
    let family = match change.families.as_slice() {
        [one] if *one == "IPv6" => "  (IPv6)",
        _ => "",
    };
    let ports = if allowed { paint.good(&change.ports.text) } else { paint.error(&change.ports.text) };
    let (from, to) = (paint.name(node(&change.from)), paint.name(node(&change.to)));
    let _ = writeln!(out, "  {from} → {to}  {ports}{family}");
    let (was, is) = if allowed { ("kept out", "let pass") } else { ("let pass", "kept out") };
    if change.is_of_new_pods {
        let _ = writeln!(out, "      {is} by {}", causes(&change.after, false));
        return;
    }
    let _ = writeln!(out, "      {} {was} by {}", paint.dim("before:"), causes(&change.before, allowed));
    let _ = writeln!(out, "      {} {is} by {}", paint.dim("after: "), causes(&change.after, !allowed));
}

fn service(out: &mut String, change: &ServiceChange, census: &Census, paint: Paint) {
    let _ = writeln!(out, "  {}", paint.name(&change.service));
    let mut line = |what: &str, names: &[String]| {
        if !names.is_empty() {
            let _ = writeln!(out, "      {what} {}", some(names.to_vec()));
        }
    };
    line("answers now at", &change.frontends.gained);
    line("answers no more at", &change.frontends.lost);
    line("says something else in", &change.settings.iter().map(ToString::to_string).collect::<Vec<_>>());
    for port in &change.ports {
        for it in &port.endpoints {
            let names = it.nodes.iter().map(ToString::to_string).collect();
            let nodes = if it.is_every_node { "every node".to_owned() } else { some(names) };
            let whom = match it.clients.as_slice() {
                ["outside"] => ", for clients outside",
                ["cluster"] => ", for clients in the cluster",
                _ => "",
            };
            let place = format!("{} on {nodes}{whom}:", port.port);
            line(&format!("{place} gains"), &it.endpoints.gained);
            line(&format!("{place} loses"), &it.endpoints.lost);
        }
        for it in &port.clients {
            let (was, is) = (reach(it.before), reach(it.after));
            let is = if it.after > it.before { paint.good(is) } else { paint.error(is) };
            let words = format!("{}: before, {was}; after, {is}", clients(&it.listed, census));
            line(&format!("{} from", port.port), &[words]);
        }
    }
}

fn reach(reach: Reach) -> &'static str {
    match reach {
        Reach::NotServed => "nobody answers",
        Reach::Blocked => "no endpoint is reached",
        Reach::Partly => "some endpoints are reached and some are not",
        Reach::Passes => "every endpoint is reached",
    }
}

fn clients(listed: &[Entry], census: &Census) -> String {
    let who = |entry: &Entry| match entry {
        Entry::Pod(key) => Some(Who::Pod(key.clone())),
        Entry::Node(name) => Some(Who::Node { name: name.clone(), gateway: false }),
        Entry::Service(_) | Entry::Outside => None,
    };
    let named: Vec<Who> = listed.iter().filter_map(who).collect();
    let group = Group { all_but: false, count: named.len(), listed: named };
    let named = (group.count > 0).then(|| summary(&members(&group), census));
    let outside = listed.contains(&Entry::Outside).then(|| "outside".to_owned());
    named.into_iter().chain(outside).collect::<Vec<_>>().join(", ")
}

fn note(out: &mut String, note: &Note, paint: Paint) {
    let words = [note.policy.as_deref(), note.rule.as_deref()].into_iter().flatten();
    let place = note.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
    let subject: Vec<&str> = words.collect();
    let subject = if subject.is_empty() { String::new() } else { format!("{}{place}: ", subject.join(" ")) };
    let _ = writeln!(out, "  {} {subject}{}", paint.warning("!"), note.text);
}

/// Those who decide; a pass needs none.
fn causes(causes: &[Cause], denies: bool) -> String {
    let one = |cause: &Cause| {
        let place = cause.source.as_ref().map(|source| format!(" ({source})")).unwrap_or_default();
        format!("{} {}{place}", cause.policy, cause.rule)
    };
    match causes {
        [] if denies => "what is not known".to_owned(),
        [] => "default: no policy says anything".to_owned(),
        causes => some(causes.iter().map(one).collect()),
    }
}

/// Who is in a group, in few words.
pub fn summary(members: &Members, census: &Census) -> String {
    let listed = &members.group.listed;
    let mut by_namespace: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
    let mut words = Vec::new();
    for who in listed {
        match who {
            Who::Pod(key) => by_namespace.entry(key.namespace()).or_default().push(key.name()),
            _ => continue,
        }
    }
    for (namespace, names) in by_namespace {
        if names.len() > 1 && census.get(namespace) == Some(&names.len()) {
            words.push(format!("all {} pods of {namespace}", names.len()));
            continue;
        }
        let mut stems: BTreeMap<&str, Vec<&str>> = BTreeMap::new();
        for name in names {
            stems.entry(stem(name)).or_default().push(name);
        }
        words.extend(stems.into_iter().map(|(stem, names)| match names.as_slice() {
            [one] => format!("{namespace}/{one}"),
            several => format!("{namespace}/{stem}-* ({})", several.len()),
        }));
    }
    let nodes = listed.iter().filter(|who| matches!(who, Who::Node { gateway: false, .. }));
    words.extend(nodes.map(ToString::to_string));
    // A gateway is told apart only where its node is not in the group too.
    let lone = listed.iter().filter(|who| match who {
        Who::Node { name, gateway: true } => {
            !listed.contains(&Who::Node { name: name.clone(), gateway: false })
        }
        Who::Outside { .. } => true,
        _ => false,
    });
    words.extend(lone.map(ToString::to_string));
    match members.all_but {
        true if words.is_empty() => "everybody".to_owned(),
        true => format!("everybody except {}", some(words)),
        false => some(words),
    }
}

/// The name of a pod without what distinguishes it from its siblings.
fn stem(name: &str) -> &str {
    match name.rsplit_once('-') {
        Some((stem, last)) if !last.is_empty() && last.bytes().all(|byte| byte.is_ascii_digit()) => stem,
        _ => name,
    }
}

fn some(mut words: Vec<String>) -> String {
    let more = words.len().saturating_sub(NAMES);
    words.truncate(NAMES);
    let more = if more > 0 { format!(" and {more} more") } else { String::new() };
    words.join(", ") + &more
}

fn expectation(out: &mut String, it: &Expectation, paint: Paint) {
    let said = match (it.broken, it.broken_before) {
        (true, true) => paint.error("broken (and was before)"),
        (true, false) => paint.error("broken"),
        (false, true) => paint.good("kept (was broken before)"),
        (false, false) => paint.good("kept"),
    };
    let tuple = &it.tuple;
    let _ = writeln!(out, "  {} → {} {} {}: {said}", tuple.from, tuple.to, tuple.port, it.expected);
    if it.broken {
        let word = if it.expected == "allowed" { "denied" } else { "allowed" };
        let _ = writeln!(out, "      {word}: {}", some(it.because.clone()));
    }
}
