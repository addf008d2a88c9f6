//! What the files of the stack say of each other. No server is asked.

use std::collections::{BTreeMap, BTreeSet};

use docrelay::config;
use serde_json::Value;

use super::{alerts, dashboard_queries, dashboards, names, panels, path, text, yaml};

const COMPOSE: &str = "docker-compose.yml";
const POSTGRES: &str = "docker-compose.postgres.yml";
const DATASOURCES: &str = "deploy/grafana/provisioning/datasources/datasources.yaml";

#[track_caller]
fn expect_none(problems: &[String]) {
    assert!(problems.is_empty(), "\n{}\n", problems.join("\n"));
}

/// The services of both compose files.
fn services() -> Vec<(String, Value)> {
    [COMPOSE, POSTGRES].iter().flat_map(|file| yaml(file)["services"].as_object().unwrap().clone()).collect()
}

fn service_names() -> BTreeSet<String> {
    services().into_iter().map(|(name, _)| name).collect()
}

/// What a service mounts: from where, to where.
fn mounts(service: &Value) -> Vec<(String, String)> {
    let volumes = service["volumes"].as_array().into_iter().flatten();
    volumes
        .map(|volume| {
            // `${NAME:-default}` has a colon of its own.
            let volume = volume.as_str().unwrap();
            let from_end = volume.strip_suffix(":ro").unwrap_or(volume).rsplit_once(':').unwrap();
            (default_of(from_end.0).to_owned(), from_end.1.to_owned())
        })
        .collect()
}

/// The default of `${NAME:-default}`, or the text itself.
fn default_of(text: &str) -> &str {
    let inner = text.strip_prefix("${").and_then(|rest| rest.strip_suffix('}'));
    inner.and_then(|inner| inner.split_once(":-")).map_or(text, |(_, default)| default)
}

#[test]
fn every_datasource_that_is_named_exists() {
    let datasources = yaml(DATASOURCES);
    let uids: BTreeMap<_, _> = datasources["datasources"]
        .as_array()
        .unwrap()
        .iter()
        .map(|it| (it["uid"].as_str().unwrap(), it["type"].as_str().unwrap()))
        .collect();
    let mut problems = Vec::new();
    for (file, dashboard) in dashboards() {
        let variables = dashboard["templating"]["list"].as_array().unwrap().iter();
        let named = panels(&dashboard).into_iter().filter(|panel| panel["type"] != "row");
        for it in named.chain(variables.filter(|it| it["type"] == "query")) {
            let (uid, kind) = (it["datasource"]["uid"].as_str().unwrap(), it["datasource"]["type"].as_str().unwrap());
            if uids.get(uid) != Some(&kind) {
                problems.push(format!("{file}: {}: there is no datasource {uid} of the type {kind}", it["title"]));
            }
        }
    }
    let text = text(DATASOURCES);
    for uid in text.split("datasourceUid: ").skip(1).map(|rest| rest.split([' ', ',', '}', '\n']).next().unwrap()) {
        if !uids.contains_key(uid) {
            problems.push(format!("{DATASOURCES}: there is no datasource {uid}"));
        }
    }
    expect_none(&problems);
}

