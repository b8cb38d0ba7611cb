//! The eventfd that other threads ring may be at its maximum: then a ring still wakes.
//!
//! Alone in its process, so that there is one eventfd in it.

#![cfg(target_os = "linux")]

use std::fs;
use std::thread;

use anteroom::{Runtime, spawn};
use anteroom_tests::{Gate, must_end};

/// The most that an eventfd counts.
const MAX: u64 = u64::MAX - 1;

/// The number of the one eventfd of this process.
fn eventfd() -> libc::c_int {
    let is_one = |entry: &fs::DirEntry| {
        fs::read_link(entry.path()).is_ok_and(|target| target.to_string_lossy().contains("[eventfd]"))
    };
    let mut found = fs::read_dir("/proc/self/fd").unwrap().filter_map(Result::ok).filter(is_one);
    let number = found.next().expect("the runtime has one").file_name();
    assert!(found.next().is_none(), "which one is it?");
    number.to_str().unwrap().parse().unwrap()
}

/// What the eventfd counts. A read would tell too, and take the owner's news away.
fn count(number: libc::c_int) -> u64 {
    let info = fs::read_to_string(format!("/proc/self/fdinfo/{number}")).unwrap();
    let count = info.lines().find_map(|line| line.strip_prefix("eventfd-count:")).unwrap();
    u64::from_str_radix(count.trim(), 16).unwrap()
}

/// Whether `add` could be added to what it counts.
fn add(number: libc::c_int, add: u64) -> bool {
    // SAFETY: a system call that reads eight bytes of a local of ours.
    8 == unsafe { libc::write(number, (&raw const add).cast(), 8) }
}

#[test]
fn a_ring_of_a_bell_that_can_count_no_further_still_wakes() {
    // bugs.md 49
    must_end(|| {
        let runtime = Runtime::new().unwrap();
        let number = eventfd();
        let (sender, gates) = std::sync::mpsc::channel::<Gate>();
        let opener = thread::spawn(move || {
            let mut overflows = 0;
            for gate in gates {
                // The owner sleeps, or is about to. It may be woken by this, and sleeps again: a full counter is no news.
                assert!(add(number, MAX - count(number)));
                thread::sleep(std::time::Duration::from_millis(2));
                assert!(!add(number, 1), "it is full");
                gate.open();
                // Who rang had to empty it first.
                overflows += usize::from(count(number) < MAX);
            }
            overflows
        });
        runtime.block_on(async {
            for _ in 0..50 {
                let gate = Gate::new();
                let task = spawn(gate.wait()).await.unwrap();
                sender.send(gate).unwrap();
                task.await.unwrap();
            }
        });
        drop(sender);
        let overflows = opener.join().unwrap();
        assert!(overflows > 0, "the bell was never rung when it was full");
    });
}
