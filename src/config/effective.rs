//! The configuration as it takes effect: every key with its value, as TOML that reads back as the same.

use super::quantity::{ByteSize, HumanDuration, Rate};
use super::{Config, Enrolment, Protocol, Registry, RegistrySource};
use std::fmt::Write;
use std::path::Path;
use std::time::Duration;

impl Config {
    /// Every key with the value that takes effect. Reads back as an equal configuration (paths are as resolved, so
    /// absolute where the file's own path is).
    pub fn effective_toml(&self) -> String {
        let mut out = Writer(String::new());
        out.pair("state_dir", text_of(&self.state_dir));

        let e = &self.endpoint;
        out.section("endpoint");
        out.pair("listen", list(e.listen.iter().map(ToString::to_string)));
        out.pair("workers", e.workers);
        out.pair("mounts", list(e.mounts.iter().cloned()));
        out.pair("header_timeout", duration(e.header_timeout));
        out.pair("body_timeout", duration(e.body_timeout));
        out.pair("idle_timeout", duration(e.idle_timeout));
        out.pair("write_timeout", duration(e.write_timeout));
        out.pair("max_connections", e.max_connections);
        out.pair("max_requests_per_connection", e.max_requests_per_connection);
        out.pair("max_connections_per_client", e.max_connections_per_client);

        out.section("admin");
        out.pair("listen", quoted(&self.admin.listen.map_or_else(|| "off".to_owned(), |a| a.to_string())));
        out.pair("socket", text_of(&self.admin.socket));
        out.pair("socket_mode", quoted(&format!("{:04o}", self.admin.socket_mode)));
        out.pair("audit_size", quoted(&self.admin.audit_size.to_string()));
        out.pair("audit_keep", self.admin.audit_keep);

        out.registry(&self.registry);

        out.section("signer");
        out.pair("key", quoted(self.signer.key_name()));
        out.pair("rsa_padding", quoted(self.signer.rsa_padding_name()));

        let r = &self.response;
        out.section("response");
        out.pair("profile", quoted(r.profile.name()));
        out.pair("validity", duration(r.validity));
        out.pair("refresh", duration(r.refresh));
        out.pair("backdate", duration(r.backdate));
        out.pair("certid_hashes", list(r.certid_hashes.iter().map(|h| h.name().to_owned())));
        out.pair("responder_id", quoted(r.responder_id.name()));
        out.pair("nonce", quoted(r.nonce.name()));
        out.pair("unissued", quoted(r.unissued.name()));
        out.pair("archive_cutoff", quoted(r.archive_cutoff.name()));

        out.section("on_demand");
        out.pair("rate", rate(self.on_demand.rate));
        out.pair("queue", self.on_demand.queue);
        out.pair("cache", size(self.on_demand.cache));
        out.pair("timeout", duration(self.on_demand.timeout));

        out.section("presign");
        out.pair("workers", self.presign.workers);
        out.pair("background_nice", self.presign.background_nice);

        out.section("log");
        out.pair("format", quoted(self.log.format.name()));
        out.pair("requests", self.log.requests);

        out.section("renewal");
        let r = &self.renewal;
        out.pair("window", format!("[{:?}, {:?}]", r.window.start, r.window.end));
        out.pair("margin", duration(r.margin));
        out.pair("approval", quoted(r.approval.name()));
        out.pair("nocheck", quoted(r.nocheck.name()));
        out.pair("submissions_per_day", r.submissions_per_day);
        out.pair("issuances_per_day", r.issuances_per_day);
        out.pair("activation_skew", duration(r.activation_skew));
        out.pair("ramp", duration(r.ramp));
        out.pair("backoff", format!("[{}, {}]", duration(r.backoff.base), duration(r.backoff.cap)));
        if let Some(node) = &r.node {
            out.pair("node", quoted(node));
        }

        for (name, enrolment) in &self.enrolment {
            out.enrolment(name, enrolment);
        }
        out.0
    }
}

struct Writer(String);

impl Writer {
    fn section(&mut self, name: &str) {
        // Writing to a String cannot fail.
        let _ = writeln!(self.0, "\n[{name}]");
    }

    fn pair(&mut self, key: &str, value: impl std::fmt::Display) {
        let _ = writeln!(self.0, "{key} = {value}");
    }

    fn registry(&mut self, r: &Registry) {
        self.section("registry");
        match &r.source {
            RegistrySource::File(path) => self.pair("source", text_of(path)),
            RegistrySource::Https(url) => self.pair("source", quoted(url)),
        }
        self.pair("refresh", duration(r.refresh));
        self.pair("max_age", duration(r.max_age));
        self.pair("max_change", format!("{:?}", r.max_change));
        self.pair("small_change", r.small_change);
        self.pair("base", text_of(&r.base));
        if let Some(trust) = &r.trust {
            self.pair("trust", text_of(trust));
        }
        if let Some((certificate, key)) = &r.client {
            self.pair("client_certificate", text_of(certificate));
            self.pair("client_key", text_of(key));
        }
        self.pair("connect_timeout", duration(r.connect_timeout));
        self.pair("timeout", duration(r.timeout));
    }

    fn enrolment(&mut self, name: &str, e: &Enrolment) {
        self.section(&format!("enrolment.{}", quoted(name)));
        self.pair("protocol", quoted(e.protocol.name()));
        match &e.protocol {
            Protocol::Local { ca_keys, validity } => {
                self.pair("ca_keys", text_of(ca_keys));
                self.pair("validity", duration(*validity));
            }
            Protocol::Command { command } => self.pair("command", list(command.iter().cloned())),
            Protocol::Est { url, trust, client, basic } => {
                self.pair("url", quoted(url));
                self.pair("trust", text_of(trust));
                if let Some(client) = client {
                    self.pair("client_certificate", text_of(&client.certificate));
                    self.pair("client_key", text_of(&client.key));
                    if let Some(profile) = &client.profile {
                        self.pair("client_profile", quoted(profile));
                    }
                }
                if let Some(basic) = basic {
                    self.pair("http_user", quoted(&basic.user));
                    self.pair("http_password_file", text_of(&basic.password_file));
                }
            }
            Protocol::Cfssl { url, auth_key, trust } => {
                self.pair("url", quoted(url));
                self.pair("auth_key", text_of(auth_key));
                if let Some(trust) = trust {
                    self.pair("trust", text_of(trust));
                }
            }
        }
        self.pair("connect_timeout", duration(e.connect_timeout));
        self.pair("timeout", duration(e.timeout));
        self.pair("max_in_flight", e.max_in_flight);
        self.pair("rate", rate(e.rate));
        self.pair("daily_requests", e.daily_requests);
    }
}

fn quoted(text: &str) -> String {
    toml::Value::String(text.to_owned()).to_string()
}

fn text_of(path: &Path) -> String {
    quoted(&path.to_string_lossy())
}

fn list(items: impl Iterator<Item = String>) -> String {
    format!("[{}]", items.map(|i| quoted(&i)).collect::<Vec<_>>().join(", "))
}

fn duration(d: Duration) -> String {
    quoted(&HumanDuration(d).to_string())
}

fn size(s: ByteSize) -> String {
    quoted(&s.to_string())
}

fn rate(r: Rate) -> String {
    quoted(&r.to_string())
}
