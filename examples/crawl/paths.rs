//! The one form of a path that the frontier knows, whichever way a link to it is written.
//!
//! | written on `/std/vec/index.html`                    | means                      |
//! |-----------------------------------------------------|----------------------------|
//! | `struct.Vec.html#method.new`, `./struct.Vec.html?q` | `/std/vec/struct.Vec.html` |
//! | `../`, `/std/`, `/std//./vec/../`                   | `/std/index.html`          |
//! | `struct.V%65c.html`, `struct.&#86;ec.html`          | `/std/vec/struct.Vec.html` |
//! | `#examples`, `?q`, nothing at all                   | the same page: no link     |
//! | `https://..`, `//host/..`, `mailto:..`              | elsewhere: no link         |
//! | `%ff.html`, `a%2Fb.html`, 3,000 bytes               | malformed: an error        |
//!
//! # Rejected
//!
//! The `url` crate: its URLs keep `%65` and `e` apart, as the standard asks, so that a page would be fetched
//! twice.

/// The longest path that the frontier takes, in bytes after decoding.
pub(crate) const PATH_BYTES_MAX: usize = 2_048;

/// What one `href` turned out to be.
#[derive(Debug, PartialEq, Clone, Copy)]
pub(crate) enum Link {
    /// A page of this site; its path is in the buffer.
    Page,
    /// The page that it stands on.
    SamePage,
    /// Another site, or no page at all.
    Elsewhere,
    /// Nothing that could name a page.
    Malformed,
}

/// Resolves `href` as it stands in the source of the page at `base`, and leaves the path in `path`.
///
/// # Panics
///
/// When `base` is not an absolute path: it comes from here.
pub(crate) fn resolve(base: &str, href: &str, path: &mut String) -> Link {
    path.clear();
    if href.contains('&') {
        return resolve_text(base, &unescape(href), path);
    }
    resolve_text(base, href, path)
}

/// The same once character references are gone: plain URL text.
fn resolve_text(base: &str, href: &str, path: &mut String) -> Link {
    if href.contains(['\t', '\n', '\r']) {
        // A URL that is broken over lines is whole again without them, says the URL standard.
        return resolve_text(base, &href.replace(['\t', '\n', '\r'], ""), path);
    }
    let href = href.trim_matches(|c: char| c.is_ascii_control() || c == ' ');
    if href.is_empty() || href.starts_with(['#', '?']) {
        return Link::SamePage;
    }
    if href.starts_with("//") || has_scheme(href) {
        return Link::Elsewhere;
    }
    let href = href.split(['#', '?']).next().unwrap_or_default();
    if !href.starts_with('/') {
        let folder = base.rfind('/').expect("a base is an absolute path");
        path.push_str(&base[..folder]);
    }
    let mut folder = false;
    for segment in href.split('/') {
        folder = match push_segment(segment, path) {
            Some(Segment::Name) => false,
            Some(Segment::Dots) => true,
            None => return Link::Malformed,
        };
    }
    if folder {
        path.push_str("/index.html");
    }
    if path.len() > PATH_BYTES_MAX { Link::Malformed } else { Link::Page }
}

enum Segment {
    Name,
    /// Nothing, one dot or two: what it leaves is a folder.
    Dots,
}

/// Applies one segment to a path that ends without a slash. None if it cannot be part of one.
fn push_segment(segment: &str, path: &mut String) -> Option<Segment> {
    let decoded;
    let segment = if segment.contains('%') {
        decoded = String::from_utf8(percent_decode(segment)).ok()?;
        &decoded
    } else {
        segment
    };
    match segment {
        "" | "." => Some(Segment::Dots),
        ".." => {
            path.truncate(path.rfind('/').unwrap_or(0));
            Some(Segment::Dots)
        }
        // A slash that was escaped is part of a name, and no file has such a name.
        _ if segment.contains(['/', '\0']) => None,
        _ => {
            path.push('/');
            path.push_str(segment);
            Some(Segment::Name)
        }
    }
}

/// Each `%41` as the byte that it stands for; a `%` before anything else stays.
pub(crate) fn percent_decode(text: &str) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((&byte, tail)) = rest.split_first() {
        let escaped = match (byte, tail) {
            (b'%', [high, low, ..]) => hex(*high).zip(hex(*low)).map(|(high, low)| (high << 4) | low),
            _ => None,
        };
        bytes.push(escaped.unwrap_or(byte));
        rest = if escaped.is_some() { &tail[2..] } else { tail };
    }
    bytes
}

fn hex(digit: u8) -> Option<u8> {
    char::from(digit).to_digit(16).map(|value| value as u8)
}

/// `mailto:`, `https:`, `C:`: letters, then a colon before anything that only a path can have.
fn has_scheme(href: &str) -> bool {
    let Some((scheme, _)) = href.split_once(':') else { return false };
    scheme.starts_with(|c: char| c.is_ascii_alphabetic())
        && scheme.chars().all(|c| c.is_ascii_alphanumeric() || matches!(c, '+' | '-' | '.'))
}

/// Character references, which the parser leaves as they stand: those by number, and the five that escape
/// markup.
fn unescape(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('&') {
        out.push_str(&rest[..at]);
        rest = &rest[at + 1..];
        let name = rest.find(';').map(|end| &rest[..end]);
        match name.and_then(|name| reference(name).map(|c| (c, name.len()))) {
            Some((c, len)) => {
                out.push(c);
                rest = &rest[len + 1..];
            }
            None => out.push('&'),
        }
    }
    out.push_str(rest);
    out
}

