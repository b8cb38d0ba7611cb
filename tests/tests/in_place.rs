//! Spawning into a full limit does not deadlock: when nothing else can move, a child runs in its spawner's own place.
use std::pin::Pin;

use anteroom::{Runtime, metrics, spawn};

type Boxed<T> = Pin<Box<dyn Future<Output = T> + Send>>;

/// Recursion in which each parent awaits its child's handle.
fn nest(deep: usize, limit: usize) -> Boxed<usize> {
    Box::pin(async move {
        assert!(metrics().tasks_live <= limit);
        if deep == 0 {
            return 0;
        }
        let child = spawn(nest(deep - 1, limit)).await.unwrap();
        1 + child.await.unwrap()
    })
}

fn with_stack<T: Send + 'static>(f: impl FnOnce() -> T + Send + 'static) -> T {
    std::thread::Builder::new().stack_size(64 << 20).spawn(f).unwrap().join().unwrap()
}

#[test]
fn recursion_a_thousand_deep_ends_at_limits_1_2_and_3() {
    for limit in 1..=3 {
        let deep = with_stack(move || {
            let runtime = Runtime::builder().max_tasks(limit).build().unwrap();
            let start = std::time::Instant::now();
            let r = runtime.block_on(async move { spawn(nest(1_000, limit)).join().await.unwrap() });
            eprintln!("{:?}", start.elapsed());
            r
        });
        assert_eq!(deep, 1_000);
    }
}
