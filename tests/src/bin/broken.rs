//! Faults on purpose: `.ci/asan.sh` and `.ci/tsan.sh` run them first, to see that their tools report them.

use std::hint::black_box;
use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};

fn main() {
    match std::env::args().nth(1).as_deref() {
        Some("use-after-free") => {
            let block = Box::into_raw(Box::new([1_u8; 100]));
            // SAFETY: it came from a box.
            drop(unsafe { Box::from_raw(block) });
            // SAFETY: none, it is the fault that must be seen.
            let byte = unsafe { black_box(block).cast::<u8>().read_volatile() };
            println!("{byte}");
        }
        Some("leak") => std::mem::forget(black_box(vec![1_u8; 100])),
        Some("race") => publish(Ordering::Relaxed, Ordering::Relaxed),
        // The same in order, of which there is nothing to report.
        Some("no-race") => publish(Ordering::Release, Ordering::Acquire),
        _ => panic!("broken use-after-free|leak|race|no-race"),
    }
}

/// One thread writes a number and says so, another waits for its word and reads the number.
fn publish(store: Ordering, load: Ordering) {
    let [may_begin, is_there, may_end] = [const { AtomicBool::new(false) }; 3];
    // Relaxed but for what is asked: starting and ending a thread would put in order what must not be.
    let wait_for = |word: &AtomicBool, order| {
        while !word.load(order) {
            std::thread::yield_now();
        }
    };
    let mut number = 0_u32;
    let place = AtomicPtr::new(&raw mut number);
    std::thread::scope(|scope| {
        scope.spawn(|| {
            wait_for(&may_begin, Ordering::Relaxed);
            // SAFETY: it outlives the scope; nobody touches it until told below.
            unsafe { place.load(Ordering::Relaxed).write(1) };
            is_there.store(true, store);
            wait_for(&may_end, Ordering::Relaxed);
        });
        may_begin.store(true, Ordering::Relaxed);
        wait_for(&is_there, load);
        // SAFETY: as above; that the write is over is what the orderings have to say, or fail to.
        println!("{}", unsafe { place.load(Ordering::Relaxed).read() });
        may_end.store(true, Ordering::Relaxed);
    });
}
