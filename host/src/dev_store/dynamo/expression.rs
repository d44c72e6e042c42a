//! Condition and projection expressions: the part of their language that locks are made of.
//!
//! Without this module the conditions of a lock would be recognised by their spelling, and one that is spelled
//! differently would be let through. Whatever is not understood here is refused, never skipped.

use std::cell::RefCell;
use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::{Error, Item};

/// The most bytes of an expression; DynamoDB's number.
const LONGEST: usize = 4096;

/// How deep parentheses and `NOT` may be nested.
const DEEPEST: u32 = 100;

/// A condition on an item, which may be absent.
#[derive(Debug, PartialEq)]
pub(super) enum Condition {
    And(Box<Condition>, Box<Condition>),
    Equal(Operand, Operand),
    Exists(String),
    Not(Box<Condition>),
    Or(Box<Condition>, Box<Condition>),
}

#[derive(Debug, PartialEq)]
pub(super) enum Operand {
    Attribute(String),
    Value(Value),
}

impl Condition {
    /// `which` names the request's field in messages.
    pub(super) fn parse(
        which: &'static str,
        text: &str,
        placeholders: &Placeholders<'_>,
    ) -> Result<Self, Error> {
        let mut parser = Parser::new(which, text, placeholders)?;
        let condition = parser.alternatives(0)?;
        parser.end()?;
        Ok(condition)
    }

    pub(super) fn holds(&self, item: Option<&Item>) -> bool {
        match self {
            Self::And(one, other) => one.holds(item) && other.holds(item),
            Self::Equal(one, other) => match (one.value(item), other.value(item)) {
                (Some(one), Some(other)) => one == other,
                _ => false,
            },
            Self::Exists(name) => item.is_some_and(|item| item.contains_key(name)),
            Self::Not(inner) => !inner.holds(item),
            Self::Or(one, other) => one.holds(item) || other.holds(item),
        }
    }
}

impl Operand {
    fn value<'a>(&'a self, item: Option<&'a Item>) -> Option<&'a Value> {
        match self {
            Self::Attribute(name) => item?.get(name),
            Self::Value(value) => Some(value),
        }
    }
}

/// The attributes that a `ProjectionExpression` names.
pub(super) fn projection(
    text: &str,
    placeholders: &Placeholders<'_>,
) -> Result<Vec<String>, Error> {
    let mut parser = Parser::new("ProjectionExpression", text, placeholders)?;
    let mut names = vec![parser.attribute()?];
    while parser.take(&Token::Comma) {
        names.push(parser.attribute()?);
    }
    parser.end()?;
    Ok(names)
}

/// What `#name` and `:value` stand for in the expressions of one request.
pub(super) struct Placeholders<'a> {
    names: Option<&'a Map<String, Value>>,
    values: Option<&'a Map<String, Value>>,
    used: RefCell<BTreeSet<String>>,
}

impl<'a> Placeholders<'a> {
    pub(super) fn new(
        names: Option<&'a Map<String, Value>>,
        values: Option<&'a Map<String, Value>>,
    ) -> Self {
        Self {
            names,
            values,
            used: RefCell::default(),
        }
    }

    /// Refuses what no expression has asked for, as DynamoDB does: it is mostly a slip.
    pub(super) fn all_used(&self) -> Result<(), Error> {
        let used = self.used.borrow();
        let sets = [
            ("ExpressionAttributeNames", self.names),
            ("ExpressionAttributeValues", self.values),
        ];
        for (which, given) in sets {
            let Some(given) = given else { continue };
            if given.is_empty() {
                return Err(Error::validation(format!("{which} must not be empty")));
            }
            if let Some(unused) = given.keys().find(|name| !used.contains(*name)) {
                return Err(Error::validation(format!(
                    "Value provided in {which} unused in expressions: keys: {{{unused}}}"
                )));
            }
        }
        Ok(())
    }

    fn get(&self, which: &str, token: &str) -> Result<&'a Value, Error> {
        let (given, what, kind) = if token.starts_with('#') {
            (self.names, "name", "attribute name")
        } else {
            (self.values, "value", "attribute value")
        };
        self.used.borrow_mut().insert(token.to_owned());
        given.and_then(|given| given.get(token)).ok_or_else(|| {
            Error::validation(format!(
                "Invalid {which}: An expression attribute {what} used in the expression is not defined; \
                 {kind}: {token}"
            ))
        })
    }
}

#[derive(Debug, PartialEq)]
enum Token<'a> {
    Close,
    Comma,
    Equal,
    NotEqual,
    Open,
    /// A name, a keyword, `#name` or `:value`.
    Word(&'a str),
}

struct Parser<'a> {
    which: &'static str,
    placeholders: &'a Placeholders<'a>,
    tokens: Vec<Token<'a>>,
    next: usize,
}

