//! The programs that measure in processes of their own work, at small numbers: each prints every figure that it is asked for.
#![cfg(target_os = "linux")]

use std::process::Command;

use benches::{COLD, Figure, Workload, cold_rows, echo, memory, rows};

/// What the program prints.
fn figures(program: &str, arguments: &[&str]) -> Vec<Figure> {
    let output = Command::new(program).args(arguments).output().expect("a program of this crate");
    let (out, err) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    assert!(output.status.success(), "{arguments:?}: {}\n{out}{err}", output.status);
    out.lines().map(|line| Figure::parse(line).unwrap_or_else(|error| panic!("{line}: {error}"))).collect()
}

/// The first figure of a process, which must have a value.
fn memory(state: &str, runtime: &str, count: &str) -> f64 {
    let figures = figures(env!("CARGO_BIN_EXE_memory"), &[state, runtime, count]);
    let [figure, ..] = &figures[..] else { panic!("{state} of {runtime}: {figures:?}") };
    assert_eq!(figure.runtime, runtime);
    figure.value.unwrap_or_else(|| panic!("{figure:?}"))
}

#[test]
fn a_task_takes_memory_in_every_state_of_every_runtime() {
    for state in ["parked", "sleeping", "waiting"] {
        for runtime in memory::names() {
            let bytes = memory(state, runtime, "5000");
            assert!(bytes > 8.0 && bytes < 10_000.0, "{state} of {runtime}: {bytes} bytes");
        }
    }
}

#[test]
fn a_connection_takes_memory_of_every_server() {
    for server in echo::names() {
        let bytes = memory("connection", server, "200");
        assert!((0.0..20_000.0).contains(&bytes), "{server}: {bytes} bytes");
    }
}

#[test]
fn every_row_of_the_fanout_has_a_peak() {
    for row in rows(Workload::Fanout { limit: 1_000, spawners: 1 }) {
        if row.obstacle().is_none() {
            let mib = memory("fanout", row.name(), "2000");
            assert!(mib > 1.0, "{}: {mib} MiB", row.name());
        }
    }
}

#[test]
fn every_server_echoes_and_is_measured() {
    let small = "--rounds 1 --ms 5 --connections 1,3 --growth 4 --requests 100";
    let arguments: Vec<&str> = small.split(' ').collect();
    let figures = figures(env!("CARGO_BIN_EXE_echo"), &arguments);
    for server in echo::names() {
        let of = |section: &str, workload: &str| -> Vec<&Figure> {
            let same = |figure: &&Figure| {
                (&*figure.section, &*figure.workload, &*figure.runtime) == (section, workload, server)
            };
            figures.iter().filter(same).collect()
        };
        for workload in ["requests", "cpu a request"] {
            for (section, points) in [("echo", &[1.0, 3.0][..]), ("echo_growth", &[4.0])] {
                let found = of(section, workload);
                assert!(found.iter().filter_map(|figure| figure.x).eq(points.iter().copied()), "{found:?}");
                assert!(
                    found.iter().all(|figure| figure.value.is_some_and(|value| value > 0.0)),
                    "{found:?}"
                );
            }
        }
        // Where there is no perf, no strace, or no right to it, it says so.
        for workload in ["system calls a request", "system calls a request, under strace"] {
            let found = of("echo", workload);
            assert_eq!(found.len(), 2, "{found:?}");
            assert!(
                found.iter().all(|figure| figure.value.is_some() != figure.cannot.is_some()),
                "{found:?}"
            );
        }
    }
}

#[test]
fn what_callgrind_counts_is_done() {
    for workload in ["spawn_join", "yield", "ping_pong", "fanout"] {
        assert_eq!(figures(env!("CARGO_BIN_EXE_instructions"), &[workload, "2000"]), []);
    }
}

#[test]
fn every_row_starts_cold() {
    for (workload, operations) in COLD {
        for row in cold_rows(workload) {
            let figures = figures(env!("CARGO_BIN_EXE_rows"), &["cold", &row, &workload.to_string()]);
            let [figure] = &figures[..] else { panic!("{row}: {figures:?}") };
            assert_eq!((&figure.runtime, figure.x), (&row, Some(operations as f64)));
            assert!(figure.value.is_some_and(|micros| micros > 0.0), "{figure:?}");
        }
    }
}
