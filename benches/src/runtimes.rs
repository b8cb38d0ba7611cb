//! Every runtime's rows: a file a runtime ([FAIR-2]), the same functions in the same order in each.

pub(crate) mod anteroom;
#[cfg(all(feature = "peers", target_os = "linux"))]
mod monoio;
#[cfg(feature = "peers")]
mod smol;
#[cfg(feature = "peers")]
pub(crate) mod tokio;

use crate::{Row, Workload};

/// The rows of a workload, anteroom's first, with their runtimes built for them ([FAIR-5]).
pub fn rows(workload: Workload) -> Vec<Row> {
    #[allow(unused_mut, reason = "without the peers there is nothing to add")]
    let mut rows = anteroom::rows(workload);
    #[cfg(feature = "peers")]
    {
        rows.extend(tokio::rows(workload));
        rows.extend(smol::rows(workload));
        #[cfg(target_os = "linux")]
        rows.extend(monoio::rows(workload));
    }
    rows
}

#[cfg(test)]
mod tests {
    use super::*;

    /// [FAIR-6]
    #[test]
    fn each_row_does_as_much_as_it_was_asked_to() {
        for workload in Workload::ALL {
            for row in rows(workload) {
                for operations in [1_000, 5_000] {
                    row.run(operations);
                }
            }
        }
    }
}
