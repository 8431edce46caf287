//! The agent on a private Open vSwitch lets a client keep its endpoint for longer than a flow can live.

#![allow(clippy::unwrap_used)]

use std::time::Duration;

use clap::Parser;
use ovs_agent::settings::Settings;
use tests::private_ovs::PrivateOvs;
use tests::steady;

const LIMIT: Duration = Duration::from_secs(20);

#[test]
fn a_flow_that_ends_before_the_affinity_is_continued() {
    let Some(ovs) = PrivateOvs::start().unwrap() else { return };
    let folder = tempfile::tempdir().unwrap();
    let text = |name: &str| folder.path().join(name).display().to_string();
    let settings = Settings::try_parse_from([
        "ferrule-agent",
        "--node=node-1",
        "--node-address=192.168.0.1",
        "--pod-cidr=10.244.1.0/24",
        "--datapath=netdev",
        "--host-network-state=ignore",
        &format!("--ovs-rundir={}", ovs.rundir().display()),
        &format!("--cni-socket={}", text("cni.sock")),
        &format!("--api-socket={}", text("agent.sock")),
        &format!("--state-dir={}", text("state")),
    ]);
    let runtime = tokio::runtime::Runtime::new().unwrap();
    runtime.spawn(ovs_agent::run(settings.unwrap(), std::future::pending()));
    let dump = |table: u8| {
        let table = format!("table={table}");
        ovs.ofctl(["-OOpenFlow13", "dump-flows", "br-int", &table]).unwrap_or_default()
    };
    // The pipeline is there, so the agent listens to the switch.
    steady::until("the pipeline", LIMIT, || dump(compiler::Table::Output.id()).contains("actions="));
    // As the switch learns one of 86,400 s, but that it ends in a second.
    let table = compiler::Table::ServiceAffinity.id();
    let learned = format!(
        "table={table},priority=100,cookie=0xfd00518100000007,hard_timeout=1,send_flow_rem,ip,nw_src=10.244.1.9,reg4=3,\
         actions=load:7->NXM_NX_REG5[]"
    );
    ovs.ofctl(["-OOpenFlow13", "add-flow", "br-int", &learned]).unwrap();
    steady::until("the flow is continued", LIMIT, || dump(table).contains("hard_timeout=20865"));
    let held = dump(table);
    assert!(held.contains("nw_src=10.244.1.9") && held.contains("0x7->NXM_NX_REG5"), "{held}");
    assert!(!held.contains("send_flow_rem"), "{held}");
    runtime.shutdown_timeout(Duration::from_secs(1));
}
