//! `ferrule lab status`.

use std::io::Write;
use std::path::Path;

use lab::Lab;
use lab::status::Status;

use super::print_json;
use crate::arguments::Output;
use crate::fail::{Fail, Outcome};
use crate::paint::Paint;
use crate::table::{columns, list, or_dash};

pub fn run(state: &Path, output: Output) -> Result<Outcome, Fail> {
    let status = Lab::open(state)?.status();
    match output {
        Output::Json => print_json(&status),
        Output::Table => {
            std::io::stdout().write_all(render(&status, Paint::stdout()).as_bytes())?;
            Ok(Outcome::Expected)
        }
    }
}

fn render(status: &Status, paint: Paint) -> String {
    let pid = |pid: Option<i32>| pid.map_or_else(|| "not running".to_owned(), |pid| pid.to_string());
    let mut out = format!(
        "{} in {}, {}\nmanifests   {}\ncontroller  {} (process {})\n\n",
        paint.bold(format!("Lab {}", status.id)),
        status.state.display(),
        status.family,
        status.manifests.display(),
        status.controller.socket.display(),
        pid(status.controller.pid)
    );
    let nodes = status.nodes.iter().map(|node| {
        let mut cells =
            vec![node.name.to_string(), node.namespace.clone(), list(&node.addresses), list(&node.pod_cidrs)];
        cells.extend(
            ["agent", "ovs-vswitchd", "ovsdb-server"].map(|name| pid(node.pids.get(name).copied().flatten())),
        );
        cells
    });
    let headings = ["NODE", "NAMESPACE", "ADDRESSES", "POD RANGES", "AGENT", "OVS-VSWITCHD", "OVSDB-SERVER"];
    out += &(columns(&headings, nodes.collect()) + "\n\n");
    let pods = status.pods.iter().map(|pod| {
        vec![
            pod.pod.to_string(),
            pod.node.to_string(),
            list(&pod.addresses),
            list(&pod.serves),
            or_dash(pod.problem.as_ref()),
        ]
    });
    out += &(columns(&["POD", "NODE", "ADDRESSES", "SERVES", "PROBLEM"], pods.collect()) + "\n\n");
    if let Some(node) = status.nodes.first() {
        out += &format!(
            "{}\n  OVS_RUNDIR={} ovs-ofctl -O OpenFlow13 dump-flows br-int\n",
            paint.dim(format!("The tools of Open vSwitch on {}:", node.name)),
            node.ovs_rundir.display()
        );
    }
    out
}
