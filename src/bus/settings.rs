//! The compiled settings of `[nats]`.

use std::sync::Arc;

use async_nats::{ConnectOptions, ServerAddr};
use rustls::ClientConfig;
use url::Url;

use crate::config::{Environment, NatsConfig, PartError, read_secret_file};
use crate::limits::{BUS_SERVERS_MAX, BUS_SUBJECTS_MAX};
use crate::model::{BUS_NAME_ALLOWED, Secret, SecretSetting, SubjectPattern, is_bus_name};
use crate::outbound::tls::{EndpointTls, TlsSettings};
use crate::outbound::{Endpoint, SubjectTemplate};

/// The settings of the event bus, checked.
#[derive(Debug)]
pub struct BusSettings {
    /// The servers to connect to.
    pub(super) servers: Vec<ServerAddr>,
    /// How the connection is authenticated.
    pub(super) credentials: BusCredentials,
    /// The TLS settings; `None`: those of the server.
    pub(super) tls: Option<EndpointTls>,
    /// The stream that webhooks publish to.
    pub(super) stream: Box<str>,
    /// The subjects that webhooks may publish to.
    pub(super) subjects: Vec<SubjectPattern>,
    /// Where the servers are monitored.
    pub(super) monitors: Vec<Url>,
}

/// How the connection is authenticated.
#[derive(Debug)]
pub(super) enum BusCredentials {
    /// Not at all.
    Anonymous,
    /// By a token.
    Token(Secret),
    /// By the text of a credentials file: a JWT and its seed.
    Jwt(Secret),
    /// By an NKey seed.
    NKey(Secret),
}

impl BusSettings {
    /// Compiles the section and reads its files.
    ///
    /// # Errors
    /// All errors. The paths begin with the key.
    pub fn try_new(written: &NatsConfig, environment: &Environment) -> Result<Self, Vec<PartError>> {
        let mut check = BusSettingsCheck { errors: Vec::new() };
        let settings = Self {
            servers: check.servers(&written.urls),
            credentials: check.credentials(written, environment),
            tls: check.tls(written),
            stream: check.stream(&written.stream),
            subjects: check.subjects(&written.subjects),
            monitors: check.monitors(&written.monitor_urls),
        };
        if check.errors.is_empty() { Ok(settings) } else { Err(check.errors) }
    }

    /// Checks a `nats://` URL of a webhook.
    ///
    /// # Errors
    /// What is wrong and what is allowed.
    pub fn endpoint(&self, url: &str) -> Result<Endpoint, String> {
        let template = SubjectTemplate::parse(url).map_err(|error| error.to_string())?;
        if !self.subjects.iter().any(|pattern| template.is_covered_by(pattern)) {
            return Err(format!("this subject is not allowed: webhooks may publish to {}", joined(&self.subjects)));
        }
        Ok(Endpoint::of_subject(url, template))
    }

    /// Whether webhooks may publish to this subject.
    pub(super) fn allows(&self, subject: &str) -> bool {
        self.subjects.iter().any(|pattern| pattern.matches(subject))
    }

    /// The options of the connection. `tls` is the configuration for a section without TLS settings.
    ///
    /// # Errors
    /// The reason as text.
    pub(super) fn options(&self, tls: &Arc<ClientConfig>) -> Result<ConnectOptions, Box<str>> {
        let options = ConnectOptions::new();
        let options = match &self.credentials {
            BusCredentials::Anonymous => options,
            BusCredentials::Token(token) => options.token(token.reveal().to_owned()),
            BusCredentials::NKey(seed) => options.nkey(seed.reveal().trim().to_owned()),
            BusCredentials::Jwt(text) => options.credentials(text.reveal()).map_err(|error| error.to_string())?,
        };
        let tls = match &self.tls {
            Some(own) => own.config(tls)?,
            None => Arc::clone(tls),
        };
        let mut tls = (*tls).clone();
        // The protocol names of HTTP do not apply.
        tls.alpn_protocols.clear();
        Ok(options.tls_client_config(tls))
    }
}

/// The patterns with commas between them.
pub(super) fn joined(patterns: &[SubjectPattern]) -> String {
    patterns.iter().map(SubjectPattern::as_str).collect::<Vec<_>>().join(", ")
}

/// Collects the errors.
struct BusSettingsCheck {
    errors: Vec<PartError>,
}

impl BusSettingsCheck {
    fn wrong(&mut self, key: &str, problem: impl Into<String>) {
        self.errors.push(PartError { path: vec![key.to_owned()], problem: problem.into() });
    }

    fn servers(&mut self, urls: &[String]) -> Vec<ServerAddr> {
        if urls.len() > BUS_SERVERS_MAX {
            self.wrong("url", format!("{} servers; at most {BUS_SERVERS_MAX} are allowed", urls.len()));
        }
        let mut servers = Vec::with_capacity(urls.len());
        for text in urls {
            let url = Url::parse(text).ok().filter(|url| {
                matches!(url.scheme(), "nats" | "tls") && url.host_str().is_some_and(|host| !host.is_empty())
            });
            match url {
                // The text is not repeated, because it holds a password.
                Some(url) if !url.username().is_empty() || url.password().is_some() => {
                    self.wrong("url", "a URL has no user and no password: use token, credentials_file or nkey_file");
                }
                Some(url) if url.path().len() <= 1 && url.query().is_none() => {
                    servers.extend(ServerAddr::from_url(url).ok());
                }
                _ => {
                    self.wrong(
                        "url",
                        format!("{text:?} is not the URL of a server, such as \"nats://127.0.0.1:4222\""),
                    );
                }
            }
        }
        servers
    }