#[test]
fn every_dashboard_and_every_panel_has_an_id_of_its_own() {
    let (mut uids, mut problems) = (BTreeSet::new(), Vec::new());
    for (file, dashboard) in dashboards() {
        if !uids.insert(dashboard["uid"].as_str().unwrap().to_owned()) {
            problems.push(format!("{file}: another dashboard has this uid"));
        }
        let mut ids = BTreeSet::new();
        for panel in panels(&dashboard) {
            if !ids.insert(panel["id"].as_i64().unwrap()) {
                problems.push(format!("{file}: two panels have the id {}", panel["id"]));
            }
            if panel["type"] != "row" && panel["description"].as_str().is_none_or(str::is_empty) {
                problems.push(format!("{file}: {} has no description", panel["title"]));
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn every_link_leads_to_a_dashboard_and_to_variables_that_it_has() {
    let dashboards = dashboards();
    let variables = |dashboard: &Value| -> BTreeSet<String> {
        let list = dashboard["templating"]["list"].as_array().unwrap().iter();
        list.map(|it| it["name"].as_str().unwrap().to_owned()).collect()
    };
    let known: BTreeMap<_, _> =
        dashboards.iter().map(|(_, it)| (it["uid"].as_str().unwrap().to_owned(), variables(it))).collect();
    let mut places: Vec<_> = dashboards.iter().map(|(file, dashboard)| (file.clone(), dashboard.to_string())).collect();
    places.push((DATASOURCES.to_owned(), text(DATASOURCES)));
    let mut problems = Vec::new();
    for (place, text) in &places {
        for rest in text.split("/d/").skip(1) {
            let link = rest.split(|it: char| it == '"' || it.is_whitespace()).next().unwrap();
            let (uid, filled) = link.split_once('?').unwrap_or((link, ""));
            let Some(variables) = known.get(uid) else {
                problems.push(format!("{place}: a link leads to {uid}, which does not exist"));
                continue;
            };
            for variable in filled.split("var-").skip(1).map(|it| it.split('=').next().unwrap()) {
                if !variables.contains(variable) {
                    problems.push(format!("{place}: a link fills in {variable}, which {uid} does not have"));
                }
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn an_exemplar_leads_to_a_dashboard_which_everybody_may_open() {
    let datasources = yaml(DATASOURCES);
    let destinations = datasources["datasources"][0]["jsonData"]["exemplarTraceIdDestinations"].as_array().unwrap();
    let names: Vec<_> = destinations.iter().map(|it| it["name"].as_str().unwrap()).collect();
    assert_eq!(names, ["trace_id", "traceID"]);
    for destination in destinations {
        // Of two dollars Grafana makes one.
        assert_eq!(destination["url"], "/d/docrelay-traces?var-trace=$${__value.raw}");
    }
}

#[test]
fn panels_do_not_lie_on_each_other() {
    let mut problems = Vec::new();
    for (file, dashboard) in dashboards() {
        let mut taken = BTreeSet::new();
        for panel in panels(&dashboard) {
            let at = |name: &str| panel["gridPos"][name].as_u64().unwrap();
            for cell in (at("x")..at("x") + at("w")).flat_map(|x| (at("y")..at("y") + at("h")).map(move |y| (x, y))) {
                if cell.0 >= 24 || !taken.insert(cell) {
                    problems.push(format!("{file}: {} lies on another or beyond the edge", panel["title"]));
                    break;
                }
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn dashboards_are_mounted_where_grafana_looks_for_them() {
    let grafana = yaml(COMPOSE)["services"]["grafana"].clone();
    let mounts = mounts(&grafana);
    let target = |from: &str| mounts.iter().find(|(source, _)| source == from).map(|(_, target)| target.clone());
    let provider = yaml("deploy/grafana/provisioning/dashboards/dashboards.yaml");
    let looks = provider["providers"][0]["options"]["path"].as_str().unwrap().to_owned();
    assert_eq!(target("./deploy/grafana/dashboards"), Some(looks.clone()));
    assert_eq!(target("./deploy/grafana/provisioning").as_deref(), Some("/etc/grafana/provisioning"));
    let home = grafana["environment"]["GF_DASHBOARDS_DEFAULT_HOME_DASHBOARD_PATH"].as_str().unwrap();
    let file = home.strip_prefix(&format!("{looks}/")).unwrap();
    assert!(path("deploy/grafana/dashboards").join(file).is_file(), "{home}");
}

#[test]
fn every_host_that_is_named_is_a_service_of_the_stack() {
    let (names, mut problems) = (service_names(), Vec::new());
    for file in [DATASOURCES, "deploy/tempo/tempo.yaml", COMPOSE, POSTGRES, "deploy/compose/subscriptions.yaml"] {
        let text = text(file);
        for line in text.lines().filter(|line| !line.trim_start().starts_with('#')) {
            // Behind a scheme, or behind user and password.
            let places =
                line.match_indices("://").map(|(at, _)| at + 3).chain(line.match_indices('@').map(|(at, _)| at + 1));
            for rest in places.map(|at| &line[at..]) {
                let end =
                    rest.find(|it: char| !(it.is_ascii_alphanumeric() || "-.".contains(it))).unwrap_or(rest.len());
                let host = &rest[..end];
                if !host.is_empty() && host != "127.0.0.1" && !names.contains(host) {
                    problems.push(format!("{file}: {}: there is no service {host}", line.trim()));
                }
            }
        }
    }
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    for job in prometheus["scrape_configs"].as_array().unwrap() {
        let found =
            job["dns_sd_configs"].as_array().into_iter().flatten().flat_map(|it| it["names"].as_array().unwrap());
        let fixed = job["static_configs"].as_array().into_iter().flatten();
        let fixed = fixed.flat_map(|it| it["targets"].as_array().unwrap());
        for target in found.chain(fixed).map(|it| it.as_str().unwrap()) {
            let host = target.split(':').next().unwrap();
            if host != "127.0.0.1" && !names.contains(host) {
                problems.push(format!("prometheus.yml: {target}: there is no service {host}"));
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn prometheus_finds_every_replica_where_it_serves_its_metrics() {
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let jobs = prometheus["scrape_configs"].as_array().unwrap();
    let job = jobs.iter().find(|job| job["job_name"] == "docrelay").unwrap();
    let lookup = &job["dns_sd_configs"][0];
    // An address for each replica; one of the service's would be any of them.
    assert_eq!((lookup["type"].as_str(), lookup["names"][0].as_str()), (Some("A"), Some("docrelay")));
    let docrelay = &yaml(COMPOSE)["services"]["docrelay"];
    let listen = docrelay["environment"]["DOCRELAY__ADMIN__LISTEN"].as_str().unwrap();
    assert_eq!(listen, format!("0.0.0.0:{}", lookup["port"]));
    assert!(!docrelay["ports"].to_string().contains("8081:"), "metrics and health are not published");
    let networks = |service: &str| yaml(COMPOSE)["services"][service]["networks"].to_string();
    for service in ["docrelay", "rabbitmq", "tempo", "prometheus", "grafana"] {
        assert!(networks(service).contains("\"telemetry\""), "{service}");
    }
}

#[test]
fn the_scrape_interval_is_what_grafana_believes() {
    let prometheus = yaml("deploy/prometheus/prometheus.yml");
    let datasources = yaml(DATASOURCES);
    assert_eq!(prometheus["global"]["scrape_interval"], datasources["datasources"][0]["jsonData"]["timeInterval"]);
}

#[test]
fn every_image_is_pinned_and_can_be_replaced() {
    let mut problems = Vec::new();
    for (name, service) in services() {
        // The override adds to a service that has an image.
        let Some(image) = service["image"].as_str() else { continue };
        let default = default_of(image);
        let variable = image.strip_prefix("${").and_then(|rest| rest.split(":-").next()).unwrap_or_default();
        let (_, tag) = default.rsplit_once(':').unwrap_or_default();
        let pinned =
            tag == "local" || tag.starts_with(|it: char| it.is_ascii_digit() || it == 'v') && tag.contains('.');
        if !variable.ends_with("_IMAGE") || !pinned {
            problems.push(format!("{name}: {image}"));
        }
    }
    expect_none(&problems);
}

#[test]
fn every_file_that_is_mounted_exists() {
    let mut problems = Vec::new();
    for (name, service) in services() {
        for (from, _) in mounts(&service) {
            if from.starts_with('.') && !path(&from).exists() {
                problems.push(format!("{name}: {from} does not exist"));
            }
        }
    }
    expect_none(&problems);
}

#[test]
fn every_service_is_bounded_and_has_no_more_rights_than_it_needs() {
    let mut problems = Vec::new();
    let all = [COMPOSE, POSTGRES].map(|file| yaml(file)["services"].as_object().unwrap().clone());
    for (name, service) in all.iter().flatten().filter(|(_, service)| service["image"].is_string()) {
        let mut expect = |what: &str, is_so: bool| {
            if !is_so {
                problems.push(format!("{name}: {what}"));
            }
        };
        expect("no limit of memory", service["mem_limit"].is_string());
        expect("no limit of processes", service["pids_limit"].is_number());
        expect("may gain privileges", service["security_opt"].to_string().contains("no-new-privileges:true"));
        expect("its log grows for ever", service["logging"]["options"]["max-size"].is_string());
        // RabbitMQ's image begins as root, to hand its data to the user that it goes on as, and writes its own configuration.
        if name != "rabbitmq" {
            expect("may write its image", service["read_only"] == true);
            expect("has capabilities", service["cap_drop"][0] == "ALL");
        }
        expect("no health check, and none that is switched off", {
            // Ours come with the image.
            service["healthcheck"].is_object() || service["image"].as_str().unwrap().starts_with("${DOCRELAY_IMAGE")
        });
        let ports = service["ports"].as_array().into_iter().flatten();
        for port in ports.map(|port| port.as_str().unwrap()) {
            expect("is published to others than this machine", port.starts_with("127.0.0.1:"));
        }
    }
    expect_none(&problems);
}

#[test]
fn a_stop_may_take_longer_than_the_grace() {
    let period = yaml(COMPOSE)["services"]["docrelay"]["stop_grace_period"].as_str().unwrap().to_owned();
    let period = humantime::parse_duration(&period).unwrap();
    let grace = config::load(&[], std::iter::empty()).unwrap().shutdown.grace;
    assert!(period >= grace + std::time::Duration::from_secs(10), "{period:?} after {grace:?}");
}

#[test]
fn every_metric_that_is_asked_for_is_in_the_catalogue() {
    let catalogue = text("docs/metrics.md");
    let mut asked: Vec<_> = dashboard_queries("1m").into_iter().map(|query| (query.place, query.text)).collect();
    asked.extend(alerts().iter().map(|it| (it["alert"].to_string(), it["expr"].as_str().unwrap().to_owned())));
    for (file, dashboard) in dashboards() {
        asked.push((file, dashboard["templating"].to_string()));
    }
    let mut problems = Vec::new();
    for (place, query) in &asked {
        for name in names(query, "docrelay_").into_iter().chain(names(query, "process_")) {
            let family = name.strip_suffix("_bucket").unwrap_or(name);
            if !catalogue.contains(&format!("`{family}`")) {
                problems.push(format!("{place}: {name} is not in docs/metrics.md"));
            }
        }
    }
    problems.sort();
    problems.dedup();
    expect_none(&problems);
}

#[test]
fn every_alert_says_what_it_is_and_leads_to_its_paragraph() {
    let (runbook, mut problems) = (text("docs/runbook.md"), Vec::new());
    for alert in alerts() {
        let name = alert["alert"].as_str().unwrap();
        let annotations = &alert["annotations"];
        let link = format!("docs/runbook.md#{}", name.to_lowercase());
        if annotations["runbook_url"] != link || !runbook.contains(&format!("\n## {name}\n")) {
            problems.push(format!("{name}: {link} is not where it leads, or not in the runbook"));
        }
        if !annotations["summary"].is_string() || !annotations["description"].is_string() {
            problems.push(format!("{name}: no summary or no description"));
        }
        if !matches!(alert["labels"]["severity"].as_str(), Some("page" | "ticket")) {
            problems.push(format!("{name}: severity is page or ticket"));
        }
    }
    let known: BTreeSet<_> = alerts().iter().map(|it| it["alert"].as_str().unwrap().to_owned()).collect();
    for heading in runbook.lines().filter_map(|line| line.strip_prefix("## Docrelay")) {
        if !known.contains(&format!("Docrelay{heading}")) {
            problems.push(format!("docs/runbook.md: there is no alert Docrelay{heading}"));
        }
    }
    expect_none(&problems);
}

#[test]
fn every_alert_has_a_test_that_lets_it_fire() {
    let tests = yaml("deploy/prometheus/alerts_test.yml");
    let cases = tests["tests"].as_array().unwrap().iter().flat_map(|it| it["alert_rule_test"].as_array().unwrap());
    let fired: BTreeSet<_> = cases
        .filter(|case| case["exp_alerts"].as_array().is_some_and(|it| !it.is_empty()))
        .map(|case| case["alertname"].as_str().unwrap())
        .collect();
    let missing = alerts().into_iter().map(|it| it["alert"].as_str().unwrap().to_owned());
    expect_none(&missing.filter(|name| !fired.contains(name.as_str())).collect::<Vec<_>>());
}
