//! A workload for callgrind, which counts its instructions: `.ci/instructions.sh`.
//!
//! `instructions WORKLOAD OPERATIONS`: one run, in a process of its own. What starting and building take is in it too, so the
//! script takes the difference of two lengths.

use std::env;

use benches::{Workload, instructions};

fn main() {
    let usage = "instructions spawn_join|yield|ping_pong|fanout OPERATIONS";
    let mut arguments = env::args().skip(1);
    let workload = match arguments.next().expect(usage).as_str() {
        "spawn_join" => Workload::SpawnJoin,
        "yield" => Workload::Yield(100),
        "ping_pong" => Workload::PingPong(1),
        "fanout" => Workload::Fanout { limit: 1_000, spawners: 1 },
        _ => panic!("{usage}"),
    };
    let operations = arguments.next().expect(usage).parse().expect(usage);
    instructions::run(workload, operations);
}
