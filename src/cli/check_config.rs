//! `docrelay check-config`: what is in force, with secrets hidden, or everything that is wrong. Changes and connects nothing.

use std::{
    collections::BTreeMap,
    fs,
    io::{self, Write},
    path::{Path, PathBuf},
};

use crate::{
    artifacts::ArtifactStore,
    config::{self, Config},
    domain::{State, Subscription},
    store::{self, Defaults},
};

/// How many organizations are listed one by one.
const LISTED: usize = 20;

/// Checks the settings and the subscriptions file, and writes what is in force or what is wrong. Says whether all is well.
///
/// # Errors
/// Nothing could be written.
pub fn run(
    files: &[PathBuf],
    environment: impl Iterator<Item = (String, String)>,
    out: &mut impl Write,
) -> io::Result<bool> {
    let config = match config::load(files, environment) {
        Ok(config) => config,
        Err(problems) => {
            writeln!(out, "{} in the settings:\n{problems}", count(problems.len(), "problem"))?;
            return Ok(false);
        }
    };
    write!(out, "# The settings in force, secrets hidden.\n{}", config::render(&config))?;
    for warning in &config.tracing.warnings {
        writeln!(out, "\n# Warning: {warning}")?;
    }
    // Both, so that all that is wrong is told at once.
    let artifacts_are_sound = artifacts(&config, out)?;
    Ok(subscriptions(&config, out)? && artifacts_are_sound)
}

fn artifacts(config: &Config, out: &mut impl Write) -> io::Result<bool> {
    match ArtifactStore::from_config(&config.artifacts) {
        Ok(store) => {
            for warning in store.iter().flat_map(ArtifactStore::warnings) {
                writeln!(out, "\n# Warning: {warning}")?;
            }
            Ok(true)
        }
        Err(error) => writeln!(out, "\n# {error}").map(|()| false),
    }
}

fn subscriptions(config: &Config, out: &mut impl Write) -> io::Result<bool> {
    let path = config.subscriptions.file.as_path();
    let text = match fs::read_to_string(path) {
        Ok(text) => text,
        Err(error) => {
            let shown = path.display();
            writeln!(out, "\n# Cannot read the subscriptions from {shown} (setting subscriptions.file): {error}")?;
            return Ok(false);
        }
    };
    match store::parse(&text, &Defaults::from(config)) {
        Ok(subscriptions) => summary(path, &subscriptions, out).map(|()| true),
        Err(problems) => {
            writeln!(out, "\n# {} in {}:\n{problems}", count(problems.len(), "problem"), path.display())?;
            Ok(false)
        }
    }
}

fn summary(path: &Path, subscriptions: &[Subscription], out: &mut impl Write) -> io::Result<()> {
    writeln!(out, "\n# {} in {}", count(subscriptions.len(), "subscription"), path.display())?;
    let mut organizations: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
    for subscription in subscriptions {
        let (all, disabled) = organizations.entry(subscription.organization.as_str()).or_default();
        *all += 1;
        *disabled += usize::from(subscription.state == State::Disabled);
    }
    for (organization, (all, disabled)) in organizations.iter().take(LISTED) {
        let note = if *disabled > 0 { format!(" ({disabled} disabled)") } else { String::new() };
        writeln!(out, "#   {organization}: {all}{note}")?;
    }
    match organizations.len().saturating_sub(LISTED) {
        0 => Ok(()),
        more => writeln!(out, "#   and {}", count(more, "more organization")),
    }
}

fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn check(subscriptions: &str, variables: &[(&str, &str)]) -> (bool, String) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("subscriptions.yaml");
        fs::write(&path, subscriptions).unwrap();
        let path = path.to_str().unwrap();
        let variables = [("SUBSCRIPTIONS__FILE", path)].into_iter().chain(variables.iter().copied());
        let variables = variables.map(|(name, value)| (format!("DOCRELAY__{name}"), value.to_owned()));
        let mut out = Vec::new();
        let is_well = run(&[], variables, &mut out).unwrap();
        (is_well, String::from_utf8(out).unwrap())
    }

    #[test]
    fn it_shows_what_is_in_force_without_secrets() {
        let text = "subscriptions:\n- {id: a, organization: acme, events: [document_text], target: {url: http://h/hunter2, headers: {X: hunter2}}, enabled: false}\n- {id: b, organization: acme, events: [document_text], target: {url: http://h/}}";
        let (is_well, out) = check(text, &[("BROKER__URL", "amqp://relay:hunter2@broker/")]);
        assert!(is_well, "{out}");
        assert!(out.contains("url = \"amqp://relay:***@broker/\""), "{out}");
        assert!(out.contains("# 2 subscriptions in ") && out.contains("#   acme: 2 (1 disabled)"), "{out}");
        assert!(!out.contains("hunter2"), "{out}");
    }

    #[test]
    fn it_tells_all_problems_of_the_settings() {
        let (is_well, out) = check("subscriptions: []", &[("BROKER__PREFETCH", "0"), ("LOG__FORMAT", "xml")]);
        assert!(!is_well);
        assert!(out.contains("2 problems in the settings"), "{out}");
        assert!(out.contains("broker.prefetch") && out.contains("log.format"), "{out}");
    }

    #[test]
    fn it_tells_what_is_wrong_with_the_artifact_store_and_what_is_to_be_known() {
        let (is_well, out) = check("subscriptions: []", &[("ARTIFACTS__URL", "s3://exports")]);
        assert!(!is_well && out.contains("# artifacts: links to S3 need an access key"), "{out}");
        let variables = [("ARTIFACTS__URL", "gs://exports"), ("ARTIFACTS__OPTIONS", "google_bearer_token=hunter2")];
        let (is_well, out) = check("subscriptions: []", &variables);
        assert!(is_well && out.contains("# Warning: ") && out.contains("12 hours"), "{out}");
        assert!(!out.contains("hunter2"), "{out}");
    }

    #[test]
    fn it_tells_which_variables_of_opentelemetry_are_ignored() {
        let variables =
            [("OTEL_EXPORTER_OTLP_ENDPOINT", "http://tempo:4317"), ("OTEL_TRACES_SAMPLER", "jaeger_remote")];
        let mut out = Vec::new();
        run(&[], variables.map(|(name, value)| (name.to_owned(), value.to_owned())).into_iter(), &mut out).unwrap();
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("# Warning: The variable OTEL_TRACES_SAMPLER is ignored: expected always_on"), "{out}");
    }

    #[test]
    fn it_tells_all_problems_of_the_subscriptions() {
        let (is_well, out) = check("subscriptions: [{id: a}]", &[]);
        assert!(!is_well);
        assert!(out.contains("3 problems in") && out.contains("subscriptions[0] (subscription \"a\")"), "{out}");
    }

    #[test]
    fn a_missing_subscriptions_file_is_named_with_its_setting() {
        let mut out = Vec::new();
        let variable = ("DOCRELAY__SUBSCRIPTIONS__FILE".to_owned(), "/nowhere/subscriptions.yaml".to_owned());
        assert!(!run(&[], [variable].into_iter(), &mut out).unwrap());
        let out = String::from_utf8(out).unwrap();
        assert!(out.contains("/nowhere/subscriptions.yaml") && out.contains("subscriptions.file"), "{out}");
    }

    #[test]
    fn many_organizations_are_counted_and_not_all_listed() {
        let items: Vec<String> = (0..25)
            .map(|index| {
                format!("{{id: s{index}, organization: o{index}, events: [document_text], target: {{url: http://h/}}}}")
            })
            .collect();
        let (is_well, out) = check(&format!("subscriptions: [{}]", items.join(", ")), &[]);
        assert!(is_well && out.contains("#   and 5 more organizations"), "{out}");
    }
}
