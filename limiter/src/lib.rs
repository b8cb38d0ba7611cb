//! Permits and limits for any async runtime.
#![forbid(unsafe_code)]
