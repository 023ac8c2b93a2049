//! The entries of `[[sources]]`, as written.

use std::fmt;

use serde::de::value::MapAccessDeserializer;
use serde::de::{DeserializeSeed, Deserializer, IntoDeserializer, MapAccess, Visitor};
use serde::{Deserialize, Serialize};

use crate::model::{HIDDEN, SecretSetting, SourceSettings};

/// An entry of `[[sources]]`, as written. Secrets may be references to variables and files.
#[derive(Debug, Clone, Serialize)]
pub struct SourceConfig {
    /// The settings.
    #[serde(flatten)]
    pub settings: SourceSettings,
    /// The token of a source of kind `partner`. It is not part of the settings, because only its hash is stored.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub token: Option<SecretSetting>,
}

impl SourceConfig {
    /// A copy to show. All options are hidden, because any of them may be a secret; secrets are hidden by their type.
    pub(super) fn hidden(&self) -> Self {
        let mut shown = self.clone();
        shown.settings.options.values_mut().for_each(|value| HIDDEN.clone_into(value));
        shown
    }
}

impl<'de> Deserialize<'de> for SourceConfig {
    /// Deserializes [`SourceSettings`], which refuse unknown keys, and takes the token out first.
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        struct SourceVisitor;

        impl<'de> Visitor<'de> for SourceVisitor {
            type Value = SourceConfig;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a table")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<SourceConfig, A::Error> {
                let mut token = None;
                let settings =
                    SourceSettings::deserialize(MapAccessDeserializer::new(WithoutToken { map, token: &mut token }))?;
                Ok(SourceConfig { settings, token })
            }
        }

        from.deserialize_map(SourceVisitor)
    }
}

/// The entries of a table without `token`.
struct WithoutToken<'t, A> {
    map: A,
    token: &'t mut Option<SecretSetting>,
}

impl<'de, A: MapAccess<'de>> MapAccess<'de> for WithoutToken<'_, A> {
    type Error = A::Error;

    fn next_key_seed<K: DeserializeSeed<'de>>(&mut self, seed: K) -> Result<Option<K::Value>, A::Error> {
        while let Some(key) = self.map.next_key::<String>()? {
            if key != "token" {
                return seed.deserialize(key.into_deserializer()).map(Some);
            }
            *self.token = Some(self.map.next_value()?);
        }
        Ok(None)
    }

    fn next_value_seed<V: DeserializeSeed<'de>>(&mut self, seed: V) -> Result<V::Value, A::Error> {
        self.map.next_value_seed(seed)
    }
}
