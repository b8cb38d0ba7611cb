//! From the bytes of a page to the paths that it links to, without ever holding the page.
//!
//! # Idea
//!
//! [`LinkParser`] is fed chunks as they come from the socket. Underneath, `lol_html` keeps only what may be
//! an unfinished tag, and its memory has a limit, so a page of 8 MB costs what one of 8 KB does. Each `href`
//! goes through [`resolve`], which maps every way of writing a URL of this site to the one form that the
//! frontier knows:
//!
//! | written on `/std/vec/index.html`                  | means                     |
//! |---------------------------------------------------|---------------------------|
//! | `struct.Vec.html#method.new`, `./struct.Vec.html?q` | `/std/vec/struct.Vec.html` |
//! | `../`, `/std/`, `/std//./vec/../`                 | `/std/index.html`         |
//! | `struct.V%65c.html`, `struct.&#86;ec.html`        | `/std/vec/struct.Vec.html` |
//! | `#examples`, `?q`, nothing at all                 | the same page: no link    |
//! | `https://..`, `//host/..`, `mailto:..`            | elsewhere: no link        |
//! | `%ff.html`, `a%2Fb.html`, 3,000 bytes             | malformed: an error       |
//!
//! # What counts as a link
//!
//! `a[href]`, `area[href]`, `iframe[src]` and `frame[src]`: what a reader can follow or sees as a page. Not
//! `link`, `script` and `img`: they load parts of a page. A `base[href]` is obeyed.
//!
//! # Rejected
//!
//! * A tree of the page (an `html5ever` document): ten to twenty times the page's size, for a list of
//!   strings.
//! * The `url` crate: its URLs keep `%65` and `e` apart, as the standard asks, so that a page would be
//!   fetched twice.

use std::sync::LazyLock;

use lol_html::errors::RewritingError;
use lol_html::html_content::Attribute;
use lol_html::send::{Element, ElementContentHandlers, HtmlRewriter, Settings};
use lol_html::{MemorySettings, Selector};

/// The longest path that the frontier takes, in bytes after decoding.
pub(crate) const PATH_BYTES_MAX: usize = 2_048;

/// The most that one page's parser may hold: an unfinished tag, and the elements that are open.
const PARSER_BYTES_MAX: usize = 128 * 1024;

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

/// Reads one page in chunks and reports each of its links.
pub(crate) struct LinkParser {
    rewriter: HtmlRewriter<'static, fn(&[u8])>,
}

impl LinkParser {
    /// `report` gets each link of the page at `path`, in order; the text only with [`Link::Page`] is a path.
    pub(crate) fn new(path: &str, report: impl FnMut(Link, &str) + Send + 'static) -> Self {
        static LINKS: LazyLock<Selector> =
            LazyLock::new(|| "a[href], area[href], iframe[src], frame[src], base[href]".parse().unwrap());
        let mut extractor = Extractor { base: path.into(), elsewhere: false, path: String::new(), report };
        let on_element = move |element: &mut Element<'_, '_>| {
            extractor.element(element);
            Ok(())
        };
        let settings = Settings::new_send()
            .append_element_content_handler((
                std::borrow::Cow::Borrowed(&*LINKS),
                ElementContentHandlers::default().element(on_element),
            ))
            .with_memory_settings(MemorySettings::new().with_max_allowed_memory_usage(PARSER_BYTES_MAX))
            .with_strict(false);
        LinkParser { rewriter: HtmlRewriter::new(settings, |_: &[u8]| {}) }
    }

    /// Takes the next bytes of the page.
    ///
    /// # Errors
    ///
    /// When a tag or the depth of the page exceeds what a parser may hold; the parser is of no further use.
    pub(crate) fn write(&mut self, chunk: &[u8]) -> Result<(), RewritingError> {
        self.rewriter.write(chunk)
    }
}

/// What the parser's callback knows of its page.
struct Extractor<R> {
    /// What links are relative to: the page's path, or what its `base` says.
    base: String,
    /// The `base` is on another site, and so is every relative link.
    elsewhere: bool,
    /// The path of the current link; kept for its memory.
    path: String,
    report: R,
}