impl<'a> Parser<'a> {
    fn new(
        which: &'static str,
        text: &'a str,
        placeholders: &'a Placeholders<'a>,
    ) -> Result<Self, Error> {
        let invalid = |why: &str| Error::validation(format!("Invalid {which}: {why}"));
        if text.len() > LONGEST {
            return Err(invalid(
                "Expression size has exceeded the maximum allowed size",
            ));
        }
        let mut tokens = Vec::new();
        let mut rest = text.trim_start();
        if rest.is_empty() {
            return Err(invalid("The expression can not be empty;"));
        }
        while let Some(first) = rest.chars().next() {
            let (token, length) = match first {
                '(' => (Token::Open, 1),
                ')' => (Token::Close, 1),
                ',' => (Token::Comma, 1),
                '=' => (Token::Equal, 1),
                '<' if rest.starts_with("<>") => (Token::NotEqual, 2),
                '#' | ':' | '_' | 'a'..='z' | 'A'..='Z' => {
                    let inner = |letter: char| letter.is_ascii_alphanumeric() || letter == '_';
                    let end = rest[1..].find(|letter| !inner(letter));
                    let length = end.map_or(rest.len(), |end| end + 1);
                    (Token::Word(&rest[..length]), length)
                }
                other => {
                    return Err(invalid(&format!("Syntax error; token: \"{other}\"")));
                }
            };
            tokens.push(token);
            rest = rest[length..].trim_start();
        }
        Ok(Self {
            which,
            placeholders,
            tokens,
            next: 0,
        })
    }

    fn alternatives(&mut self, depth: u32) -> Result<Condition, Error> {
        let mut condition = self.conjunction(depth)?;
        while self.take_keyword("OR") {
            let other = self.conjunction(depth)?;
            condition = Condition::Or(Box::new(condition), Box::new(other));
        }
        Ok(condition)
    }

    fn conjunction(&mut self, depth: u32) -> Result<Condition, Error> {
        let mut condition = self.term(depth)?;
        while self.take_keyword("AND") {
            let other = self.term(depth)?;
            condition = Condition::And(Box::new(condition), Box::new(other));
        }
        Ok(condition)
    }

    fn term(&mut self, depth: u32) -> Result<Condition, Error> {
        if depth > DEEPEST {
            return Err(self.invalid("The expression is nested too deeply"));
        }
        if self.take_keyword("NOT") {
            return Ok(Condition::Not(Box::new(self.term(depth + 1)?)));
        }
        if self.take(&Token::Open) {
            let inner = self.alternatives(depth + 1)?;
            self.expect(&Token::Close)?;
            return Ok(inner);
        }
        for (function, exists) in [("attribute_exists", true), ("attribute_not_exists", false)] {
            if self.peek() != Some(&Token::Word(function)) {
                continue;
            }
            self.next += 1;
            self.expect(&Token::Open)?;
            let exists_test = Condition::Exists(self.attribute()?);
            self.expect(&Token::Close)?;
            return Ok(if exists {
                exists_test
            } else {
                Condition::Not(Box::new(exists_test))
            });
        }
        let left = self.operand()?;
        let negated = match self.advance() {
            Some(Token::Equal) => false,
            Some(Token::NotEqual) => true,
            _ => return Err(self.unexpected()),
        };
        let equal = Condition::Equal(left, self.operand()?);
        Ok(if negated {
            Condition::Not(Box::new(equal))
        } else {
            equal
        })
    }

    fn operand(&mut self) -> Result<Operand, Error> {
        match self.peek() {
            Some(Token::Word(word)) if word.starts_with(':') => {
                let value = self.placeholders.get(self.which, word)?.clone();
                self.next += 1;
                Ok(Operand::Value(value))
            }
            _ => Ok(Operand::Attribute(self.attribute()?)),
        }
    }

    /// The name of an attribute of the item itself: paths into lists and maps are refused by the first `.` or `[`.
    fn attribute(&mut self) -> Result<String, Error> {
        match self.advance() {
            Some(Token::Word(word)) if word.starts_with('#') => {
                let word = *word;
                let name = self.placeholders.get(self.which, word)?.as_str();
                name.map(str::to_owned).ok_or_else(|| {
                    Error::validation("ExpressionAttributeNames must be strings".to_owned())
                })
            }
            Some(Token::Word(word)) if !word.starts_with(':') && !is_keyword(word) => {
                Ok((*word).to_owned())
            }
            _ => Err(self.unexpected()),
        }
    }