fn reference(name: &str) -> Option<char> {
    match name {
        "amp" => Some('&'),
        "lt" => Some('<'),
        "gt" => Some('>'),
        "quot" => Some('"'),
        "apos" => Some('\''),
        _ => {
            let number = name.strip_prefix('#')?;
            let code = match number.strip_prefix(['x', 'X']) {
                Some(hex) => u32::from_str_radix(hex, 16).ok()?,
                None => number.parse().ok()?,
            };
            char::from_u32(code)
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const BASE: &str = "/std/vec/index.html";

    fn path(href: &str) -> String {
        let mut path = "left over".into();
        assert_eq!(resolve(BASE, href, &mut path), Link::Page, "{href:?}");
        path
    }

    fn kind(href: &str) -> Link {
        resolve(BASE, href, &mut String::new())
    }

    #[test]
    fn relative_links_start_at_the_folder_of_the_page() {
        assert_eq!(path("struct.Vec.html"), "/std/vec/struct.Vec.html");
        assert_eq!(path("./struct.Vec.html"), "/std/vec/struct.Vec.html");
        assert_eq!(path("../string/struct.String.html"), "/std/string/struct.String.html");
        assert_eq!(path("/book/a.html"), "/book/a.html");
    }

    #[test]
    fn query_and_fragment_are_not_part_of_a_page() {
        assert_eq!(path("struct.Vec.html#method.new"), "/std/vec/struct.Vec.html");
        assert_eq!(path("struct.Vec.html?search=a/../b#c?d"), "/std/vec/struct.Vec.html");
    }

    #[test]
    fn a_folder_means_its_index() {
        assert_eq!(path("../"), "/std/index.html");
        assert_eq!(path(".."), "/std/index.html");
        assert_eq!(path("."), "/std/vec/index.html");
        assert_eq!(path("/"), "/index.html");
        assert_eq!(path("iter/#x"), "/std/vec/iter/index.html");
        // Only the server knows whether this is a folder; it redirects.
        assert_eq!(path("iter"), "/std/vec/iter");
    }

    #[test]
    fn one_page_has_one_form() {
        for href in [
            "/a/b.html",
            "//a/b.html".trim_start_matches('/'),
            "/a//b.html",
            "/x/../a/./b.html",
            "/%61/b.html",
        ] {
            assert_eq!(resolve("/index.html", href, &mut String::new()), Link::Page);
            let mut path = String::new();
            resolve("/index.html", href, &mut path);
            assert_eq!(path, "/a/b.html", "{href}");
        }
        assert_eq!(path("%2e%2E/%2e/"), "/std/index.html");
    }

    #[test]
    fn no_number_of_dots_leaves_the_site() {
        assert_eq!(path("../../../../../etc/passwd"), "/etc/passwd");
        assert_eq!(path("/../.."), "/index.html");
    }

    #[test]
    fn text_is_decoded_once_and_consistently() {
        assert_eq!(path("a%20b.html"), "/std/vec/a b.html");
        assert_eq!(path("a b.html"), "/std/vec/a b.html");
        assert_eq!(path("%C3%A9.html"), "/std/vec/é.html");
        assert_eq!(path("é.html"), "/std/vec/é.html");
        assert_eq!(path("%2541.html"), "/std/vec/%41.html");
        assert_eq!(path("100%.html"), "/std/vec/100%.html");
        assert_eq!(path("%zz%4.html"), "/std/vec/%zz%4.html");
        assert_eq!(path("a%3Fb%23c.html"), "/std/vec/a?b#c.html");
    }

    #[test]
    fn character_references_are_resolved() {
        assert_eq!(path("a&amp;b.html"), "/std/vec/a&b.html");
        assert_eq!(path("&#x2F;a&#46;html"), "/a.html");
        assert_eq!(path("a&nosuch;b&.html"), "/std/vec/a&nosuch;b&.html");
        assert_eq!(path("a&#1114112;"), "/std/vec/a&");
    }

    #[test]
    fn white_space_around_and_inside_is_dropped() {
        assert_eq!(path(" \n a.html\t"), "/std/vec/a.html");
        assert_eq!(path("a.\n\thtml"), "/std/vec/a.html");
    }

    #[test]
    fn a_fragment_or_nothing_is_the_same_page() {
        for href in ["", "#", "#top", "?x", " #1 "] {
            assert_eq!(kind(href), Link::SamePage, "{href:?}");
        }
    }

    #[test]
    fn other_sites_and_schemes_are_elsewhere() {
        for href in
            ["https://a/b", "HTTP://a", "//a/b", "mailto:a@b", "javascript:void(0)", "data:text/html,x"]
        {
            assert_eq!(kind(href), Link::Elsewhere, "{href:?}");
        }
        assert_eq!(path("a/b:c.html"), "/std/vec/a/b:c.html");
        assert_eq!(path("./b:c.html"), "/std/vec/b:c.html");
        assert_eq!(path("1:2.html"), "/std/vec/1:2.html");
    }

    #[test]
    fn what_cannot_name_a_page_is_malformed() {
        for href in ["%ff.html", "a%2Fb.html", "a%00.html"] {
            assert_eq!(kind(href), Link::Malformed, "{href:?}");
        }
        assert_eq!(kind(&"a".repeat(PATH_BYTES_MAX)), Link::Malformed);
    }
}
