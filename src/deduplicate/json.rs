//! Finds the values at given JSON pointers in one record, in one go over its bytes and without building anything.
//!
//! The grammar of RFC 8259 is checked, but for what lies inside strings that nobody looks at: control characters
//! and what is no UTF-8 are passed over there. Of members with the same name the last one counts.

use memchr::memchr2;

/// Deeper values are refused: the depth of the stack is bounded.
const DEEPEST: usize = 128;

/// Not JSON, or nested too deeply.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct NotJson;

/// What is looked for, as a tree of names.
#[derive(Default)]
pub(super) struct Pointers {
    /// Numbers of the pointers that end here.
    ends: Vec<usize>,
    members: Vec<(String, Pointers)>,
}

impl Pointers {
    /// Pointers as in RFC 6901, numbered in their order.
    pub(super) fn new<'a>(pointers: impl IntoIterator<Item = &'a str>) -> Self {
        let mut root = Self::default();
        for (number, pointer) in pointers.into_iter().enumerate() {
            let names = pointer.split('/').skip(1);
            let end = names.fold(&mut root, |node, name| {
                node.member_mut(name.replace("~1", "/").replace("~0", "~"))
            });
            end.ends.push(number);
        }
        root
    }

    fn member_mut(&mut self, name: String) -> &mut Self {
        let known = self.members.iter().position(|(known, _)| *known == name);
        let at = known.unwrap_or(self.members.len());
        if known.is_none() {
            self.members.push((name, Self::default()));
        }
        &mut self.members[at].1
    }

    fn member(&self, name: &[u8]) -> Option<&Self> {
        let known = self.members.iter().find(|(known, _)| known.as_bytes() == name);
        known.map(|(_, node)| node)
    }

    /// Forgets what was found at and below this node.
    fn forget(&self, found: &mut [Option<&[u8]>]) {
        for end in &self.ends {
            found[*end] = None;
        }
        for (_, node) in &self.members {
            node.forget(found);
        }
    }

    /// Sets in `found`, for each pointer, the bytes of the value there.
    pub(super) fn find<'r>(&self, record: &'r [u8], found: &mut [Option<&'r [u8]>]) -> Result<(), NotJson> {
        found.fill(None);
        let mut scan = Scan { text: record, at: 0 };
        scan.space();
        scan.value(Some(self), found, 0)?;
        scan.space();
        if scan.at == record.len() {
            Ok(())
        } else {
            Err(NotJson)
        }
    }
}

struct Scan<'r> {
    text: &'r [u8],
    at: usize,
}

impl<'r> Scan<'r> {
    fn peek(&self) -> Option<u8> {
        self.text.get(self.at).copied()
    }

    fn space(&mut self) {
        while matches!(self.peek(), Some(b' ' | b'\t' | b'\r' | b'\n')) {
            self.at += 1;
        }
    }

    fn take(&mut self, byte: u8) -> bool {
        let there = self.peek() == Some(byte);
        self.at += usize::from(there);
        there
    }

    fn need(&mut self, byte: u8) -> Result<(), NotJson> {
        if self.take(byte) { Ok(()) } else { Err(NotJson) }
    }

    fn value(
        &mut self,
        wanted: Option<&Pointers>,
        found: &mut [Option<&'r [u8]>],
        depth: usize,
    ) -> Result<(), NotJson> {
        let start = self.at;
        match self.peek().ok_or(NotJson)? {
            b'{' if depth < DEEPEST => self.object(wanted, found, depth + 1)?,
            b'[' if depth < DEEPEST => self.array(wanted, found, depth + 1)?,
            b'"' => self.string().map(drop)?,
            b't' => self.literal(b"true")?,
            b'f' => self.literal(b"false")?,
            b'n' => self.literal(b"null")?,
            b'-' | b'0'..=b'9' => self.number()?,
            _ => return Err(NotJson),
        }
        for end in wanted.iter().flat_map(|node| &node.ends) {
            found[*end] = Some(&self.text[start..self.at]);
        }
        Ok(())
    }

    fn object(
        &mut self,
        wanted: Option<&Pointers>,
        found: &mut [Option<&'r [u8]>],
        depth: usize,
    ) -> Result<(), NotJson> {
        let wanted = wanted.filter(|node| !node.members.is_empty());
        self.at += 1;
        self.space();
        if self.take(b'}') {
            return Ok(());
        }
        loop {
            if self.peek() != Some(b'"') {
                return Err(NotJson);
            }
            let name = self.string()?;
            let member = wanted.and_then(|node| named(node, name));
            self.space();
            self.need(b':')?;
            self.space();
            if let Some(member) = member {
                member.forget(found);
            }
            self.value(member, found, depth)?;
            self.space();
            if !self.take(b',') {
                return self.need(b'}');
            }
            self.space();
        }
    }

    fn array(
        &mut self,
        wanted: Option<&Pointers>,
        found: &mut [Option<&'r [u8]>],
        depth: usize,
    ) -> Result<(), NotJson> {
        let wanted = wanted.filter(|node| !node.members.is_empty());
        self.at += 1;
        self.space();
        if self.take(b']') {
            return Ok(());
        }
        for index in 0_usize.. {
            let element = wanted.and_then(|node| node.member(index.to_string().as_bytes()));
            self.value(element, found, depth)?;
            self.space();
            if !self.take(b',') {
                break;
            }
            self.space();
        }
        self.need(b']')
    }

    /// A string; returns what is between its quotes.
    fn string(&mut self) -> Result<&'r [u8], NotJson> {
        self.at += 1;
        let start = self.at;
        loop {
            let rest = self.text.get(self.at..).ok_or(NotJson)?;
            self.at += memchr2(b'"', b'\\', rest).ok_or(NotJson)?;
            if self.take(b'"') {
                return Ok(&self.text[start..self.at - 1]);
            }
            self.at += match self.text.get(self.at + 1).ok_or(NotJson)? {
                b'"' | b'\\' | b'/' | b'b' | b'f' | b'n' | b'r' | b't' => 2,
                b'u' => {
                    let digits = self.text.get(self.at + 2..self.at + 6).ok_or(NotJson)?;
                    if !digits.iter().all(u8::is_ascii_hexdigit) {
                        return Err(NotJson);
                    }
                    6
                }
                _ => return Err(NotJson),
            };
        }
    }

    fn literal(&mut self, word: &[u8]) -> Result<(), NotJson> {
        if !self.text[self.at..].starts_with(word) {
            return Err(NotJson);
        }
        self.at += word.len();
        Ok(())
    }

    fn number(&mut self) -> Result<(), NotJson> {
        self.take(b'-');
        if !self.take(b'0') {
            self.digits()?;
        }
        if self.take(b'.') {
            self.digits()?;
        }
        if self.take(b'e') || self.take(b'E') {
            let _sign = self.take(b'+') || self.take(b'-');
            self.digits()?;
        }
        Ok(())
    }

    fn digits(&mut self) -> Result<(), NotJson> {
        let start = self.at;
        while matches!(self.peek(), Some(b'0'..=b'9')) {
            self.at += 1;
        }
        if self.at > start { Ok(()) } else { Err(NotJson) }
    }
}

/// The member of this name, which may be written with escapes.
fn named<'p>(node: &'p Pointers, name: &[u8]) -> Option<&'p Pointers> {
    if !name.contains(&b'\\') {
        return node.member(name);
    }
    let quoted = [b"\"", name, b"\""].concat();
    let name: String = serde_json::from_slice(&quoted).ok()?;
    node.member(name.as_bytes())
}
