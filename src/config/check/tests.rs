//! What settings may be, and what the operator is told when they are something else.

use super::{super::render, *};

fn with(variables: &[(&str, &str)]) -> Result<Config, Problems> {
    load(&[], variables.iter().map(|(name, value)| (format!("DOCRELAY__{name}"), (*value).to_owned())))
}

fn file(text: &str) -> Result<Config, Problems> {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("docrelay.toml");
    std::fs::write(&path, text).unwrap();
    load(&[path], std::iter::empty())
}

fn only_problem(config: Result<Config, Problems>) -> String {
    let problems = config.unwrap_err();
    assert_eq!(problems.len(), 1, "{problems}");
    problems.to_string()
}

#[test]
fn the_defaults_have_no_problem() {
    let config = with(&[]).unwrap();
    assert_eq!(config.broker.url.reveal(), "amqp://guest:guest@127.0.0.1:5672/%2f");
    assert_eq!(config.broker.ca_file, None);
    assert_eq!(config.broker.declare, Declare::Create);
    assert_eq!(config.broker.prefetch, 500);
    assert_eq!(config.broker.window_bytes, 256 << 20);
    assert_eq!(config.events.max_bytes, 8 << 20);
    assert_eq!(config.delivery.max_attempts, 10);
    assert!(config.admin.listen.ip().is_loopback());
    assert_eq!(config.egress.allow, []);
    assert_eq!(config.shutdown.grace, Duration::from_secs(65));
    assert_eq!(config.log.format, LogFormat::Auto);
}

#[test]
fn every_default_that_is_not_read_is_reserved() {
    // What `render` shows is what is read.
    let read = render(&with(&[]).unwrap());
    let mut section = String::new();
    for line in layers::DEFAULTS.lines() {
        if let Some(name) = line.strip_prefix('[') {
            section = name.trim_end_matches(']').to_owned();
        } else if let Some((name, _)) = line.split_once(" = ").filter(|_| !line.starts_with('#')) {
            let is_read = read
                .split(&format!("[{section}]\n"))
                .nth(1)
                .and_then(|rest| rest.split("\n\n").next())
                .is_some_and(|lines| lines.lines().any(|line| line.starts_with(&format!("{name} = "))));
            let is_reserved = RESERVED.contains(&format!("{section}.{name}").as_str());
            assert!(is_read != is_reserved, "{section}.{name}: read {is_read}, reserved {is_reserved}");
        }
    }
}

#[test]
fn reserved_settings_are_refused_until_they_mean_something() {
    for (name, value) in [
        ("API__PUBLIC_URL", "https://relay.example"),
        ("RECORD__ENABLED", "true"),
        ("EGRESS__PROXY", "http://proxy:3128"),
        ("FAILED__MAX_BYTES", "0.1"),
    ] {
        let text = only_problem(with(&[(name, value)]));
        assert!(text.contains("not supported yet") && text.contains(name), "{text}");
    }
}

#[test]
fn reserved_settings_may_be_given_as_they_are() {
    assert!(with(&[("RECORD__ENABLED", "false"), ("ARCHIVE__MAX_BYTES", "0")]).is_ok());
    assert!(file("[record]\nenabled = false\n[archive]\nenabled = false").is_ok());
}

#[test]
fn all_problems_are_told_at_once() {
    let problems = with(&[
        ("BROKER__URL", "http://host/"),
        ("BROKER__PREFETCH", "0"),
        ("DELIVERY__TIMEOUT", "61s"),
        ("EGRESS__ALLOW", "10.0.0.0/8, nowhere"),
        ("LOG__FORMAT", "xml"),
        ("STORE__URL", "sqlite:x"),
    ])
    .unwrap_err();
    for key in ["broker.url", "broker.prefetch", "delivery.timeout", "egress.allow", "log.format", "store.url"] {
        assert!(problems.iter().any(|problem| problem.key == key), "{key} is missing in\n{problems}");
    }
    assert_eq!(problems.len(), 6, "{problems}");
}

#[test]
fn a_problem_says_what_was_expected_and_what_was_found() {
    let text = only_problem(with(&[("DELIVERY__TIMEOUT", "2 fortnights")]));
    assert_eq!(
        text,
        "variable DOCRELAY__DELIVERY__TIMEOUT: delivery.timeout: expected a duration such as \"15s\", from 1ms to 1m, got \"2 fortnights\""
    );
}

#[test]
fn what_is_wrong_with_the_brokers_url_is_said_without_repeating_it() {
    for url in ["http://user:hunter2@host/", "hunter2", "amqp:hunter2", "amqp://user:hunter2@", "amqp://u:hunter2@h:x/"]
    {
        let text = only_problem(with(&[("BROKER__URL", url)]));
        assert!(text.contains("broker.url") && !text.contains("hunter2"), "{text}");
    }
    let text = only_problem(file("[broker]\nurl = [\"hunter2\"]"));
    assert!(!text.contains("hunter2"), "{text}");
}

