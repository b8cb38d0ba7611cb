//! What tasks cost, as lines of JSON, with the system's allocator. See `program.rs`.

fn main() {
    benches::program();
}
