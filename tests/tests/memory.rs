//! Memory comes back: what the system sees of this runtime is what is live, and the handles that are kept.
//!
//! It is the process that is measured, so each case runs in one of its own, the program `burst`.
#![cfg(target_os = "linux")]

use std::process::Command;

fn burst(case: &str) {
    if cfg!(anteroom_asan) {
        return; // It keeps what was freed.
    }
    let output =
        Command::new(env!("CARGO_BIN_EXE_burst")).arg(case).output().expect("the program of this crate");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    print!("{out}");
    assert!(output.status.success(), "{case}: {}\n{out}{err}", output.status);
    assert!(!out.is_empty(), "{case} measured nothing");
}

#[test]
fn memory_is_that_of_the_limit_and_only_kept_handles_add_to_it() {
    // bugs.md 37
    burst("limit");
}

#[test]
fn a_million_kept_handles_take_80_mib_whatever_their_futures_took() {
    burst("handles");
}

#[test]
fn free_memory_that_is_kept_stays_within_its_bound_whatever_the_sizes() {
    // [BODY-3]
    burst("classes");
}

#[test]
fn after_a_burst_memory_is_back_within_a_second() {
    // bugs.md 37, [TABLE-3]
    burst("burst");
}

#[test]
fn after_a_burst_memory_is_back_though_some_of_its_tasks_stay() {
    burst("survivors");
}

#[test]
fn a_million_tasks_in_bursts_take_what_the_first_ones_took() {
    burst("bursts");
}

#[test]
fn ten_thousand_runtimes_take_what_the_first_ones_took() {
    burst("runtimes");
}
