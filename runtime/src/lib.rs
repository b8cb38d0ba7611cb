//! An async runtime in which spawning is bounded.
