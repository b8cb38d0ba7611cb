//! The same as `rows`, with the work-stealing modes, which the others are not to pay for.

fn main() {
    benches::program();
}
