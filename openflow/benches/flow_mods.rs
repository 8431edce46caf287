//! Flow-mods per second, encoded and decoded, on one core: the mix that a node's pipeline has (conntrack, policy clauses,
//! service choice, output). The goal is a million a second each way; the switch takes about 110,000.

// A benchmark that cannot run shall say so.
#![allow(clippy::unwrap_used)]

use std::hint::black_box;

use bytes::BytesMut;
use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use openflow::canonical::fingerprint;
use openflow::text::parse_flow;
use openflow::{FlowMod, FlowModCommand, Message, Xid};

/// A flow of each kind; the clauses stand for the many.
const MIX: &[&str] = &[
    "table=0,priority=200,in_port=7,cookie=0x1,actions=load:0x7->NXM_NX_REG1[],load:0x1->NXM_NX_REG0[0..3],goto_table:10",
    "table=10,priority=200,ip,in_port=7,dl_src=0a:00:00:00:00:07,nw_src=10.244.1.7,actions=goto_table:30",
    "table=10,priority=200,arp,in_port=7,arp_spa=10.244.1.7,arp_sha=0a:00:00:00:00:07,actions=goto_table:20",
    "table=30,priority=100,ip,cookie=0x2,actions=ct(table=40,zone=65520,nat)",
    "table=60,priority=100,ip,reg4=0x5,nw_src=10.244.3.9,cookie=0x3,actions=conjunction(77,1/3)",
    "table=60,priority=100,ipv6,reg4=0x5,ipv6_src=fd00:10:244:3::9,cookie=0x3,actions=conjunction(77,1/3),conjunction(78,1/3)",
    "table=60,priority=100,tcp,tp_dst=8080,cookie=0x3,actions=conjunction(77,3/3)",
    "table=60,priority=100,conj_id=77,ip,cookie=0x4,actions=load:0x4d->NXM_NX_REG5[],goto_table:70",
    "table=50,priority=100,tcp,nw_dst=10.96.0.10,tp_dst=53,actions=load:0x1->NXM_NX_REG4[16..18],\
     multipath(symmetric_l3l4+udp,50,modulo_n,9,0,NXM_NX_REG3[0..15]),goto_table:51",
    "table=51,priority=100,tcp,reg3=0x4,cookie=0x9,actions=ct(commit,table=60,zone=65520,nat(dst=10.244.2.5:5353),\
     exec(set_field:0x10/0x10->ct_mark))",
    "table=90,priority=100,ip,nw_dst=10.244.1.7,actions=set_field:0a:00:00:00:00:07->eth_dst,load:0x7->NXM_NX_REG1[],dec_ttl,goto_table:100",
    "table=110,priority=100,reg0=0x10/0x10,actions=output:NXM_NX_REG1[]",
];

fn flows() -> Vec<FlowMod> {
    MIX.iter().map(|text| parse_flow(text, FlowModCommand::Add).unwrap()).collect()
}

fn flow_mods(c: &mut Criterion) {
    let messages: Vec<Message> = flows().into_iter().map(|flow| Message::FlowMod(Box::new(flow))).collect();
    let bytes: Vec<_> = messages.iter().map(|message| message.to_bytes(Xid(1)).unwrap()).collect();
    let mut group = c.benchmark_group("flow_mods");
    group.throughput(Throughput::Elements(MIX.len() as u64));
    let mut out = BytesMut::with_capacity(1 << 16);
    group.bench_function("encode", |b| {
        b.iter(|| {
            out.clear();
            for message in &messages {
                black_box(message).encode(Xid(1), &mut out).unwrap();
            }
            black_box(out.len())
        });
    });
    group.bench_function("decode", |b| {
        b.iter(|| {
            for bytes in &bytes {
                black_box(Message::decode(black_box(bytes)).unwrap());
            }
        });
    });
    let flows = flows();
    group.bench_function("fingerprint", |b| {
        b.iter(|| flows.iter().fold(0, |all, flow| all ^ fingerprint(black_box(flow))));
    });
    group.finish();
}

criterion_group!(benches, flow_mods);
criterion_main!(benches);
