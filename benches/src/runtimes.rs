//! Every runtime's rows: a file a runtime ([FAIR-2]), the same functions in the same order in each.

pub(crate) mod anteroom;
#[cfg(all(feature = "peers", target_os = "linux"))]
mod compio;
#[cfg(all(feature = "peers", target_os = "linux"))]
mod glommio;
#[cfg(all(feature = "peers", target_os = "linux"))]
mod local_sync;
#[cfg(all(feature = "peers", target_os = "linux"))]
mod monoio;
#[cfg(feature = "peers")]
pub(crate) mod peer;
#[cfg(feature = "peers")]
pub(crate) mod smol;
#[cfg(feature = "peers")]
pub(crate) mod tokio;
#[cfg(feature = "peers")]
mod tokio_local;

use crate::{Row, Workload};

/// The rows of a workload, anteroom's first ([FAIR-5]); those that cannot do it are among them.
pub fn rows(workload: Workload) -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there is nothing to add")]
    let mut rows = anteroom::rows(workload);
    #[cfg(feature = "peers")]
    {
        rows.extend(tokio::rows(workload));
        rows.extend(tokio_local::rows(workload));
        rows.extend(smol::rows(workload));
        #[cfg(target_os = "linux")]
        {
            rows.extend(monoio::rows(workload));
            rows.extend(compio::rows(workload));
            rows.extend(glommio::rows(workload));
        }
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [FAIR-6]
    #[test]
    fn each_row_does_as_much_as_it_was_asked_to() {
        let test = |workload: Workload, counts: &[u64]| {
            for row in rows(workload).iter().filter(|row| row.obstacle().is_none()) {
                for &operations in counts {
                    row.run(operations);
                }
            }
        };
        // Those that sleep do so beside the others.
        std::thread::scope(|scope| {
            for workload in [Workload::Timers, Workload::LateDense, Workload::LateSparse] {
                scope.spawn(move || test(workload, &[100]));
            }
            for workload in Workload::ALL.into_iter().filter(|&workload| workload != Workload::Timers) {
                test(workload, &[1_000, 5_000]);
            }
        });
    }
}
