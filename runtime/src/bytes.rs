//! What growing tables take.
//!
//! A table doubles when it is full, and while it is copied the old one is still there: whoever adds up a worst case counts
//! both.

/// What a table of so many entries takes at most, in bytes.
pub(crate) const fn table_bytes(entries: usize, entry_bytes: usize) -> usize {
    let capacity = match entries.checked_next_power_of_two() {
        Some(capacity) if capacity < 4 => 4,
        Some(capacity) => capacity,
        None => usize::MAX,
    };
    (capacity / 2).saturating_mul(entry_bytes).saturating_mul(3)
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn a_table_is_counted_with_its_growth() {
        assert_eq!(table_bytes(1, 10), 60);
        assert_eq!(table_bytes(1_000, 16), 1024 * 16 * 3 / 2);
        assert_eq!(table_bytes(usize::MAX, 16), usize::MAX);
    }
}
