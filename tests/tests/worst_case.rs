//! What a runtime says beforehand that it can take at most, against what it takes at every limit at once.
//!
//! It is the process that is measured, so that runs in one of its own, the program `worst`.
#![cfg(all(target_os = "linux", target_env = "gnu"))]

use std::process::Command;

#[test]
fn at_every_limit_at_once_it_takes_no_more_than_it_said() {
    if cfg!(anteroom_asan) {
        return; // It takes memory of its own for each block.
    }
    let output = Command::new(env!("CARGO_BIN_EXE_worst")).output().expect("the program of this crate");
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (out, err) = (text(&output.stdout), text(&output.stderr));
    print!("{out}");
    assert!(output.status.success(), "{}\n{out}{err}", output.status);
    assert!(out.contains("total, at its peak"), "it measured nothing");
}