    fn credentials(&mut self, written: &NatsConfig, environment: &Environment) -> BusCredentials {
        let given = [
            ("token", written.token.is_some()),
            ("credentials_file", written.credentials_file.is_some()),
            ("nkey_file", written.nkey_file.is_some()),
        ];
        let mut given = given.iter().filter(|(_, is_given)| *is_given);
        if let (Some((first, _)), Some((second, _))) = (given.next(), given.next()) {
            self.wrong(second, format!("{first} is set as well; a connection has one kind of credentials"));
            return BusCredentials::Anonymous;
        }
        if let Some(token) = &written.token {
            return self.token(token, environment).map_or(BusCredentials::Anonymous, BusCredentials::Token);
        }
        if let Some(path) = &written.credentials_file {
            let text = self.secret_file("credentials_file", path);
            let text = text.filter(|text| {
                let read = ConnectOptions::with_credentials(text.reveal());
                if read.is_err() {
                    self.wrong("credentials_file", format!("{path} does not hold a user JWT and its NKey seed"));
                }
                read.is_ok()
            });
            return text.map_or(BusCredentials::Anonymous, BusCredentials::Jwt);
        }
        if let Some(path) = &written.nkey_file {
            let seed = self.secret_file("nkey_file", path);
            let is_seed = |seed: &Secret| {
                let seed = seed.reveal().trim();
                seed.len() == NKEY_SEED_CHARS
                    && seed.starts_with("SU")
                    && seed.bytes().all(|b| b.is_ascii_alphanumeric())
            };
            if seed.as_ref().is_some_and(|seed| !is_seed(seed)) {
                self.wrong("nkey_file", format!("{path} does not hold the seed of a user: SU and 56 other characters"));
            }
            return seed.map_or(BusCredentials::Anonymous, BusCredentials::NKey);
        }
        BusCredentials::Anonymous
    }

    fn token(&mut self, written: &SecretSetting, environment: &Environment) -> Option<Secret> {
        let table = match written {
            SecretSetting::Text(token) => return Some(token.clone()),
            SecretSetting::Table(table) => table,
        };
        if table.until.is_some() || table.when.is_some() {
            self.wrong("token", "until and when are for the secrets of sources: expected { env = … } or { file = … }");
        }
        match (&table.value, &table.env, &table.file) {
            (Some(token), None, None) => Some(token.clone()),
            (None, Some(name), None) => {
                let token = environment.get(name).map(Secret::new);
                if token.is_none() {
                    self.wrong("token", format!("the environment variable {name} is not set"));
                }
                token
            }
            (None, None, Some(path)) => self.secret_file("token", path),
            _ => {
                self.wrong("token", "expected exactly one of value, env and file");
                None
            }
        }
    }

    fn secret_file(&mut self, key: &str, path: &str) -> Option<Secret> {
        read_secret_file(path).map_err(|problem| self.wrong(key, problem)).ok()
    }

    fn tls(&mut self, written: &NatsConfig) -> Option<EndpointTls> {
        let before = self.errors.len();
        let mut read = |key: &str, path: &Option<String>| self.secret_file(key, path.as_deref()?);
        let text = |secret: Option<Secret>| secret.map(|secret| secret.reveal().into());
        let settings = TlsSettings {
            ca: text(read("ca_file", &written.ca_file)),
            client_certificate: text(read("client_certificate_file", &written.client_certificate_file)),
            client_key: read("client_key_file", &written.client_key_file),
        };
        if settings.is_empty() || self.errors.len() > before {
            return None;
        }
        EndpointTls::try_new(settings)
            .map_err(|(field, error)| self.wrong(&format!("{field}_file"), error.to_string()))
            .ok()
    }

    fn stream(&mut self, name: &str) -> Box<str> {
        if !is_bus_name(name) {
            self.wrong("stream", format!("{name:?} is not the name of a stream: {BUS_NAME_ALLOWED}"));
        }
        name.into()
    }

    fn subjects(&mut self, written: &[String]) -> Vec<SubjectPattern> {
        if !(1..=BUS_SUBJECTS_MAX).contains(&written.len()) {
            self.wrong("subjects", format!("{} subjects; allowed is 1 to {BUS_SUBJECTS_MAX}", written.len()));
        }
        let mut patterns = Vec::with_capacity(written.len());
        for text in written {
            match SubjectPattern::try_new_for_publishing(text) {
                Ok(pattern) => patterns.push(pattern),
                Err(error) => self.wrong("subjects", format!("{text:?}: {error}")),
            }
        }
        patterns
    }

    fn monitors(&mut self, urls: &[String]) -> Vec<Url> {
        let mut monitors = Vec::with_capacity(urls.len());
        for text in urls {
            let url = Url::parse(text).ok().filter(|url| {
                url.scheme() == "http" && url.host().is_some() && url.path().len() <= 1 && url.query().is_none()
            });
            if let Some(url) = url {
                monitors.push(url);
            } else {
                let problem = "is not the http URL of a monitoring port, such as \"http://127.0.0.1:8222\"";
                self.wrong("monitor_url", format!("{text:?} {problem}"));
            }
        }
        monitors
    }
}

/// The characters of an NKey seed.
const NKEY_SEED_CHARS: usize = 58;
