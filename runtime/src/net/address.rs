//! What a socket can be told to connect to, and how names become addresses.
//!
//! # Idea
//! The future of a lookup is boxed, by a function that is called for names only. What is an address by its type never gets
//! there: its `address` is inlined, the branch falls away, and a program without names has neither resolver nor blocking
//! pool in it. With the future in the caller's frame both would stay, since whatever a frame may hold it must be able to
//! poll and drop.

use std::io;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, SocketAddrV4, SocketAddrV6, ToSocketAddrs};
use std::pin::Pin;

use crate::blocking::spawn_blocking;

/// An address, or a name that stands for some.
///
/// Implemented for the addresses of `std::net`, for pairs of a host and a port, and for text such as `"localhost:80"`.
/// A name is looked up on the blocking pool, by the system's resolver; what is an address already costs nothing.
///
/// ```
/// anteroom::block_on(async {
///     let addresses = anteroom::net::lookup_host(("127.0.0.1", 80)).await.unwrap();
///     assert_eq!(addresses, [([127, 0, 0, 1], 80).into()]);
/// });
/// ```
pub trait ToAddress {
    /// The address, if no name has to be looked up; or else the name, with its port.
    ///
    /// # Errors
    /// Text without a port is `InvalidInput`, and the error names it.
    fn address(&self) -> io::Result<Result<SocketAddr, (String, u16)>>;
}

impl ToAddress for SocketAddr {
    #[inline(always)]
    fn address(&self) -> io::Result<Result<SocketAddr, (String, u16)>> {
        Ok(Ok(*self))
    }
}

macro_rules! plain_address {
    ($($of:ty),+) => {$(
        impl ToAddress for $of {
            #[inline(always)]
            fn address(&self) -> io::Result<Result<SocketAddr, (String, u16)>> {
                Ok(Ok((*self).into()))
            }
        }
    )+};
}
plain_address!(SocketAddrV4, SocketAddrV6, (IpAddr, u16), (Ipv4Addr, u16), (Ipv6Addr, u16));

impl ToAddress for (&str, u16) {
    fn address(&self) -> io::Result<Result<SocketAddr, (String, u16)>> {
        let (host, port) = *self;
        Ok(match host.parse::<IpAddr>() {
            Ok(ip) => Ok(SocketAddr::new(ip, port)),
            Err(_) => Err((host.to_owned(), port)),
        })
    }
}

impl ToAddress for (String, u16) {
    fn address(&self) -> io::Result<Result<SocketAddr, (String, u16)>> {
        (self.0.as_str(), self.1).address()
    }
}

impl ToAddress for str {
    fn address(&self) -> io::Result<Result<SocketAddr, (String, u16)>> {
        if let Ok(address) = self.parse::<SocketAddr>() {
            return Ok(Ok(address));
        }
        let (host, port) = self.rsplit_once(':').ok_or_else(|| no_port(self))?;
        (host, port.parse().map_err(|_| no_port(self))?).address()
    }
}

impl ToAddress for String {
    fn address(&self) -> io::Result<Result<SocketAddr, (String, u16)>> {
        self.as_str().address()
    }
}

impl<A: ToAddress + ?Sized> ToAddress for &A {
    #[inline(always)]
    fn address(&self) -> io::Result<Result<SocketAddr, (String, u16)>> {
        (**self).address()
    }
}

fn no_port(text: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidInput, format!("{text:?} is not an address: expected host:port"))
}

/// All addresses that `host` stands for.
///
/// ```
/// anteroom::block_on(async {
///     let addresses = anteroom::net::lookup_host("localhost:80").await.unwrap();
///     assert!(addresses.iter().all(|address| address.ip().is_loopback()));
/// });
/// ```
///
/// # Errors
/// What the resolver says, and `InvalidInput` for text that is not an address.
///
/// # Bounds
/// One job of the blocking pool; while the pool is full it waits.
///
/// # Cancel safety
/// Dropped, the lookup goes on and its result is dropped.
pub async fn lookup_host(host: impl ToAddress) -> io::Result<Vec<SocketAddr>> {
    match begin(&host)? {
        Ok(addresses) => Ok(addresses),
        Err(lookup) => lookup.await,
    }
}

type LookUp = Pin<Box<dyn Future<Output = io::Result<Vec<SocketAddr>>> + Send>>;

/// The address if it is one, or else a lookup. No part of the async function above, where the compiler would not see that
/// the branch falls away.
#[inline(always)]
fn begin(host: &impl ToAddress) -> io::Result<Result<Vec<SocketAddr>, LookUp>> {
    Ok(match host.address()? {
        Ok(address) => Ok(vec![address]),
        Err((name, port)) => Err(look_up(name, port)),
    })
}

/// Asks the system's resolver, on the blocking pool.
#[inline(never)]
fn look_up(name: String, port: u16) -> LookUp {
    Box::pin(async move {
        let shown = format!("{name}:{port}");
        let found =
            spawn_blocking(move || (name.as_str(), port).to_socket_addrs().map(Iterator::collect::<Vec<_>>));
        match found.await {
            Ok(Ok(addresses)) if addresses.is_empty() => {
                Err(io::Error::new(io::ErrorKind::NotFound, format!("{shown}: no address for this name")))
            }
            Ok(result) => result.map_err(|error| io::Error::new(error.kind(), format!("{shown}: {error}"))),
            Err(error) => Err(io::Error::other(format!("{shown}: the lookup failed: {error}"))),
        }
    })
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[test]
    fn text_is_an_address_or_a_name_or_an_error_that_names_it() {
        assert_eq!("127.0.0.1:80".address().unwrap(), Ok(([127, 0, 0, 1], 80).into()));
        assert_eq!("[::1]:80".address().unwrap(), Ok((Ipv6Addr::LOCALHOST, 80).into()));
        assert_eq!("example:80".address().unwrap(), Err(("example".to_owned(), 80)));
        for text in ["", "example", "example:", "example:99999", ":x"] {
            let error = text.address().unwrap_err();
            assert!(error.to_string().contains(&format!("{text:?}")), "{error}");
        }
    }
}
