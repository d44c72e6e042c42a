//! The text of a shared AWS file, read as the AWS SDK for Go reads it, line by line.
//!
//! Every tool reads these files in a way of its own. Read more strictly, a file that Terraform takes would be refused;
//! read more loosely, a key behind a broken header would end up in another profile.

use zeroize::Zeroizing;

/// Sections by name; the name is the header's, blanks between its two words collapsed.
pub(super) type Sections = Named<Section>;

/// The properties of a section, by name in lower case. Values may be secret, so there is no `Debug`.
pub(super) type Section = Named<Property>;

/// A property.
#[derive(Clone, Default)]
pub(super) struct Property {
    pub(super) value: Zeroizing<String>,
    /// Indented properties under one without a value, by name in lower case.
    pub(super) nested: Named<String>,
}

/// A few values by name. A list: trees of all these types would be a twentieth of the component.
#[derive(Clone)]
pub(super) struct Named<T>(Vec<(String, T)>);

impl<T> Default for Named<T> {
    fn default() -> Self {
        Self(Vec::new())
    }
}

impl<T> Named<T> {
    pub(super) fn get(&self, name: &str) -> Option<&T> {
        let (_, value) = self.0.iter().find(|(known, _)| known == name)?;
        Some(value)
    }

    pub(super) fn get_mut(&mut self, name: &str) -> Option<&mut T> {
        let (_, value) = self.0.iter_mut().find(|(known, _)| known == name)?;
        Some(value)
    }

    /// Takes the place of a value of that name.
    pub(super) fn put(&mut self, name: String, value: T) {
        match self.get_mut(&name) {
            Some(known) => *known = value,
            None => self.0.push((name, value)),
        }
    }

    pub(super) fn forget(&mut self, names: &[&str]) {
        self.0.retain(|(name, _)| !names.contains(&name.as_str()));
    }

    /// In the order of first mention.
    pub(super) fn into_pairs(self) -> Vec<(String, T)> {
        self.0
    }
}

/// Reads a file. There is no error: what makes no sense is passed over.
pub(super) fn parse(text: &str) -> Sections {
    let mut reader = Reader::default();
    for line in text.split('\n').map(|line| line.trim_end_matches('\r')) {
        let start = line.trim_start_matches(BLANK);
        if line.trim().is_empty() || start.starts_with(['#', ';']) {
            continue;
        }
        if let Some(name) = header(line) {
            reader.open(name);
        } else if start.len() == line.len() {
            let line = without_comment(line).trim_end_matches(BLANK);
            if let Some((name, value)) = split_property(line) {
                reader.set(name, value);
            }
        } else if let Some((name, value)) = split_property(start) {
            reader.nest(name, value);
        } else {
            reader.go_on(start);
        }
    }
    reader.sections
}

const BLANK: [char; 2] = [' ', '\t'];

/// What was read, and where the next line belongs.
#[derive(Default)]
struct Reader {
    sections: Sections,
    /// None: before the first header, or behind one without a name.
    section: Option<String>,
    /// The last property of the section.
    property: Option<String>,
}

impl Reader {
    fn open(&mut self, name: String) {
        self.property = None;
        self.section = None;
        if !name.is_empty() {
            if self.sections.get(&name).is_none() {
                self.sections.put(name.clone(), Section::default());
            }
            self.section = Some(name);
        }
    }

    fn set(&mut self, name: String, value: &str) {
        if let Some(section) = self.current() {
            let property = Property {
                value: Zeroizing::new(value.to_owned()),
                nested: Named::default(),
            };
            section.put(name.clone(), property);
            self.property = Some(name);
        }
    }

    /// An indented property belongs to the one above only if that has no value; a file that is indented throughout means
    /// ordinary ones.
    fn nest(&mut self, name: String, value: &str) {
        match self.last() {
            Some(property) if property.value.is_empty() => {
                property.nested.put(name, value.to_owned());
            }
            _ => self.set(name, without_comment(value).trim()),
        }
    }

    /// An indented line without a property continues the value above.
    fn go_on(&mut self, text: &str) {
        if let Some(property) = self.last().filter(|it| !it.value.is_empty()) {
            let longer = Zeroizing::new(format!("{}\n{text}", *property.value));
            property.value = longer;
        }
    }

    fn current(&mut self) -> Option<&mut Section> {
        self.sections.get_mut(self.section.as_ref()?)
    }

