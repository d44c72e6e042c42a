//! Backend blocks in HCL's native syntax. The language is parsed by `hcl-edit`; this module only takes
//! literal values out of it, and refuses by name what would need Terraform to work it out.

use std::path::Path;

use hcl_edit::Span;
use hcl_edit::expr::{Expression, ObjectKey, UnaryOperator};
use hcl_edit::structure::{Block, Body, Structure};
use hcl_edit::template::{Element, Template};
use serde_json::{Number, Value};

use super::error::{ConfigError, Place};
use super::files::{Declared, place};
use super::{Arguments, SUPPORTED};

/// The `backend` and `cloud` blocks of a configuration file.
pub(super) fn backend_blocks(path: &Path, text: &str) -> Result<Vec<Declared>, ConfigError> {
    let source = Source { path, text };
    let body = source.parse()?;
    let mut found = Vec::new();
    for block in body
        .get_blocks("terraform")
        .flat_map(|block| block.body.blocks())
    {
        let kind = match (block.ident.as_str(), block.labels.as_slice()) {
            ("cloud", _) => "cloud",
            ("backend", [kind]) => kind.as_str(),
            ("backend", _) => {
                return Err(source.syntax(
                    block.span(),
                    "a backend block has one label, the backend's type",
                ));
            }
            _ => continue,
        };
        let config = match kind {
            SUPPORTED => source.arguments(&block.body, ""),
            _ => Ok(Arguments::new()),
        };
        found.push(Declared {
            kind: kind.to_owned(),
            config,
            place: source.place(block.span()),
        });
    }
    Ok(found)
}

/// A file that is the body of a backend block.
pub(super) fn body(path: &Path, text: &str) -> Result<Arguments, ConfigError> {
    let source = Source { path, text };
    source.arguments(&source.parse()?, "")
}

struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

type Bytes = Option<std::ops::Range<usize>>;

impl Source<'_> {
    fn parse(&self) -> Result<Body, ConfigError> {
        hcl_edit::parser::parse_body(self.text).map_err(|error| ConfigError::Syntax {
            place: Place {
                path: self.path.to_owned(),
                line: error.location().line(),
            },
            // The error's other parts quote the line, which may hold a secret.
            reason: error.message().replace('\n', ", "),
        })
    }

    fn place(&self, span: Bytes) -> Place {
        place(self.path, self.text, span.map_or(0, |span| span.start))
    }

    fn syntax(&self, span: Bytes, reason: impl Into<String>) -> ConfigError {
        ConfigError::Syntax {
            place: self.place(span),
            reason: reason.into(),
        }
    }

    /// Attributes and nested blocks alike, as an object. `prefix` is the path to it, for messages.
    fn arguments(&self, body: &Body, prefix: &str) -> Result<Arguments, ConfigError> {
        let mut arguments = Arguments::new();
        for structure in body {
            let (name, value) = match structure {
                Structure::Attribute(attribute) => {
                    let name = attribute.key.as_str();
                    (
                        name,
                        self.value(&attribute.value, &format!("{prefix}{name}"))?,
                    )
                }
                Structure::Block(block) => (block.ident.as_str(), self.object(block, prefix)?),
            };
            if arguments.insert(name.to_owned(), value).is_some() {
                return Err(self.syntax(structure.span(), format!("{prefix}{name} is given twice")));
            }
        }
        Ok(arguments)
    }

    fn object(&self, block: &Block, prefix: &str) -> Result<Value, ConfigError> {
        let name = block.ident.as_str();
        if block.is_labeled() {
            return Err(self.syntax(block.span(), format!("{prefix}{name} takes no label")));
        }
        let fields = self.arguments(&block.body, &format!("{prefix}{name}."))?;
        Ok(Value::Object(fields))
    }

    /// A literal. `argument` is its path, for messages.
    fn value(&self, expression: &Expression, argument: &str) -> Result<Value, ConfigError> {
        let not_literal = |what| ConfigError::NotLiteral {
            argument: argument.to_owned(),
            place: self.place(expression.span()),
            what,
        };
        Ok(match expression {
            Expression::Null(_) => Value::Null,
            Expression::Bool(value) => Value::Bool(*value.value()),
            Expression::Number(value) => number(&value.value().to_string()).ok_or_else(|| {
                self.syntax(expression.span(), format!("{argument} is out of range"))
            })?,
            Expression::String(value) => Value::String(value.value().clone()),
            Expression::StringTemplate(template) => {
                literal(template).ok_or_else(|| not_literal("a template with interpolations"))?
            }
            Expression::HeredocTemplate(heredoc) => literal(&heredoc.template)
                .ok_or_else(|| not_literal("a template with interpolations"))?,
            Expression::Parenthesis(inner) => self.value(inner.inner(), argument)?,
            Expression::Array(items) => Value::Array(
                items
                    .iter()
                    .map(|item| self.value(item, argument))
                    .collect::<Result<_, _>>()?,
            ),
            Expression::Object(object) => {
                let mut fields = Arguments::new();
                for (key, value) in object {
                    let key = match key {
                        ObjectKey::Ident(name) => name.as_str(),
                        ObjectKey::Expression(Expression::String(name)) => name.value(),
                        ObjectKey::Expression(_) => {
                            return Err(not_literal("an object with computed names"));
                        }
                    };
                    let value = self.value(value.expr(), &format!("{argument}.{key}"))?;
                    if fields.insert(key.to_owned(), value).is_some() {
                        return Err(self.syntax(
                            expression.span(),
                            format!("{argument}.{key} is given twice"),
                        ));
                    }
                }
                Value::Object(fields)
            }
            Expression::UnaryOp(operation) => match (operation.operator.value(), &operation.expr) {
                (UnaryOperator::Neg, Expression::Number(value)) => {
                    number(&format!("-{}", value.value()))
                        .ok_or_else(|| not_literal("an operation"))?
                }
                _ => return Err(not_literal("an operation")),
            },
            Expression::BinaryOp(_) => return Err(not_literal("an operation")),
            Expression::Conditional(_) => return Err(not_literal("a condition")),
            Expression::ForExpr(_) => return Err(not_literal("a for expression")),
            Expression::FuncCall(_) => return Err(not_literal("a function call")),
            Expression::Traversal(_) | Expression::Variable(_) => {
                return Err(not_literal("a reference"));
            }
        })
    }
}

fn number(text: &str) -> Option<Value> {
    text.parse::<Number>().ok().map(Value::Number)
}

/// The text of a template without interpolations and directives.
fn literal(template: &Template) -> Option<Value> {
    template
        .iter()
        .map(|element| match element {
            Element::Literal(text) => Some(text.as_str()),
            Element::Directive(_) | Element::Interpolation(_) => None,
        })
        .collect::<Option<String>>()
        .map(Value::String)
}