    fn peek(&self) -> Option<&Token<'a>> {
        self.tokens.get(self.next)
    }

    fn advance(&mut self) -> Option<&Token<'a>> {
        self.next += 1;
        self.tokens.get(self.next - 1)
    }

    fn take(&mut self, token: &Token<'_>) -> bool {
        let taken = self.peek() == Some(token);
        self.next += usize::from(taken);
        taken
    }

    fn take_keyword(&mut self, keyword: &str) -> bool {
        let taken =
            matches!(self.peek(), Some(Token::Word(word)) if word.eq_ignore_ascii_case(keyword));
        self.next += usize::from(taken);
        taken
    }

    fn expect(&mut self, token: &Token<'_>) -> Result<(), Error> {
        if self.take(token) {
            return Ok(());
        }
        self.next += 1;
        Err(self.unexpected())
    }

    fn end(&mut self) -> Result<(), Error> {
        if self.peek().is_none() {
            return Ok(());
        }
        self.next += 1;
        Err(self.unexpected())
    }

    /// About the token that was just passed.
    fn unexpected(&self) -> Error {
        let token = match self.tokens.get(self.next.wrapping_sub(1)) {
            Some(Token::Close) => ")",
            Some(Token::Comma) => ",",
            Some(Token::Equal) => "=",
            Some(Token::NotEqual) => "<>",
            Some(Token::Open) => "(",
            Some(Token::Word(word)) => word,
            None => "<EOF>",
        };
        self.invalid(&format!("Syntax error; token: \"{token}\""))
    }

    fn invalid(&self, why: &str) -> Error {
        Error::validation(format!("Invalid {}: {why}", self.which))
    }
}

fn is_keyword(word: &str) -> bool {
    ["AND", "OR", "NOT"]
        .iter()
        .any(|keyword| word.eq_ignore_ascii_case(keyword))
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn holds(text: &str, item: Option<&Value>) -> bool {
        let names = json!({ "#i": "Info" });
        let values = json!({ ":info": { "S": "x" }, ":y": { "S": "y" } });
        let placeholders = Placeholders::new(names.as_object(), values.as_object());
        let condition = Condition::parse("ConditionExpression", text, &placeholders).unwrap();
        condition.holds(item.and_then(Value::as_object))
    }

    fn refused(text: &str) -> String {
        let placeholders = Placeholders::new(None, None);
        let refused = Condition::parse("ConditionExpression", text, &placeholders);
        refused.unwrap_err().message
    }

    #[test]
    fn conditions_hold_as_dynamodb_has_it() {
        let item = json!({ "LockID": { "S": "k" }, "Info": { "S": "x" } });
        let item = Some(&item);
        for (text, present, absent) in [
            ("attribute_not_exists(LockID)", false, true),
            ("attribute_exists(LockID)", true, false),
            ("attribute_exists ( #i )", true, false),
            ("Info = :info", true, false),
            ("#i=:info", true, false),
            (":info = Info", true, false),
            ("Info = :y", false, false),
            ("Info <> :y", true, true),
            ("NOT Info = :info", false, true),
            ("attribute_not_exists(LockID) OR Info = :info", true, true),
            ("attribute_exists(Other) and Info = :info", false, false),
            (
                "(Info = :y or Info = :info) AND attribute_exists(LockID)",
                true,
                false,
            ),
            // AND binds more tightly.
            ("Info = :info OR Info = :info AND Info = :y", true, false),
        ] {
            assert_eq!(holds(text, item), present, "{text}");
            assert_eq!(holds(text, None), absent, "{text} without an item");
        }
    }

    #[test]
    fn whatever_is_not_understood_is_refused() {
        for text in [
            "",
            "  ",
            "LockID",
            "attribute_not_exists",
            "attribute_not_exists()",
            "attribute_not_exists(a, b)",
            "attribute_not_exists(a) attribute_not_exists(b)",
            "attribute_not_exists(a) AND",
            "(attribute_exists(a)",
            "attribute_exists(a))",
            "size(a) = :v",
            "begins_with(a, :v)",
            "a < :v",
            "a BETWEEN :v AND :v",
            "a.b = :v",
            "a[0] = :v",
            "a = :undefined",
            "#undefined = a",
            "attribute_exists(:v)",
            "a = 'x'",
            "ü = a",
        ] {
            let message = refused(text);
            assert!(
                message.starts_with("Invalid ConditionExpression: "),
                "{text}: {message}"
            );
        }
        assert!(refused(&"a".repeat(LONGEST + 1)).contains("size"));
        assert!(refused(&"(".repeat(4000)).contains("nested"));
        assert!(refused(&"NOT ".repeat(1000)).contains("nested"));
    }

    #[test]
    fn what_no_expression_uses_is_refused() {
        let values = json!({ ":used": { "S": "x" }, ":unused": { "S": "x" } });
        let placeholders = Placeholders::new(None, values.as_object());
        Condition::parse("ConditionExpression", "a = :used", &placeholders).unwrap();
        let error = placeholders.all_used().unwrap_err();
        assert!(error.message.contains(":unused"), "{}", error.message);
    }

    #[test]
    fn a_projection_is_a_list_of_names() {
        let names = json!({ "#i": "Info" });
        let placeholders = Placeholders::new(names.as_object(), None);
        assert_eq!(
            projection("LockID, #i", &placeholders).unwrap(),
            ["LockID", "Info"]
        );
        assert!(projection("LockID,", &placeholders).is_err());
        assert!(projection("LockID Info", &placeholders).is_err());
    }
}