    fn last(&mut self) -> Option<&mut Property> {
        let name = self.property.clone()?;
        self.current()?.get_mut(&name)
    }
}

/// The name in a header. A `#` or `;` ends the line even inside the brackets, and a header cut so is none.
fn header(line: &str) -> Option<String> {
    let line = line.split(['#', ';']).next().unwrap_or_default().trim();
    let name = line.strip_prefix('[')?.strip_suffix(']')?.trim();
    Some(match name.split_once(BLANK) {
        Some((kind, rest)) => format!("{kind} {}", rest.trim_start_matches(BLANK)),
        None => name.to_owned(),
    })
}

/// Cuts a comment off: a `#` or `;` behind a blank. One that stands close belongs to the value.
fn without_comment(line: &str) -> &str {
    let bytes = line.as_bytes();
    let is_start = |pair: &[u8]| matches!(pair, [b' ' | b'\t', b'#' | b';']);
    let end = bytes.windows(2).position(is_start);
    end.map_or(line, |end| &line[..end])
}

/// Name, in lower case, and value, out of its quotes. The first of `=` and `:` separates them.
fn split_property(line: &str) -> Option<(String, &str)> {
    let (name, value) = line.split_once(['=', ':'])?;
    let value = value.trim();
    let unquoted = ['"', '\'']
        .into_iter()
        .find_map(|quote| value.strip_prefix(quote)?.strip_suffix(quote));
    Some((name.trim().to_ascii_lowercase(), unquoted.unwrap_or(value)))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Everything in a file, one line a value: `section|name=value`, `section|name.nested=value`.
    fn read(text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        for (section, properties) in parse(text).into_pairs() {
            let properties = properties.into_pairs();
            if properties.is_empty() {
                lines.push(format!("{section}|"));
            }
            for (name, property) in properties {
                let nested = property.nested.into_pairs();
                if nested.is_empty() {
                    lines.push(format!("{section}|{name}={}", *property.value));
                }
                for (nested, value) in nested {
                    lines.push(format!("{section}|{name}.{nested}={value}"));
                }
            }
        }
        lines.sort();
        lines
    }

    #[test]
    fn files_are_read_as_the_go_sdk_reads_them() {
        let table: &[(&str, &str, &[&str])] = &[
            (
                "a plain file",
                "[a]\nk = v\n\n[b]\nl=w",
                &["a|k=v", "b|l=w"],
            ),
            ("line ends of Windows", "[a]\r\nk = v\r\n", &["a|k=v"]),
            ("names in lower case", "[A]\nKey = V", &["A|key=V"]),
            ("an indented header", "  [a]\nk=v", &["a|k=v"]),
            (
                "blanks in a header",
                "[ profile \t x y ]\nk=v",
                &["profile x y|k=v"],
            ),
            ("a comment behind a header", "[a] # c\nk=v", &["a|k=v"]),
            ("a comment in a header", "[a]\n[b#c]\nk=v", &["a|k=v"]),
            ("junk behind a header", "[a]\n[b] junk\nk=v", &["a|k=v"]),
            ("a header that does not end", "[a]\n[b\nk=v", &["a|k=v"]),
            ("a header without a name", "[a]\n[]\nk=v", &["a|"]),
            (
                "a mark of byte order",
                "\u{feff}[a]\nk=v\n[b]\nl=w",
                &["b|l=w"],
            ),
            ("quotes in a header", "[\"a\"]\nk=v", &["\"a\"|k=v"]),
            ("lines of comments", "# [a]\n[a]\n  ; k=v\n#k=v", &["a|"]),
            (
                "a comment behind a value",
                "[a]\nk=v # c\nl=w\t;c",
                &["a|k=v", "a|l=w"],
            ),
            (
                "no comment",
                "[a]\nk=https://h/start#/\nl=a;b",
                &["a|k=https://h/start#/", "a|l=a;b"],
            ),
            (
                "the first separator",
                "[a]\nk: v=w\nl = x:y",
                &["a|k=v=w", "a|l=x:y"],
            ),
            (
                "quotes",
                "[a]\nk=\"v w\"\nl='x'\nm=\"y\nn='z\"",
                &["a|k=v w", "a|l=x", "a|m=\"y", "a|n='z\""],
            ),
            ("a lone quote", "[a]\nk=\"\nl=\"\"", &["a|k=\"", "a|l="]),
            ("before a header", "k=v\n[a]\nl=w", &["a|l=w"]),
            ("no separator", "[a]\nword\nk=v", &["a|k=v"]),
            (
                "names with blanks and without letters",
                "[a]\nk k=v\n=w",
                &["a|=w", "a|k k=v"],
            ),
            ("a repeated property", "[a]\nk=v\nk=w", &["a|k=w"]),
            (
                "a repeated section",
                "[a]\nk=v\nl=v\n[b]\n[a]\nk=w",
                &["a|k=w", "a|l=v", "b|"],
            ),
            (
                "nested properties",
                "[a]\ns3 =\n  Url = u # c\n  x='y'\nk=v",
                &["a|k=v", "a|s3.url=u # c", "a|s3.x=y"],
            ),
            (
                "an indented property under a value",
                "[a]\nk=v\n  l=w # c\n",
                &["a|k=v", "a|l=w"],
            ),
            (
                "a file indented throughout",
                "  [a]\n  k=v\n  l = w\n",
                &["a|k=v", "a|l=w"],
            ),
            (
                "a command that goes on with an option",
                "[a]\ncredential_process = run\n  --arg=1\n",
                &["a|--arg=1", "a|credential_process=run"],
            ),
            (
                "a value that goes on",
                "[a]\nk = v\n  w x \n",
                &["a|k=v\nw x "],
            ),
            (
                "nothing to go on with",
                "[a]\n  word\nk =\n  word\n",
                &["a|k="],
            ),
            (
                "an indented property under a nested one",
                "[a]\nk =\n  l =\n  m = n\n",
                &["a|k.l=", "a|k.m=n"],
            ),
        ];
        for (what, text, expected) in table {
            assert_eq!(read(text), *expected, "{what}");
        }
    }

    /// A file that says what was read.
    fn written(sections: Sections) -> String {
        let mut text = String::new();
        for (section, properties) in sections.into_pairs() {
            text += &format!("[{section}]\n");
            for (name, property) in properties.into_pairs() {
                let nested = property.nested.into_pairs();
                // What goes on in a further line does so behind a blank.
                let value = property.value.replace('\n', "\n ");
                text += &format!("{name} = {value}\n");
                for (name, value) in nested {
                    text += &format!("  {name} = {value}\n");
                }
            }
        }
        text
    }

    #[test]
    fn a_file_that_is_read_can_be_written_and_read_the_same() {
        const WORDS: &[&str] = &[
            "[profile ",
            "[default]",
            "]",
            "\n",
            "\r\n",
            "  ",
            "\t",
            " = ",
            "=",
            ":",
            " #",
            ";",
            "#",
            "\"",
            "'",
            "aws_access_key_id",
            "s3 =\n  endpoint_url = u\n",
            "\n  more",
            "\u{feff}",
            "\u{a0}",
            "\u{2003}",
        ];
        cofferdam_fuzz::Target::new("ini", WORDS).run(|input| {
            let text = String::from_utf8_lossy(input);
            let sections = read(&text);
            assert!(
                sections.concat().len() <= text.len() * 40 + 100,
                "more than was there"
            );
            // Values that quotes or comments would change can't be written: this file knows no escapes.
            let is_plain = !text.contains(['"', '\'', '#', ';', '\r']);
            let is_ascii = text.is_ascii()
                && !text.contains(|it: char| it.is_control() && it != '\n' && it != '\t');
            if is_plain && is_ascii && !text.contains("\n=") && !text.contains("[]") {
                let again = read(&written(parse(&text)));
                assert_eq!(again, sections, "{text:?}");
            }
            let kinds = sections.iter().map(|line| {
                let nested = line
                    .split('=')
                    .next()
                    .is_some_and(|name| name.contains('.'));
                (
                    nested,
                    line.contains('\n'),
                    line.ends_with('|'),
                    line.ends_with('='),
                )
            });
            cofferdam_fuzz::outcome(kinds.take(6).collect::<Vec<_>>())
        });
    }

    #[test]
    fn no_text_makes_the_reader_panic() {
        let pieces = [
            "[", "]", "#", " ", "\n", "=", "\"", "é", "k", "\t", ";", ":",
        ];
        for number in 0..pieces.len().pow(5) {
            let mut rest = number;
            let mut text = String::new();
            for _ in 0..5 {
                text.push_str(pieces[rest % pieces.len()]);
                rest /= pieces.len();
            }
            parse(&text);
        }
    }
}
