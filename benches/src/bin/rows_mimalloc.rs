//! The same as `rows`, with mimalloc for all of them.

#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

fn main() {
    benches::program();
}
