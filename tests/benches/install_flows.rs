//! Installs 100,000 flows of the pipeline's mix in one bundle on a private switch, in turns with `ovs-ofctl --bundle
//! add-flows` of the same flows, and measures what memory the sender needs beside the flows.
//!
//! Each of our turns is a process of its own, as each of ovs-ofctl's is: it reads the flows from a file first.

#[path = "../../compiler/benches/loaded_node/mod.rs"]
mod loaded_node;

use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};

use anyhow::{Context, Result, bail, ensure};
use bytes::BytesMut;
use loaded_node::{BUDGET, bound, loaded_node};
use openflow::connection::Config;
use openflow::io::{Client, Target};
use openflow::{FlowMod, Message, Xid};
use tests::private_ovs::PrivateOvs;

const BRIDGE: &str = "br-int";
const FLOWS: usize = 100_000;
const ROUNDS: usize = 5;
/// The first word of the arguments that make this program a sender.
const SEND: &str = "send";

fn main() -> Result<()> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        [SEND, file, socket] => {
            tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(send(file, socket))
        }
        _ => compare(),
    }
}

/// One turn of ours, in seconds and MiB.
struct Turn {
    whole: f64,
    install: f64,
    memory: f64,
}

fn compare() -> Result<()> {
    let Some(ovs) = PrivateOvs::start()? else { return Ok(()) };
    make_bridge(&ovs)?;
    let bytes = ovs.rundir().join("flows.bin");
    let count = write_flows(&bytes)?;
    let socket = ovs.mgmt_socket(BRIDGE);

    // The switch's own words for our flows are ovs-ofctl's input.
    our_turn(&bytes, &socket)?;
    let dump = ovs.ofctl(["-OOpenFlow13", "--no-stats", "--no-names", "dump-flows", BRIDGE])?;
    ensure!(dump.lines().count() == count, "the switch holds {} flows, not {count}", dump.lines().count());
    let text = ovs.rundir().join("flows.txt");
    std::fs::write(&text, &dump)?;

    let (mut ours, mut theirs) = (Vec::new(), Vec::new());
    for round in 0..ROUNDS {
        clear(&ovs)?;
        ours.push(our_turn(&bytes, &socket)?);
        clear(&ovs)?;
        theirs.push(their_turn(&ovs, &text)?);
        let (our, their) = (&ours[round], theirs[round]);
        println!(
            "round {round}: ours {:.3} s (installing {:.3}), ovs-ofctl {their:.3} s",
            our.whole, our.install
        );
    }
    let theirs = median(theirs);
    let whole = median(ours.iter().map(|turn| turn.whole).collect());
    let install = median(ours.iter().map(|turn| turn.install).collect());
    let memory = median(ours.iter().map(|turn| turn.memory).collect());
    println!(
        "ratio: install {count} flows, process beside process: {whole:.2} s, {:.2} of ovs-ofctl --bundle add-flows ({theirs:.2} s; goal 1.1)",
        whole / theirs
    );
    println!(
        "ratio: install {count} flows, from memory until the commit: {install:.2} s, {:.2} of the same",
        install / theirs
    );
    println!(
        "ratio: install {count} flows, the sender's memory above the flows: {memory:.1} MiB, {:.2} of 20 MiB",
        memory / 20.0
    );
    Ok(())
}

fn make_bridge(ovs: &PrivateOvs) -> Result<()> {
    let bridge = ["add-br", BRIDGE, "--", "set", "bridge", BRIDGE, "datapath_type=dummy", "fail_mode=secure"];
    ovs.vsctl(bridge.into_iter().chain(["protocols=OpenFlow10,OpenFlow13"]))?;
    Ok(())
}

fn clear(ovs: &PrivateOvs) -> Result<()> {
    ovs.ofctl(["-OOpenFlow13", "del-flows", BRIDGE])?;
    // Removed rules are freed in the background; that work must not fall into somebody's turn.
    std::thread::sleep(Duration::from_millis(500));
    Ok(())
}

/// Compiles and writes flow-mods behind each other; gives how many.
fn write_flows(file: &Path) -> Result<usize> {
    let (view, config, ports) = loaded_node(BUDGET);
    let program = compiler::compile(&view, &config, &ports);
    let flows = bound(&program, &ports);
    ensure!(flows.len() >= FLOWS, "only {} flows were compiled", flows.len());
    let step = flows.len() / FLOWS;
    let mut out = std::io::BufWriter::new(std::fs::File::create(file)?);
    let mut buffer = BytesMut::new();
    let mut count = 0;
    for flow in flows.into_iter().step_by(step).take(FLOWS) {
        buffer.clear();
        Message::FlowMod(Box::new(flow)).encode(Xid(0), &mut buffer)?;
        out.write_all(&buffer)?;
        count += 1;
    }
    out.flush()?;
    Ok(count)
}

fn our_turn(flows: &Path, socket: &Path) -> Result<Turn> {
    let mut command = Command::new(std::env::current_exe()?);
    command.arg(SEND).args([flows, socket]).stderr(Stdio::inherit());
    let began = Instant::now();
    let output = command.output()?;
    let whole = began.elapsed().as_secs_f64();
    ensure!(output.status.success(), "the sender failed: {}", output.status);
    let said = String::from_utf8(output.stdout)?;
    let numbers: Vec<f64> = said.split_whitespace().map(str::parse).collect::<Result<_, _>>()?;
    let [install, memory] = numbers[..] else { bail!("the sender said {said:?}") };
    Ok(Turn { whole, install, memory })
}

fn their_turn(ovs: &PrivateOvs, flows: &Path) -> Result<f64> {
    let file = flows.to_str().context("the directory's name is not UTF-8")?;
    let began = Instant::now();
    ovs.ofctl(["-OOpenFlow13", "--bundle", "add-flows", BRIDGE, file])?;
    Ok(began.elapsed().as_secs_f64())
}

/// Reads the flows, installs them, says how long that took and by how much memory grew at most.
async fn send(file: &str, socket: &str) -> Result<()> {
    let flows = Arc::new(read_flows(file)?);
    let before = resident("VmRSS");
    std::fs::write("/proc/self/clear_refs", "5").context("cannot reset the peak of memory")?;
    let began = Instant::now();
    let (client, _events) = Client::connect(&Target::Unix(PathBuf::from(socket)), Config::default()).await?;
    let sent = Arc::clone(&flows);
    let messages = (0..sent.len()).map(move |place| Message::FlowMod(Box::new(sent[place].clone())));
    let committed = client.apply_bundle(messages).await?;
    let elapsed = began.elapsed().as_secs_f64();
    ensure!(committed.messages == flows.len(), "{} of {} flows", committed.messages, flows.len());
    println!("{elapsed} {}", resident("VmHWM") - before);
    Ok(())
}

fn read_flows(file: &str) -> Result<Vec<FlowMod>> {
    let bytes = std::fs::read(file)?;
    let mut rest = bytes.as_slice();
    let mut flows = Vec::new();
    while let Some(length) = Message::length(rest)? {
        let (message, behind) = rest.split_at(length);
        rest = behind;
        let (_, Message::FlowMod(flow)) = Message::decode(message)? else {
            bail!("{file} holds other messages")
        };
        flows.push(*flow);
    }
    Ok(flows)
}

/// A line of `/proc/self/status`, in MiB.
fn resident(field: &str) -> f64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix(field)?.strip_prefix(':'));
    let kib: f64 = line.and_then(|line| line.split_whitespace().next()?.parse().ok()).unwrap_or_default();
    kib / 1024.0
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_unstable_by(f64::total_cmp);
    values[values.len() / 2]
}
