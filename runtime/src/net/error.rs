//! What an error says, and whose matter it is.

use std::io;
use std::net::SocketAddr;

use crate::driver::SHORTAGES;

/// Whether files or memory have run out: the machine's matter, which the next try will meet as well.
pub(super) fn is_shortage(error: &io::Error) -> bool {
    error.raw_os_error().is_some_and(|code| SHORTAGES.contains(&code))
}

/// Names the address that an error is about. A shortage is about none, and stays as it is.
pub(super) fn at(address: SocketAddr, error: io::Error) -> io::Error {
    if is_shortage(&error) {
        return error;
    }
    io::Error::new(error.kind(), format!("{address}: {error}"))
}

#[cfg(all(test, not(anteroom_loom)))]
mod tests {
    use super::*;

    #[cfg(target_os = "linux")]
    #[test]
    fn a_shortage_is_what_the_system_calls_so() {
        for code in [libc::ENOMEM, libc::ENFILE, libc::EMFILE, libc::ENOBUFS] {
            let error = at(([127, 0, 0, 1], 80).into(), io::Error::from_raw_os_error(code));
            assert!(is_shortage(&error), "{error}");
            assert_eq!(error.raw_os_error(), Some(code), "it is named after no address");
        }
        for code in [libc::ECONNABORTED, libc::EINTR, libc::EAGAIN, libc::EPERM, libc::EINVAL] {
            assert!(!is_shortage(&io::Error::from_raw_os_error(code)));
        }
    }

    #[test]
    fn an_error_names_its_address_and_keeps_its_kind() {
        let error = at(([127, 0, 0, 1], 80).into(), io::ErrorKind::ConnectionRefused.into());
        assert_eq!(error.to_string(), "127.0.0.1:80: connection refused");
        assert_eq!(error.kind(), io::ErrorKind::ConnectionRefused);
    }
}
