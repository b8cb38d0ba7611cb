//! What does a task take of memory: one that waits, one that is parked, one that sleeps, one with a connection? And what does a
//! fanout take at its peak?
//!
//! Expected: at most 72 bytes parked and 208 asleep, and a fanout of a million jobs through a limit of a thousand in 4 MiB.
//!
//! ```text
//! cargo run --release -p benches --features peers --bin memory -- all [--quick]        every figure, a process each
//! cargo run --release -p benches --features peers --bin memory -- STATE RUNTIME COUNT  one of them, in this process
//! ```
//!
//! `STATE` is `waiting`, `parked`, `sleeping`, `connection` or `fanout`; a fanout's `RUNTIME` is a row of the other tables, with
//! its idiom.
//!
//! # Rules
//! Those of `memory.rs`. A connection is one of the echo servers': each was accepted, has echoed a message into its buffer of
//! 128 bytes and awaits the next; sockets themselves are the system's memory, and not in the figure. The fanout's peak is the
//! most that is ever resident of the process during the run, all that the program itself takes among it, which is more than
//! half of a small one; its growth is by how much that is more than before the run and before its runtime was built.

#[cfg(not(target_os = "linux"))]
fn main() {
    eprintln!("memory: /proc is Linux's");
}

#[cfg(target_os = "linux")]
fn main() -> std::io::Result<()> {
    linux::main()
}

#[cfg(target_os = "linux")]
mod linux {
    use std::process::{Command, exit};
    use std::{env, io};

    use benches::echo::{self, Load, Server, more_files};
    use benches::memory::{self, State, bytes_a_task, forget_peak, resident, resident_peak};
    use benches::{Figure, Workload, rows};

    const SECTION: &str = "memory";
    const PEAK: &str = "peak of a fanout";
    const GROWTH: &str = "growth of a fanout";
    const USAGE: &str = "memory all [--quick] | STATE RUNTIME COUNT";
    const FANOUT: Workload = Workload::Fanout { limit: 1_000, spawners: 1 };

    /// Connections before those that are measured.
    const FIRST_CONNECTIONS: usize = 100;

    pub(super) fn main() -> io::Result<()> {
        let arguments: Vec<String> = env::args().skip(1).collect();
        let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
        match arguments[..] {
            ["serve", name] => echo::serve(name),
            ["all"] => all(1_000_000, 10_000)?,
            ["all", "--quick"] => all(100_000, 1_000)?,
            [state, runtime, count] => {
                one(state, runtime, count.parse().expect(USAGE))?.iter().for_each(Figure::print);
                // A million tasks need not be taken down.
                exit(0);
            }
            _ => panic!("{USAGE}"),
        }
        Ok(())
    }

    /// Every figure.
    fn all(tasks: u64, connections: u64) -> io::Result<()> {
        for state in ["parked", "sleeping", "waiting"] {
            for name in memory::names() {
                of_its_own(state, name, tasks)?;
            }
        }
        for name in echo::names() {
            of_its_own("connection", name, connections)?;
        }
        for row in rows(FANOUT) {
            match row.obstacle() {
                Some(reason) => Figure::cannot(SECTION, workload("fanout"), row.name(), reason).print(),
                None => of_its_own("fanout", row.name(), tasks)?,
            }
        }
        Ok(())
    }

    /// A figure from a process of its own, which prints it.
    fn of_its_own(state: &str, runtime: &str, count: u64) -> io::Result<()> {
        let ended = Command::new(env::current_exe()?).args([state, runtime, &count.to_string()]).status()?;
        if !ended.success() {
            Figure::cannot(SECTION, workload(state), runtime, ended).at(count as f64).print();
        }
        Ok(())
    }

    fn workload(state: &str) -> &str {
        match state {
            "connection" => "with a connection",
            "fanout" => PEAK,
            of_a_task => of_a_task,
        }
    }

    /// What this process is for.
    fn one(state: &str, runtime: &str, count: u64) -> io::Result<Vec<Figure>> {
        let x = count as f64;
        let bytes = |bytes| Figure::new(SECTION, workload(state), runtime, bytes, "bytes").at(x);
        let figure = match state {
            "waiting" => bytes(bytes_a_task(runtime, State::Waiting, count)),
            "parked" => bytes(bytes_a_task(runtime, State::Parked, count)),
            "sleeping" => bytes(bytes_a_task(runtime, State::Sleeping, count)),
            "connection" => match connection(runtime, count as usize) {
                Ok(each) => bytes(each),
                Err(reason) => Figure::cannot(SECTION, workload(state), runtime, reason).at(x),
            },
            "fanout" => {
                let row = rows(FANOUT).into_iter().find(|row| row.name() == runtime).expect("a row's name");
                forget_peak();
                let before = resident_peak();
                row.run(count);
                let peak = resident_peak();
                let mib = |what: &str, bytes: u64| {
                    Figure::new(SECTION, what, runtime, bytes as f64 / f64::from(1 << 20), "MiB").at(x)
                };
                return Ok(vec![mib(PEAK, peak), mib(GROWTH, peak - before)]);
            }
            _ => panic!("{USAGE}"),
        };
        Ok(vec![figure])
    }

    /// By how much a server grows with each connection.
    fn connection(runtime: &str, count: usize) -> io::Result<f64> {
        more_files()?;
        let server = Server::start(runtime)?;
        let resident = || -> io::Result<f64> {
            server.rest()?;
            Ok(resident(&server.pid().to_string()) as f64)
        };
        let mut load = Load::connect(server.port(), FIRST_CONNECTIONS)?;
        let before = resident()?;
        load.connect_more(server.port(), count)?;
        Ok((resident()? - before) / count as f64)
    }
}