#[test]
fn the_store_is_a_file_or_a_server_or_not_there() {
    assert!(with(&[]).unwrap().store.url.is_none());
    for url in
        ["sqlite://store.db", "sqlite:///var/lib/store.db", "postgres://u:p@db/x", "postgresql://db/x?sslmode=require"]
    {
        assert_eq!(with(&[("STORE__URL", url)]).unwrap().store.url.unwrap().reveal(), url);
    }
    for url in [
        "sqlite://",
        "sqlite://a?mode=ro",
        "sqlite::memory:",
        "mysql://u:hunter2@db/x",
        "hunter2",
        "postgres://u:hunter2@db:x/",
    ] {
        let text = only_problem(with(&[("STORE__URL", url)]));
        assert!(text.contains("store.url: expected sqlite://PATH") && !text.contains("hunter2"), "{text}");
    }
}

#[test]
fn keys_are_read_from_lists_and_from_files_with_one_a_line() {
    let keys: Vec<_> = [1, 2].map(|_| Key::generate().unwrap()).into_iter().collect();
    let lines = format!("{}\n{}\n", keys[0].reveal(), keys[1].reveal());
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("keys");
    std::fs::write(&path, &lines).unwrap();
    let from_lines = with(&[("SECRETS__KEYS_FILE", path.to_str().unwrap())]).unwrap();
    let from_file = file(&format!("[secrets]\nkeys = [{:?}, {:?}]", keys[0].reveal(), keys[1].reveal())).unwrap();
    for config in [from_lines, from_file] {
        let names: Vec<_> = config.secrets.keys.iter().map(Key::id).collect();
        assert_eq!(names, keys.iter().map(|key| key.reveal().split(':').next().unwrap()).collect::<Vec<_>>());
    }
}

#[test]
fn bad_keys_are_told_without_being_repeated() {
    let key = Key::generate().unwrap();
    let twice = format!("{},{}", key.reveal(), key.reveal());
    for (text, expected) in
        [("hunter2", "item 1: expected id:base64"), ("k:hunter2", "base64 of 32 bytes"), (&twice, "twice")]
    {
        let problem = only_problem(with(&[("SECRETS__KEYS", text)]));
        assert!(problem.contains(expected) && !problem.contains("hunter2"), "{problem}");
        assert!(!problem.contains(key.reveal()), "{problem}");
    }
    let problem = only_problem(file("[secrets]\nkeys = [1]"));
    assert!(problem.contains("secrets.keys: expected a list of keys"), "{problem}");
}

#[test]
fn values_of_the_wrong_kind_are_problems() {
    for text in [
        "[broker]\nprefetch = \"many\"",
        "[broker]\nprefetch = 1.5",
        "[broker]\nprefetch = 65536",
        "[broker]\nprefetch = -1",
        "[broker]\nqueue_prefix = \"a b\"",
        "[broker]\nqueue_prefix = \"amq.x\"",
        "[broker]\nevents_exchange = \"\"",
        "[broker]\ndelay_unit = 1",
        "[events]\nmax_bytes = \"16MiB\"",
        "[admin]\nlisten = \"localhost\"",
        "[delivery]\nmax_attempts = 0",
        "[delivery]\nmax_age = \"8d\"",
        "[egress]\nallow = [1]",
        "[log]\nlevel = \"verbose\"",
        "[log]\nlevel = \"info,docrelay=loud\"",
    ] {
        only_problem(file(text));
    }
}

#[test]
fn settings_that_do_not_go_together_are_problems() {
    for (variables, expected) in [
        (&[("DELIVERY__MAX_ATTEMPTS", "20")], "the retry plan does not fit"),
        (&[("DELIVERY__MAX_AGE", "17m 2s")], "the retry plan does not fit"),
        (&[("BROKER__WINDOW_BYTES", "7MiB")], "at least events.max_bytes (8MiB)"),
        (&[("BROKER__RESULTS_EXCHANGE", "documents")], "broker.results_exchange"),
    ] {
        let text = only_problem(with(variables));
        assert!(text.contains(expected), "{text}");
    }
    // 2 + 4 + ... + 512 seconds are 17 minutes and 2 seconds.
    assert!(with(&[("DELIVERY__MAX_AGE", "17m 3s")]).is_ok());
}

