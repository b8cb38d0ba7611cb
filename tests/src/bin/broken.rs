//! Faults on purpose: `.ci/asan.sh` runs them first, to see that its tools report them.

use std::hint::black_box;

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
        _ => panic!("broken use-after-free|leak"),
    }
}
