//! Typed access to a JSON object that somebody wrote by hand: a field of the wrong type gives error 7 with the field's
//! path, what it is, and what to write.

use api::cni::{Failure, code};
use serde_json::{Map, Value};

/// An object and the path at which it was found.
#[derive(Clone, Debug)]
pub(crate) struct Fields<'a> {
    path: String,
    object: &'a Map<String, Value>,
}

impl<'a> Fields<'a> {
    pub(crate) fn root(object: &'a Map<String, Value>) -> Self {
        Self { path: String::new(), object }
    }

    /// An object that was taken from the field `path`.
    pub(crate) fn of(path: &str, object: &'a Map<String, Value>) -> Self {
        Self { path: path.to_owned(), object }
    }

    /// A field that is there and not null.
    pub(crate) fn get(&self, name: &str) -> Option<&'a Value> {
        self.object.get(name).filter(|value| !value.is_null())
    }

    /// Whether the field stands there, be it null.
    pub(crate) fn has(&self, name: &str) -> bool {
        self.object.contains_key(name)
    }

    pub(crate) fn text(&self, name: &str, what: &str) -> Result<Option<&'a str>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_str().map(Some).ok_or_else(|| self.wrong(name, value, what))
    }

    pub(crate) fn number(&self, name: &str, what: &str) -> Result<Option<u64>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        value.as_u64().map(Some).ok_or_else(|| self.wrong(name, value, what))
    }

    pub(crate) fn object(&self, name: &str, what: &str) -> Result<Option<Fields<'a>>, Failure> {
        let Some(value) = self.get(name) else { return Ok(None) };
        let object = value.as_object().ok_or_else(|| self.wrong(name, value, what))?;
        Ok(Some(Fields { path: self.at(name), object }))
    }

    /// A list; nothing when it is missing.
    pub(crate) fn list(&self, name: &str, what: &str) -> Result<&'a [Value], Failure> {
        let Some(value) = self.get(name) else { return Ok(&[]) };
        value.as_array().map(Vec::as_slice).ok_or_else(|| self.wrong(name, value, what))
    }

    /// A list of objects.
    pub(crate) fn objects(&self, name: &str, what: &str) -> Result<Vec<Fields<'a>>, Failure> {
        let entries = self.list(name, what)?.iter().enumerate();
        entries
            .map(|(index, value)| {
                let path = format!("{name}[{index}]");
                let object = value.as_object().ok_or_else(|| self.wrong(&path, value, what))?;
                Ok(Fields { path: self.at(&path), object })
            })
            .collect()
    }

    /// A list of what `parse` makes of strings.
    pub(crate) fn parsed<T, E: std::fmt::Display>(
        &self,
        name: &str,
        what: &str,
        parse: impl Fn(&str) -> Result<T, E>,
    ) -> Result<Vec<T>, Failure> {
        let entries = self.list(name, what)?.iter().enumerate();
        entries
            .map(|(index, value)| {
                let path = format!("{name}[{index}]");
                let text = value.as_str().ok_or_else(|| self.wrong(&path, value, what))?;
                parse(text).map_err(|_| self.wrong(&path, value, what))
            })
            .collect()
    }

    /// Error 7 for a field.
    pub(crate) fn wrong(&self, name: &str, value: &Value, what: &str) -> Failure {
        let mut shown = value.to_string();
        if let Some((end, _)) = shown.char_indices().nth(60) {
            shown.truncate(end);
            shown.push('…');
        }
        invalid(format!("field `{}` must be {what}, it is {shown}", self.at(name)))
    }

    /// Error 7 for a field that has to be there.
    pub(crate) fn missing(&self, name: &str, what: &str) -> Failure {
        invalid(format!("field `{}` is missing, it must be {what}", self.at(name)))
    }

    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// Error 7.
pub(crate) fn invalid(what: String) -> Failure {
    Failure {
        code: code::INVALID_CONFIG,
        msg: format!("network configuration: {what}; correct it (usually in /etc/cni/net.d) and try again"),
        details: String::new(),
    }
}