#[test]
fn targets_have_no_rate_unless_it_is_set_and_a_burst_of_a_second_unless_that_is() {
    assert_eq!(with(&[]).unwrap().limits.rate, None);
    for (text, per_second, burst) in [
        ("per_second = 10", 10.0, 10),
        ("per_second = 0.5", 0.5, 1),
        ("per_second = 2.5\nburst = 0", 2.5, 3),
        ("per_second = 100000\nburst = 1", 100_000.0, 1),
    ] {
        let found = file(&format!("[limits]\n{text}")).unwrap().limits.rate;
        assert_eq!(found, Some(RateLimit::new(per_second, Some(burst)).unwrap()), "{text}");
    }
    let from_environment = with(&[("LIMITS__PER_SECOND", "2.5"), ("LIMITS__BURST", "7")]).unwrap();
    assert_eq!(from_environment.limits.rate, Some(RateLimit::new(2.5, Some(7)).unwrap()));
}

#[test]
fn a_bad_rate_is_told_with_what_was_expected() {
    for (text, expected) in [
        ("per_second = -1", "limits.per_second: expected 0 or a number from 0.001 to 100000, got -1"),
        ("per_second = 0.0001", "limits.per_second: expected 0 or a number from 0.001 to 100000, got 0.0001"),
        ("per_second = 100001", "limits.per_second: expected 0 or a number from 0.001 to 100000, got 100001"),
        ("per_second = nan", "limits.per_second: expected 0 or a number from 0.001 to 100000, got NaN"),
        ("per_second = inf", "limits.per_second: expected 0 or a number from 0.001 to 100000, got inf"),
        ("per_second = \"ten\"", "limits.per_second: expected 0 or a number from 0.001 to 100000, got \"ten\""),
        ("per_second = 1\nburst = 100001", "limits.burst: expected 0 or a whole number from 1 to 100000, got 100001"),
        ("per_second = 1\nburst = 1.5", "limits.burst: expected 0 or a whole number from 1 to 100000, got 1.5"),
        ("burst = 5", "limits.burst: needs limits.per_second, which is 0"),
    ] {
        let told = only_problem(file(&format!("[limits]\n{text}")));
        assert!(told.contains(expected), "{text}\n{told}");
    }
    let both = with(&[("LIMITS__PER_SECOND", "fast"), ("LIMITS__BURST", "-1")]).unwrap_err();
    assert_eq!(both.len(), 2, "{both}");
}

#[test]
fn lists_are_read_from_files_and_from_the_environment() {
    let from_file = file("[egress]\nallow = [\"10.0.0.0/8\", \"::1\"]").unwrap();
    let from_environment = with(&[("EGRESS__ALLOW", "10.0.0.0/8,::1")]).unwrap();
    assert_eq!(from_file.egress.allow, from_environment.egress.allow);
    assert_eq!(from_file.egress.allow.len(), 2);
}

#[test]
fn planted_secrets_are_never_shown() {
    let url = "amqps://relay:hunter2@host:5671/v?token=hunter2#hunter2";
    let config = with(&[("BROKER__URL", url)]).unwrap();
    let shown = render(&config);
    assert!(!shown.contains("hunter2"), "{shown}");
    assert!(shown.contains("url = \"amqps://relay:***@host:5671/v?***\""), "{shown}");
    let key = Key::generate().unwrap();
    let config =
        with(&[("STORE__URL", "postgres://relay:hunter2@db/x?password=hunter2"), ("SECRETS__KEYS", key.reveal())]);
    let config = config.unwrap();
    let (name, bytes) = key.reveal().split_once(':').unwrap();
    for shown in [render(&config), format!("{config:?}"), format!("{config:#?}")] {
        assert!(!shown.contains("hunter2") && !shown.contains(bytes), "{shown}");
    }
    let shown = render(&config);
    assert!(shown.contains("url = \"postgres://relay:***@db/x?***\""), "{shown}");
    assert!(shown.contains(&format!("keys = [\"{name}:***\"]")), "{shown}");
    assert!(!format!("{config:?}").contains("hunter2"));
    assert!(!format!("{config:#?}").contains("hunter2"));
}

#[test]
fn what_is_rendered_reads_back_as_the_same_settings() {
    let variables =
        [("EGRESS__DENY", "8.8.8.0/24"), ("BROKER__CA_FILE", "/etc/\"ca\\.pem"), ("EVENTS__MAX_BYTES", "1000000")];
    let shown = render(&with(&variables).unwrap());
    assert_eq!(render(&file(&shown).unwrap()), shown);
    for per_second in ["0", "0.001", "0.3", "7", "2.5", "100000"] {
        let config = with(&[("LIMITS__PER_SECOND", per_second)]).unwrap();
        let shown = render(&config);
        assert!(shown.contains(&format!("\nper_second = {per_second}\n")), "{shown}");
        assert_eq!(file(&shown).unwrap().limits.rate, config.limits.rate);
    }
}
