//! From the bytes of a page to its links, without ever holding the page.
//!
//! # Idea
//!
//! [`LinkParser`] is fed chunks as they come from the socket. Underneath, `lol_html` keeps only what may be
//! an unfinished tag, and the elements that are open, and its memory has a limit: a page of 8 MB costs what
//! one of 8 KB does. Each `href` goes through [`resolve`], and what comes out is reported.
//!
//! # What counts as a link
//!
//! `a[href]`, `area[href]`, `iframe[src]` and `frame[src]`: what a reader can follow or sees as a page. Not
//! `link`, `script` and `img`: they load parts of a page. A `base[href]` is obeyed.
//!
//! # Rejected
//!
//! A tree of the page (an `html5ever` document): ten to twenty times the page's size, for a list of strings.

use std::borrow::Cow;
use std::sync::LazyLock;

use lol_html::errors::RewritingError;
use lol_html::html_content::Attribute;
use lol_html::send::{Element, ElementContentHandlers, HtmlRewriter, Settings};
use lol_html::{MemorySettings, Selector};

use crate::paths::{Link, resolve};

/// The most that one page's parser may hold: an unfinished tag, and the elements that are open.
const PARSER_BYTES_MAX: usize = 128 * 1024;

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
                Cow::Borrowed(&*LINKS),
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

#[cfg(test)]
mod tests {
    use std::sync::{Arc, Mutex};

    use super::*;

    const BASE: &str = "/std/vec/index.html";

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
            <script>'<a href=no.html>'</script><link href=no.css><img src=no.png>\
            <a href='#x'>s</a><a href=http://e/>e</a>";
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
