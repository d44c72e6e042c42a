//! Reads the text out of XML documents.
//!
//! S3 answers in XML, and what stands between S3 and us answers in anything: without one tolerant place that reads
//! it, a proxy's HTML page would break a call in as many ways as there are operations.

use quick_xml::events::Event;
use quick_xml::reader::Reader;

/// Nothing that S3 sends is nested deeper.
const MAX_DEPTH: usize = 16;

/// A document that cannot be read to its end.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Malformed;

/// Calls `visit` at the end of every element, with its path (`Error/Code`; namespaces left out) and the text that
/// stands directly in it. A malformed document is visited up to the place where it breaks.
pub(crate) fn visit_texts(
    document: &[u8],
    mut visit: impl FnMut(&str, String),
) -> Result<(), Malformed> {
    visit_all(document, &mut visit)
}

/// Compiled once for all visitors.
fn visit_all(document: &[u8], visit: &mut dyn FnMut(&str, String)) -> Result<(), Malformed> {
    let document = std::str::from_utf8(document).map_err(|_| Malformed)?;
    let mut reader = Reader::from_str(document);
    let mut path = String::new();
    let mut texts: Vec<String> = Vec::new();
    let mut seen_root = false;
    loop {
        match reader.read_event().map_err(|_| Malformed)? {
            Event::Start(start) => {
                if texts.len() == MAX_DEPTH || (texts.is_empty() && seen_root) {
                    return Err(Malformed);
                }
                seen_root = true;
                enter(&mut path, start.local_name().as_ref())?;
                texts.push(String::new());
            }
            Event::Empty(empty) => {
                if texts.is_empty() && seen_root {
                    return Err(Malformed);
                }
                seen_root = true;
                enter(&mut path, empty.local_name().as_ref())?;
                visit(&path, String::new());
                leave(&mut path);
            }
            Event::End(_) => {
                visit(&path, texts.pop().ok_or(Malformed)?);
                leave(&mut path);
            }
            Event::Text(text) => {
                if let Some(current) = texts.last_mut() {
                    current.push_str(&text.xml10_content());
                }
            }
            Event::CData(data) => {
                if let Some(current) = texts.last_mut() {
                    current.push_str(&data.xml10_content());
                }
            }
            Event::GeneralRef(reference) => {
                let current = texts.last_mut().ok_or(Malformed)?;
                match reference.resolve_char_ref() {
                    Ok(Some(character)) => current.push(character),
                    Ok(None) => current.push_str(
                        quick_xml::escape::resolve_predefined_entity(&reference.xml10_content())
                            .ok_or(Malformed)?,
                    ),
                    Err(_) => return Err(Malformed),
                }
            }
            Event::Eof if seen_root && texts.is_empty() => return Ok(()),
            Event::Eof => return Err(Malformed),
            Event::Comment(_) | Event::Decl(_) | Event::DocType(_) | Event::PI(_) => {}
        }
    }
}

fn enter(path: &mut String, name: &str) -> Result<(), Malformed> {
    // The reader does not judge names, and one such would be two steps of a path.
    if name.contains('/') {
        return Err(Malformed);
    }
    if !path.is_empty() {
        path.push('/');
    }
    path.push_str(name);
    Ok(())
}

fn leave(path: &mut String) {
    path.truncate(path.rfind('/').unwrap_or(0));
}

#[cfg(test)]
mod tests {
    use super::*;

    fn texts(document: &str) -> (Vec<(String, String)>, bool) {
        let mut seen = Vec::new();
        let whole = visit_texts(document.as_bytes(), |path, text| {
            seen.push((path.to_owned(), text));
        });
        (seen, whole.is_ok())
    }

    #[test]
    fn entities_and_cdata_are_resolved() {
        let (seen, whole) = texts("<a><b>x &amp; &#x79;<![CDATA[<z>]]></b></a>");
        assert!(whole);
        assert_eq!(seen[0], ("a/b".to_owned(), "x & y<z>".to_owned()));
    }

    #[test]
    fn what_breaks_off_is_malformed_but_its_beginning_is_seen() {
        let (seen, whole) = texts("<Error><Code>NoSuchKey</Code><Mess");
        assert!(!whole);
        assert_eq!(seen[0].1, "NoSuchKey");
    }

    #[test]
    fn an_empty_root_is_a_whole_document() {
        let (seen, whole) = texts("<?xml version=\"1.0\"?><a xmlns=\"x\"/>");
        assert!(whole);
        assert_eq!(seen, [("a".to_owned(), String::new())]);
    }

    #[test]
    fn a_name_is_one_step_of_a_path_or_malformed() {
        let (seen, whole) = texts("<Error><a/b>x</a/b><Code>y</Code></Error>");
        assert!(!whole);
        assert_eq!(seen, []);
        assert!(!texts("<Error><Code/x></Code/x></Error>").1);
        assert!(!texts("<Error/Code>NoSuchKey</Error/Code>").1);
    }

    #[test]
    fn anything_that_is_not_xml_is_malformed() {
        let deep = "<a>".repeat(1000);
        for garbage in [
            "",
            "no",
            "<",
            "<a></b>",
            "<a/><b/",
            "<a/><b/>",
            "{}",
            "&x;",
            "<a>&nbsp;</a>",
            &deep,
        ] {
            assert!(!texts(garbage).1, "{}", &garbage[..garbage.len().min(20)]);
        }
        assert_eq!(visit_texts(&[b'<', 0xff, b'>'], |_, _| {}), Err(Malformed));
    }
}
