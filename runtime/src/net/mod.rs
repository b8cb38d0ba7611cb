//! TCP over the reactor, and names.
//!
//! # Problem
//! A socket that would block must leave the thread to others and be tried again when the system says so, on whatever
//! thread it is by then.
//!
//! # Idea
//! `Registered` ties a mio source to its entry in the reactor and has the one function that tries
//! an operation until it works or must wait; sockets are thin over it. Methods take `&self`: one task may read while another
//! writes. One waker waits a direction; a second reader takes the place of the first. The halves of `into_split` have the
//! compiler see to that.
//!
//! With the feature `futures-io` a connection and its halves are readers and writers for whatever is generic over those.
//!
//! # Read next
//! `registered.rs`, then `tcp.rs`, `halves.rs`, `listener.rs`, `address.rs`.

mod address;
mod error;
#[cfg(feature = "futures-io")]
mod futures_io;
mod halves;
mod listener;
mod registered;
mod tcp;

pub use address::{ToAddress, lookup_host};
pub use halves::{ReadHalf, ReuniteError, WriteHalf};
pub use listener::TcpListener;
pub use tcp::TcpStream;
