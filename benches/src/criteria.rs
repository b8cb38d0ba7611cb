//! How criterion measures a row: short, and in time per operation.

use std::time::Duration;

use criterion::{Criterion, SamplingMode, Throughput};

use crate::{Workload, rows};

/// The body of a bench's `main`: each runtime's row of each workload.
///
/// Criterion asks for so many iterations, and an iteration is an operation here; we do whole runs of
/// [`Workload::operations`], at least one, and give the share that was asked for. So its times are times per operation.
pub fn bench(workloads: &[Workload]) {
    let mut criterion = Criterion::default()
        .warm_up_time(Duration::from_millis(500))
        .measurement_time(Duration::from_secs(2))
        .sample_size(20)
        .configure_from_args();
    for &workload in workloads {
        let mut group = criterion.benchmark_group(workload.to_string());
        group.sampling_mode(SamplingMode::Flat).throughput(Throughput::Elements(1));
        for row in rows(workload).iter().filter(|row| row.obstacle().is_none()) {
            group.bench_function(row.name(), |bencher| {
                bencher.iter_custom(|asked| {
                    let runs = asked.div_ceil(workload.operations());
                    let elapsed: Duration = (0..runs).map(|_| row.run(workload.operations()).wall).sum();
                    let share = asked as f64 / (runs * workload.operations()) as f64;
                    elapsed.mul_f64(share)
                });
            });
        }
        group.finish();
    }
    criterion.final_summary();
}