impl<R: FnMut(Link, &str)> Extractor<R> {
    fn element(&mut self, element: &Element<'_, '_>) {
        let tag = element.tag_name();
        let wanted = if tag.ends_with("frame") { "src" } else { "href" };
        let Some(href) = element.attributes().iter().find(|a| a.name() == wanted).map(Attribute::value)
        else {
            return;
        };
        let link = if self.elsewhere { Link::Elsewhere } else { resolve(&self.base, &href, &mut self.path) };
        match (tag.as_str(), link) {
            ("base", Link::Page) => self.base.clone_from(&self.path),
            ("base", Link::Elsewhere) => self.elsewhere = true,
            ("base", _) => {}
            (_, Link::Page) => (self.report)(link, &self.path),
            (_, _) => (self.report)(link, &href),
        }
    }
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
    use std::sync::{Arc, Mutex};

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

    /// The links of a page that arrives in chunks of `chunk` bytes.
    fn links(html: &str, chunk: usize) -> Result<Vec<(Link, String)>, RewritingError> {
        let found = Arc::new(Mutex::new(Vec::new()));
        let sink = found.clone();
        let mut parser =
            LinkParser::new(BASE, move |link, text| sink.lock().unwrap().push((link, text.to_owned())));
        for chunk in html.as_bytes().chunks(chunk) {
            parser.write(chunk)?;
        }
        drop(parser);
        Ok(Arc::into_inner(found).unwrap().into_inner().unwrap())
    }

    #[test]
    fn links_are_found_wherever_the_chunks_end() {
        let html = "<!-- <a href=no.html> --><p><a class=x href='a.html'>A</a><A HREF=b.html>B</A>\
            <iframe src=\"toc.html\"></iframe><area href=c.html><a name=x>no</a>\
            <script>'<a href=no.html>'</script><link href=no.css><img src=no.png><a href='#x'>s</a><a href=http://e/>e</a>";
        let paths = |names: &[&str]| {
            names.iter().map(|n| (Link::Page, format!("/std/vec/{n}.html"))).collect::<Vec<_>>()
        };
        let mut expected = paths(&["a", "b", "toc", "c"]);
        expected.push((Link::SamePage, "#x".into()));
        expected.push((Link::Elsewhere, "http://e/".into()));
        for chunk in 1..html.len() {
            assert_eq!(links(html, chunk).unwrap(), expected, "in chunks of {chunk}");
        }
    }

    #[test]
    fn a_base_moves_the_links_after_it() {
        let html = "<a href=a.html></a><base href=/book/><a href=b.html></a>";
        let found = links(html, 64).unwrap();
        assert_eq!(found, [(Link::Page, "/std/vec/a.html".into()), (Link::Page, "/book/b.html".into())]);
        let found = links("<base href=https://elsewhere/><a href=b.html></a>", 64).unwrap();
        assert_eq!(found, [(Link::Elsewhere, "b.html".into())]);
    }

    #[test]
    fn garbage_is_parsed_without_a_panic() {
        const GARBAGE: &[u8] = b"<a href=\"'>/!-&;%\0\xff \n";
        let mut state = 1_u32;
        let garbage: String = (0..100_000)
            .map(|_| {
                state = state.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                char::from(GARBAGE[(state >> 24) as usize % GARBAGE.len()])
            })
            .collect();
        // Whatever it finds: an error is allowed, a panic is not.
        let _ = links(&garbage, 777);
    }

    #[test]
    fn a_tag_above_the_limit_is_an_error_and_a_long_text_is_not() {
        let tag = format!("<a href='{}'>", "a".repeat(2 * PARSER_BYTES_MAX));
        assert!(links(&tag, 8_192).is_err());
        let text = format!("<p>{}<a href=a.html>", "a".repeat(4 * PARSER_BYTES_MAX));
        assert_eq!(links(&text, 8_192).unwrap().len(), 1);
    }
}
