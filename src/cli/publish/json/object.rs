//! A JSON object that is taken apart field by field, so that every error can name its field.

use std::{collections::BTreeMap, fmt, str::FromStr};

use anyhow::{Context as _, anyhow, bail};
use serde::{
    Deserialize, Deserializer,
    de::{Error as _, MapAccess, Visitor},
};
use serde_json::value::RawValue;

use crate::domain::BadId;

/// What is left of an object.
#[derive(Debug)]
pub(super) struct Object<'a> {
    /// The fields' names begin with it.
    path: String,
    fields: BTreeMap<String, &'a RawValue>,
}

impl<'a> Object<'a> {
    pub(super) fn read(value: &'a RawValue, path: &str) -> anyhow::Result<Self> {
        let here = if path.is_empty() { String::new() } else { format!("{path}: ") };
        if !value.get().starts_with('{') {
            bail!("{here}expected an object");
        }
        let Fields(fields) = serde_json::from_str(value.get()).map_err(|error| anyhow!("{here}{}", words(&error)))?;
        Ok(Self { path: path.to_owned(), fields })
    }

    /// A field that may be missing; `null` is missing, too.
    pub(super) fn take<T: Deserialize<'a>>(&mut self, name: &str) -> anyhow::Result<Option<T>> {
        let Some(value) = self.fields.remove(name).filter(|value| value.get() != "null") else { return Ok(None) };
        serde_json::from_str(value.get()).map(Some).map_err(|error| anyhow!("{}: {}", self.at(name), words(&error)))
    }

    pub(super) fn required<T: Deserialize<'a>>(&mut self, name: &str) -> anyhow::Result<T> {
        self.take(name)?.with_context(|| format!("{}: is missing", self.at(name)))
    }

    /// A list of objects; missing is empty.
    pub(super) fn list<T>(
        &mut self,
        name: &str,
        read: impl Fn(&mut Object<'a>) -> anyhow::Result<T>,
    ) -> anyhow::Result<Vec<T>> {
        let values: Vec<&RawValue> = self.take(name)?.unwrap_or_default();
        let path = self.at(name);
        let each = values.into_iter().enumerate().map(|(index, value)| {
            let mut object = Object::read(value, &format!("{path}[{index}]"))?;
            let item = read(&mut object)?;
            object.finish()?;
            Ok(item)
        });
        each.collect()
    }

    pub(super) fn id<T: FromStr<Err = BadId>>(&self, name: &str, text: &str) -> anyhow::Result<T> {
        text.parse().map_err(|bad: BadId| anyhow!("{}: {bad}", self.at(name)))
    }

    /// Nothing may be left.
    pub(super) fn finish(self) -> anyhow::Result<()> {
        match self.fields.keys().next() {
            Some(name) => bail!("{}: is not known", self.at(name)),
            None => Ok(()),
        }
    }

    fn at(&self, name: &str) -> String {
        if self.path.is_empty() { name.to_owned() } else { format!("{}.{name}", self.path) }
    }
}

/// The words of an error without its position, which would count from the wrong place.
fn words(error: &serde_json::Error) -> String {
    let text = error.to_string();
    text.rsplit_once(" at line ").map_or(text.clone(), |(words, _)| words.to_owned())
}

struct Fields<'a>(BTreeMap<String, &'a RawValue>);

impl<'de> Deserialize<'de> for Fields<'de> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;

        impl<'de> Visitor<'de> for Each {
            type Value = Fields<'de>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Fields<'de>, A::Error> {
                let mut fields = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, &RawValue>()? {
                    if fields.insert(name.clone(), value).is_some() {
                        return Err(A::Error::custom(format!("{name}: is given twice")));
                    }
                }
                Ok(Fields(fields))
            }
        }

        deserializer.deserialize_map(Each)
    }
}
