//! Tests of the whole way from arguments, variables and files to a source, and of what becomes of it over time.

use super::chain::{Arguments, Plan, PlanError, plan};
use super::fake::{Fake, key};
use super::files::FileArguments;
use super::session::{Checks, Outside, Session};
use super::*;

const CONFIG: &str = "/home/me/.aws/config";
const CREDENTIALS: &str = "/home/me/.aws/credentials";

/// A machine with a home directory, these variables and these two files.
fn machine(variables: &[(&str, &str)], config: &str, credentials: &str) -> Fake {
    let mut all = vec![("HOME", "/home/me")];
    all.extend(variables);
    Fake::new(&all)
        .with_file(CONFIG, config)
        .with_file(CREDENTIALS, credentials)
}

fn profile(name: &str) -> Arguments {
    Arguments {
        profile: Some(name.to_owned()),
        ..Arguments::default()
    }
}

fn chosen(plan: &Result<Plan, PlanError>) -> String {
    match plan {
        Ok(plan) => plan.base.to_string(),
        Err(error) => format!("error: {}", error.reason),
    }
}

fn static_keys() -> StaticKeys {
    StaticKeys {
        key: key("AKIABLOCK", None).key,
        account_id: None,
    }
}

const KEYS: [(&str, &str); 2] = [
    ("AWS_ACCESS_KEY_ID", "AKIAENV"),
    ("AWS_SECRET_ACCESS_KEY", "CANARY"),
];

#[test]
fn exactly_one_source_is_chosen_in_terraforms_order() {
    let credentials = "[default]\naws_access_key_id=AKIADEFAULT\naws_secret_access_key=CANARY\n\
                       [other]\naws_access_key_id=AKIAOTHER\naws_secret_access_key=CANARY\n";
    let with_keys = |more: &[(&'static str, &'static str)]| [&KEYS[..], more].concat();
    let token_file = [
        ("AWS_WEB_IDENTITY_TOKEN_FILE", "/token"),
        ("AWS_ROLE_ARN", "arn:aws:iam::1:role/web"),
    ];
    let web = "role arn:aws:iam::1:role/web assumed with a web identity token";
    let block = Arguments {
        keys: Some(static_keys()),
        ..profile("other")
    };
    let legacy = Arguments {
        use_legacy_workflow: true,
        ..profile("other")
    };
    let none = Arguments::default();
    for (why, arguments, variables, expected) in [
        (
            "the block's keys beat all",
            &block,
            with_keys(&token_file),
            "argument access_key",
        ),
        (
            "an argument beats the environment",
            &profile("other"),
            with_keys(&token_file),
            "keys of profile other",
        ),
        (
            "unless the old order is asked for",
            &legacy,
            with_keys(&[]),
            "environment AWS_ACCESS_KEY_ID",
        ),
        (
            "for which the older names do not count",
            &legacy,
            vec![("AWS_ACCESS_KEY", "A"), ("AWS_SECRET_KEY", "C")],
            "keys of profile other",
        ),
        (
            "keys beat a token file",
            &none,
            with_keys(&token_file),
            "environment AWS_ACCESS_KEY_ID",
        ),
        (
            "and AWS_PROFILE",
            &none,
            with_keys(&[("AWS_PROFILE", "other")]),
            "environment AWS_ACCESS_KEY_ID",
        ),
        (
            "by any of their names",
            &none,
            vec![("AWS_ACCESS_KEY", "A"), ("AWS_SECRET_ACCESS_KEY", "C")],
            "environment AWS_ACCESS_KEY",
        ),
        (
            "half a pair is none",
            &none,
            vec![KEYS[0]],
            "keys of profile default",
        ),
        (
            "an empty half too",
            &none,
            vec![KEYS[0], ("AWS_SECRET_ACCESS_KEY", "")],
            "keys of profile default",
        ),
        (
            "a token file beats AWS_PROFILE",
            &none,
            [&token_file[..], &[("AWS_PROFILE", "other")]].concat(),
            web,
        ),
        (
            "a token file needs a role",
            &none,
            vec![token_file[0]],
            "error: role ARN is not set: AWS_WEB_IDENTITY_TOKEN_FILE needs AWS_ROLE_ARN",
        ),
        (
            "AWS_PROFILE beats AWS_DEFAULT_PROFILE",
            &none,
            vec![("AWS_PROFILE", "other"), ("AWS_DEFAULT_PROFILE", "default")],
            "keys of profile other",
        ),
        (
            "which counts without it",
            &none,
            vec![("AWS_DEFAULT_PROFILE", "other")],
            "keys of profile other",
        ),
        (
            "default is the last name",
            &none,
            vec![],
            "keys of profile default",
        ),
        (
            "a named profile must be there",
            &none,
            with_keys(&[("AWS_PROFILE", "gone")]),
            "error: failed to get shared config profile, gone",
        ),
        (
            "also that of the argument",
            &profile("gone"),
            vec![],
            "error: failed to get shared config profile, gone",
        ),
        (
            "that of AWS_DEFAULT_PROFILE need not",
            &none,
            vec![("AWS_DEFAULT_PROFILE", "gone")],
            "EC2 instance metadata service",
        ),
    ] {
        let machine = machine(&variables, "", credentials);
        assert_eq!(chosen(&plan(arguments, &machine)), expected, "{why}");
    }
}

#[test]
fn the_blocks_own_keys_need_loadable_files_all_the_same() {
    let arguments = Arguments {
        keys: Some(static_keys()),
        ..profile("gone")
    };
    let error = plan(&arguments, &machine(&[], "", "")).unwrap_err();
    assert_eq!(
        error.reason,
        "loading configuration: failed to get shared config profile, gone"
    );
}

#[test]
fn what_was_passed_over_is_told_with_the_reason() {
    let variables = [&KEYS[..], &[("AWS_PROFILE", "b")]].concat();
    let found = plan(
        &profile("a"),
        &machine(&variables, "[profile a]\n[profile b]\n", ""),
    )
    .unwrap();
    assert!(found.profile_beats_environment);
    let told: Vec<_> = found
        .passed_over
        .iter()
        .map(|it| (it.source.as_str(), it.reason))
        .collect();
    let reason = "the argument profile comes first";
    assert_eq!(
        told,
        [
            ("environment AWS_ACCESS_KEY_ID", reason),
            ("environment AWS_PROFILE", reason)
        ]
    );
    assert_eq!(found.looked_at, [CONFIG, CREDENTIALS]);

    let found = plan(&Arguments::default(), &machine(&KEYS[..1], "", "")).unwrap();
    assert_eq!(
        found.passed_over[0].reason,
        "AWS_SECRET_ACCESS_KEY is not set"
    );
}

#[test]
fn a_web_identity_of_the_block_takes_the_place_of_what_was_found() {
    let arguments = Arguments {
        web_identity: Some(WebIdentityArguments {
            role_arn: "arn:aws:iam::1:role/block".to_owned(),
            duration_seconds: None,
            policy: None,
            policy_arns: Vec::new(),
            session_name: None,
            token: Token::Inline(Secret::new("CANARY".to_owned())),
            profile: None,
        }),
        ..Arguments::default()
    };
    let found = plan(&arguments, &machine(&KEYS, "", "")).unwrap();
    assert_eq!(
        found.base.to_string(),
        "role arn:aws:iam::1:role/block assumed with a web identity token"
    );
    assert_eq!(found.passed_over[0].source, "environment AWS_ACCESS_KEY_ID");
    assert!(!format!("{found:?}").contains("CANARY"));
}

const PAIR: &str = "aws_access_key_id = AKIA\naws_secret_access_key = CANARY\n";
const ROLE: &str = "role_arn = arn:aws:iam::1:role/r\n";

#[test]
fn a_profile_stands_for_one_source() {
    let container = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c")];
    let full = [("AWS_CONTAINER_CREDENTIALS_FULL_URI", "http://localhost/c")];
    let both = [container[0], full[0]];
    let sso = "sso_region = eu-west-1\nsso_start_url = https://x\nsso_account_id = 1\nsso_role_name = r\n";
    let role = "role arn:aws:iam::1:role/r assumed with";
    type Row<'a> = (&'a str, String, &'a [(&'a str, &'a str)], String);
    let table: Vec<Row<'_>> = vec![
        ("keys", PAIR.to_owned(), &[], "keys of profile p".to_owned()),
        ("keys beat a process", format!("{PAIR}credential_process = x"), &[], "keys of profile p".to_owned()),
        ("a role on top of its own keys", format!("{PAIR}{ROLE}"), &[], format!("{role} keys of profile p")),
        ("a source profile beats its own keys", format!("{PAIR}{ROLE}source_profile = s"), &[], format!("{role} keys of profile s")),
        ("a profile may be its own source", format!("{PAIR}{ROLE}source_profile = p"), &[], format!("{role} keys of profile p")),
        (
            "a profile without keys cannot",
            format!("{ROLE}source_profile = p"),
            &[],
            "error: failed to load assume role arn:aws:iam::1:role/r, of profile p, <nil>".to_owned(),
        ),
        (
            "the source must be there",
            format!("{ROLE}source_profile = gone"),
            &[],
            "error: failed to load assume role arn:aws:iam::1:role/r, of profile gone, failed to get shared config profile, gone".to_owned(),
        ),
        (
            "the source must have credentials",
            format!("{ROLE}source_profile = empty"),
            &[],
            "error: failed to load assume role arn:aws:iam::1:role/r, of profile empty, <nil>".to_owned(),
        ),
        (
            "roles upon roles",
            format!("{ROLE}source_profile = middle"),
            &[],
            format!("{role} role arn:aws:iam::1:role/middle assumed with keys of profile s"),
        ),
        (
            "a source with keys is the end, but its own role applies",
            format!("{ROLE}source_profile = end"),
            &[],
            format!("{role} role arn:aws:iam::1:role/end assumed with keys of profile end"),
        ),
        (
            "a loop without keys ends",
            format!("{ROLE}source_profile = loop"),
            &[],
            "error: failed to load assume role arn:aws:iam::1:role/loop, of profile p, <nil>".to_owned(),
        ),
        ("a role of the instance", format!("{ROLE}credential_source = Ec2InstanceMetadata"), &container, format!("{role} EC2 instance metadata service")),
        (
            "a role of the container",
            format!("{ROLE}credential_source = EcsContainer"),
            &container,
            format!("{role} environment AWS_CONTAINER_CREDENTIALS_RELATIVE_URI"),
        ),
        (
            "there is no container",
            format!("{ROLE}credential_source = EcsContainer"),
            &[],
            "error: EcsContainer was specified as the credential_source, but neither \
             'AWS_CONTAINER_CREDENTIALS_RELATIVE_URI' or AWS_CONTAINER_CREDENTIALS_FULL_URI' was set"
                .to_owned(),
        ),
        (
            "the name of a source has its case",
            format!("{ROLE}credential_source = environment"),
            &[],
            "error: credential_source values must be EcsContainer, Ec2InstanceMetadata, or Environment".to_owned(),
        ),
        (
            "a source without a role",
            "credential_source = Environment".to_owned(),
            &[],
            "error: credential type credential_source requires role_arn, profile p".to_owned(),
        ),
        ("a token file without a role", "web_identity_token_file = /t".to_owned(), &[], "error: credential type web_identity_token_file requires role_arn, profile p".to_owned()),
        ("a token file", format!("{ROLE}web_identity_token_file = /t"), &[], format!("{role} a web identity token")),
        (
            "two sources",
            format!("{ROLE}web_identity_token_file = /t\ncredential_process = x"),
            &[],
            "error: only one credential type may be specified per profile: source profile, credential source, \
             credential process, web identity token"
                .to_owned(),
        ),
        ("SSO in the older form", sso.to_owned(), &[], "IAM Identity Center by profile p".to_owned()),
        ("SSO beats a process", format!("{sso}credential_process = x"), &[], "IAM Identity Center by profile p".to_owned()),
        ("a role on top of SSO", format!("{sso}{ROLE}"), &[], format!("{role} IAM Identity Center by profile p")),
        (
            "parts of SSO",
            "sso_role_name = r\nsso_start_url = https://x".to_owned(),
            &[],
            "error: profile \"p\" is configured to use SSO but is missing required configuration: sso_region, sso_account_id".to_owned(),
        ),
        ("SSO with a session", "sso_session = s\nsso_account_id = 1\nsso_role_name = r".to_owned(), &[], "IAM Identity Center by profile p".to_owned()),
        ("a session that is not there", "sso_session = gone".to_owned(), &[], "error: failed to find SSO session section, gone".to_owned()),
        ("a session without a region", "sso_session = bare".to_owned(), &[], "error: profile \"p\" is configured to use SSO but is missing required configuration: sso_region".to_owned()),
        ("a session for another region", "sso_session = s\nsso_region = us-east-1".to_owned(), &[], "error: sso_region in profile \"p\" must match sso_region in sso-session ".to_owned()),
        ("a process", "credential_process = x".to_owned(), &container, "credential_process of profile p".to_owned()),
        ("a container, the relative path first", String::new(), &both, "environment AWS_CONTAINER_CREDENTIALS_RELATIVE_URI".to_owned()),
        ("a container by a whole URL", String::new(), &full, "environment AWS_CONTAINER_CREDENTIALS_FULL_URI".to_owned()),
        ("nothing at all", String::new(), &[], "EC2 instance metadata service".to_owned()),
        ("a role alone", ROLE.to_owned(), &[], format!("{role} EC2 instance metadata service")),
        (
            "half a pair",
            "aws_access_key_id = A".to_owned(),
            &[],
            "error: error fetching config from profile, p, Error using profile: \n 1, partial credentials found for profile p\n".to_owned(),
        ),
    ];
    for (what, text, variables, expected) in table {
        let config = format!(
            "[profile p]\n{text}\n[profile s]\n{PAIR}[profile empty]\nlogin_session = x\n\
             [profile middle]\nrole_arn = arn:aws:iam::1:role/middle\nsource_profile = s\n\
             [profile end]\nrole_arn = arn:aws:iam::1:role/end\nsource_profile = middle\n{PAIR}\
             [profile loop]\nrole_arn = arn:aws:iam::1:role/loop\nsource_profile = p\n\
             [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x\n\
             [sso-session bare]\nsso_start_url = https://x\n"
        );
        let found = plan(&profile("p"), &machine(variables, &config, ""));
        assert_eq!(chosen(&found), expected, "{what}");
        assert!(!format!("{found:?}").contains("CANARY"), "{what}");
    }
}

#[test]
fn what_nobody_can_do_here_is_refused_with_a_way_out() {
    let config =
        format!("[profile l]\nlogin_session = x\n[profile m]\n{PAIR}{ROLE}mfa_serial = y\n");
    let machine = machine(&[], &config, "");
    let error = plan(&profile("l"), &machine).unwrap_err();
    assert!(
        error
            .reason
            .contains("aws configure export-credentials --profile l"),
        "{error}"
    );
    let error = plan(&profile("m"), &machine).unwrap_err();
    let text = "assume role with MFA enabled, but AssumeRoleTokenProvider session option not set.";
    assert!(error.reason.contains(text), "{error}");
}

#[test]
fn a_role_of_a_profile_takes_over_what_the_profile_says() {
    for (seconds, expected) in [
        ("3600", 3600),
        ("0x1000", 4096),
        ("960", 960),
        ("959", 900),
        ("900", 900),
        ("-5", 900),
        ("soon", 900),
    ] {
        let config = format!(
            "[profile p]\n{PAIR}{ROLE}external_id = e\nrole_session_name = n\nduration_seconds = {seconds}\n"
        );
        let found = plan(&profile("p"), &machine(&[], &config, "")).unwrap();
        let Source::AssumeRole { role, .. } = found.base else {
            panic!("{:?}", found.base);
        };
        assert_eq!(role.duration_seconds, expected, "{seconds}");
        assert_eq!(role.external_id.as_deref(), Some("e"));
        assert_eq!(role.session_name.as_deref(), Some("n"));
        assert_eq!(role.profile.as_deref(), Some("p"));
    }
}

#[test]
fn files_are_laid_over_each_other_key_by_key() {
    let pair = |id: &str| format!("aws_access_key_id = {id}\naws_secret_access_key = C\n");
    for (what, config, credentials, expected) in [
        (
            "a pair replaces a pair",
            format!("[profile p]\n{}", pair("A")),
            format!("[p]\n{}", pair("B")),
            "B",
        ),
        (
            "an old token survives a pair without one",
            format!("[profile p]\n{}aws_session_token = t", pair("A")),
            format!("[p]\n{}", pair("B")),
            "B with t",
        ),
        (
            "a new token replaces it",
            format!("[profile p]\n{}aws_session_token = t", pair("A")),
            format!("[p]\n{}aws_session_token = u", pair("B")),
            "B with u",
        ),
        (
            "a bare section of the config file is none",
            format!("[p]\n{}", pair("A")),
            format!("[p]\n{}", pair("B")),
            "B",
        ),
        (
            "a section profile x of the credentials file is none",
            format!("[profile p]\n{}", pair("A")),
            format!("[profile p]\n{}", pair("B")),
            "A",
        ),
        (
            "later half pairs count",
            format!("[profile p]\n{}", pair("A")),
            "[p]\naws_access_key_id = B".to_owned(),
            "error",
        ),
        (
            "earlier ones are mended",
            "[profile p]\naws_access_key_id = A".to_owned(),
            format!("[p]\n{}", pair("B")),
            "B",
        ),
    ] {
        let found = plan(&profile("p"), &machine(&[], &config, &credentials));
        let found = match found.map(|plan| plan.base) {
            Ok(Source::Profile { keys, .. }) => match keys.key.session_token {
                Some(token) => format!("{} with {}", keys.key.id, token.expose()),
                None => keys.key.id,
            },
            Ok(other) => panic!("{what}: {other}"),
            Err(_) => "error".to_owned(),
        };
        assert_eq!(found, expected, "{what}");
    }
    let found = plan(
        &profile("default"),
        &machine(
            &[],
            "[profile default]\nregion = a\n[default]\nregion = b\nretry_mode = adaptive\n",
            "",
        ),
    );
    let settings = found.unwrap().settings;
    assert_eq!(settings.text("region"), Some("a"));
    assert_eq!(settings.text("retry_mode"), None);
    let found = plan(
        &profile("p"),
        &machine(
            &[],
            "[profile p]\nregion = a\n",
            "[p]\nregion = b\nendpoint_url = http://x\n",
        ),
    );
    let settings = found.unwrap().settings;
    assert_eq!(settings.text("region"), Some("b"));
    assert_eq!(
        settings.text("endpoint_url"),
        None,
        "this key is not merged"
    );
}

#[test]
fn the_files_are_those_that_arguments_and_variables_name() {
    let files = |config: &[&str], credentials: &[&str], older: Option<&str>| Arguments {
        files: FileArguments {
            config: config.iter().map(ToString::to_string).collect(),
            credentials: credentials.iter().map(ToString::to_string).collect(),
            older_credentials: older.map(str::to_owned),
        },
        ..Arguments::default()
    };
    let home = &[("HOME", "/h")][..];
    let all = &[
        ("HOME", "/h"),
        ("AWS_CONFIG_FILE", "~/c"),
        ("AWS_SHARED_CONFIG_FILE", "~/s"),
        ("AWS_SHARED_CREDENTIALS_FILE", "$HOME/e"),
    ][..];
    for (arguments, variables, expected) in [
        (
            files(&[], &[], None),
            home,
            "/h/.aws/config /h/.aws/credentials",
        ),
        (files(&[], &[], None), &[][..], ""),
        (files(&[], &[], None), all, "/h/s /h/e"),
        (
            files(&[], &[], None),
            &[("HOME", "/h"), ("AWS_CONFIG_FILE", "~/c")][..],
            "~/c /h/.aws/credentials",
        ),
        (files(&["~/1", "/2"], &["/3"], None), all, "/h/1 /2 /3"),
        (files(&[], &[], Some("~/o")), home, "/h/.aws/config /h/o"),
        (files(&[], &[], Some("~/o")), all, "/h/s /h/e"),
    ] {
        let found = plan(&arguments, &Fake::new(variables)).unwrap();
        let paths: Vec<_> = found
            .looked_at
            .iter()
            .map(|it| it.trim_end_matches(" (not there)"))
            .collect();
        assert_eq!(paths.join(" "), expected);
    }
    let error = plan(&files(&["~x/c"], &[], None), &Fake::new(home)).unwrap_err();
    assert_eq!(
        error.reason,
        "expanding shared config files: cannot expand user-specific home dir"
    );
}

#[test]
fn a_command_is_known_by_whose_file_it_stands_in() {
    let text = "[profile p]\ncredential_process = x\n";
    let origin = |arguments: &Arguments, fake: &Fake| match plan(arguments, fake).unwrap().base {
        Source::Process(process) => process.origin,
        other => panic!("{other}"),
    };
    let fake = machine(&[], text, "").with_file("/block", text);
    assert_eq!(origin(&profile("p"), &fake), Origin::UserFile);
    let mut block = profile("p");
    block.files.config = vec!["/block".to_owned()];
    assert_eq!(origin(&block, &fake), Origin::BlockFile);
    // A file of the block that lays its own command over the user's is the block's.
    let mut both = profile("p");
    both.files.credentials = vec!["/over".to_owned()];
    let fake = machine(&[], text, "").with_file("/over", "[p]\ncredential_process = y\n");
    assert_eq!(origin(&both, &fake), Origin::BlockFile);
    let fake = machine(&[], text, "").with_file("/over", "[p]\nregion = y\n");
    assert_eq!(origin(&both, &fake), Origin::UserFile);
}

#[test]
fn the_metadata_service_is_where_the_nearest_word_says() {
    let config = "[default]\nec2_metadata_service_endpoint = http://profile\nec2_metadata_service_endpoint_mode = IPV6\n";
    let six =
        "[default]\nec2_metadata_service_endpoint_mode = ipv6\nec2_metadata_v1_disabled = True\n";
    let argument = Arguments {
        imds_endpoint: Some("http://argument/".to_owned()),
        ..Arguments::default()
    };
    let forced = Arguments {
        skip_metadata_api_check: Some(false),
        ..Arguments::default()
    };
    let forbidden = Arguments {
        skip_metadata_api_check: Some(true),
        ..Arguments::default()
    };
    let none = Arguments::default();
    let variable = ("AWS_EC2_METADATA_SERVICE_ENDPOINT", "http://variable");
    let old = ("AWS_METADATA_URL", "http://old");
    let off = ("AWS_EC2_METADATA_DISABLED", "TRUE");
    for (arguments, variables, config, expected) in [
        (
            &argument,
            vec![variable],
            config,
            "http://argument false false",
        ),
        (
            &none,
            vec![variable, old],
            config,
            "http://variable false false",
        ),
        (&none, vec![old], config, "http://old false false"),
        (&none, vec![], config, "http://profile false false"),
        (&none, vec![], six, "http://[fd00:ec2::254] false true"),
        (
            &none,
            vec![("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "ipv4")],
            six,
            "http://169.254.169.254 false true",
        ),
        (&none, vec![off], "", "http://169.254.169.254 true false"),
        (&forced, vec![off], "", "http://169.254.169.254 false false"),
        (&forbidden, vec![], "", "http://169.254.169.254 true false"),
        (
            &none,
            vec![("AWS_EC2_METADATA_V1_DISABLED", "true")],
            "",
            "http://169.254.169.254 false true",
        ),
    ] {
        let found = plan(arguments, &machine(&variables, config, "")).unwrap();
        let imds = found.base.instance().unwrap();
        let found = format!(
            "{} {} {}",
            imds.endpoint, imds.is_disabled, imds.is_v1_disabled
        );
        assert_eq!(found, expected);
    }
    for (variable, reason) in [
        (
            ("AWS_EC2_METADATA_DISABLED", "yes"),
            "invalid value for environment variable, AWS_EC2_METADATA_DISABLED=yes, need true or false",
        ),
        (
            ("AWS_EC2_METADATA_SERVICE_ENDPOINT_MODE", "v6"),
            "unknown EC2 IMDS endpoint mode, must be either IPv6 or IPv4",
        ),
    ] {
        let error = plan(&none, &machine(&[variable], "", "")).unwrap_err();
        assert_eq!(error.reason, reason);
    }
}

#[test]
fn the_endpoints_of_sso_follow_their_own_variables_and_the_files() {
    let config = "[profile p]\nsso_session = s\nsso_account_id = 1\nsso_role_name = r\nservices = v\nendpoint_url = http://all\n\
                  [sso-session s]\nsso_region = eu-west-1\nsso_start_url = https://x\n\
                  [services v]\nsso =\n  endpoint_url = http://sso\n";
    let argument = Arguments {
        sso_endpoint: Some("http://argument".to_owned()),
        ..profile("p")
    };
    let none = profile("p");
    for (arguments, variables, expected, source) in [
        (
            &none,
            vec![],
            "http://sso http://all",
            "services section of profile p",
        ),
        (
            &argument,
            vec![],
            "http://argument http://all",
            "argument endpoints.sso",
        ),
        (
            &none,
            vec![("AWS_ENDPOINT_URL", "http://env:1")],
            "http://env:1 http://env:1",
            "environment AWS_ENDPOINT_URL",
        ),
        (
            &none,
            vec![
                ("AWS_ENDPOINT_URL_SSO", "http://a"),
                ("AWS_ENDPOINT_URL_SSO_OIDC", "http://b"),
            ],
            "http://a http://b",
            "environment AWS_ENDPOINT_URL_SSO",
        ),
        (
            &none,
            vec![
                ("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true"),
                ("AWS_ENDPOINT_URL", "http://env"),
            ],
            "https://portal.sso.eu-west-1.amazonaws.com https://oidc.eu-west-1.amazonaws.com",
            "default",
        ),
    ] {
        let found = plan(arguments, &machine(&variables, config, "")).unwrap();
        let Source::Sso(sso) = found.base else {
            panic!("{:?}", found.base);
        };
        let url = |it: &ServiceLocation| format!("{}://{}", it.scheme, it.authority);
        let found = format!("{} {}", url(&sso.portal.value), url(&sso.oidc));
        assert_eq!(found, expected);
        assert_eq!(sso.portal.source, source);
        assert_eq!(sso.cache_directory, "/home/me/.aws/sso/cache");
    }
}

fn unchecked() -> Checks {
    Checks {
        skip_credentials_validation: true,
        skip_requesting_account_id: true,
        ..Checks::default()
    }
}

fn role(name: &str) -> RoleArguments {
    RoleArguments {
        role_arn: name.to_owned(),
        ..RoleArguments::default()
    }
}

/// A session and the means to use it.
struct Run {
    fake: Fake,
    session: Session,
}

impl Run {
    fn new(fake: Fake, arguments: &Arguments, checks: Checks) -> Self {
        let plan = plan(arguments, &fake);
        let session = Session::new(plan, arguments.assume_role.clone(), checks);
        Self { fake, session }
    }

    fn outside(&self) -> Outside<'_> {
        Outside {
            platform: &self.fake,
            providers: &self.fake,
        }
    }

    fn id(&self) -> String {
        match self.session.credentials(self.outside()) {
            Ok(credentials) => credentials.key.id,
            Err(error) => error.message,
        }
    }
}

#[test]
fn each_role_is_renewed_when_its_own_credentials_end() {
    let config = format!("[profile p]\n{ROLE}source_profile = s\n[profile s]\n{PAIR}");
    let mut arguments = profile("p");
    arguments.assume_role = Some(role("block"));
    let run = Run::new(machine(&[], &config, ""), &arguments, unchecked());
    assert_eq!(run.id(), "ASIA2");
    let first = [
        "assume arn:aws:iam::1:role/r with AKIA",
        "assume block with ASIA1",
    ];
    assert_eq!(run.fake.called(), first);
    run.fake.now.set(run.fake.now.get() + 3599);
    assert_eq!(run.id(), "ASIA2");
    assert!(run.fake.called().is_empty(), "still good");
    run.fake.now.set(run.fake.now.get() + 1);
    assert_eq!(run.id(), "ASIA4");
    let both = [
        "assume arn:aws:iam::1:role/r with AKIA",
        "assume block with ASIA3",
    ];
    assert_eq!(run.fake.called(), both);
}

#[test]
fn a_containers_credentials_are_renewed_five_minutes_early() {
    let variables = [("AWS_CONTAINER_CREDENTIALS_RELATIVE_URI", "/c")];
    let run = Run::new(
        machine(&variables, "", ""),
        &Arguments::default(),
        unchecked(),
    );
    assert_eq!(run.id(), "ASIA1");
    run.fake.now.set(run.fake.now.get() + 3299);
    assert_eq!(run.id(), "ASIA1");
    run.fake.now.set(run.fake.now.get() + 1);
    assert_eq!(run.id(), "ASIA2");
}

#[test]
fn credentials_that_come_expired_are_used_once() {
    let run = Run::new(machine(&[], "", ""), &Arguments::default(), unchecked());
    run.fake.life.set(0);
    assert_eq!(run.id(), "ASIA1");
    assert_eq!(run.id(), "ASIA2");
}

#[test]
fn an_instances_credentials_outlive_a_metadata_service_that_falters_unless_they_are_refused() {
    let run = Run::new(machine(&[], "", ""), &Arguments::default(), unchecked());
    assert_eq!(run.id(), "ASIA1");
    run.fake.now.set(run.fake.now.get() + 3600);
    run.fake.outage.set(Some("no answer"));
    let old = run.session.credentials(run.outside()).unwrap();
    // By 5 to 15 minutes.
    let end = Some(run.fake.now.get() + 300);
    assert_eq!((old.key.id.as_str(), old.expires_at), ("ASIA1", end));
    let refused = run.session.renewed(&old.key, run.outside());
    assert!(refused.is_err());
    run.fake.outage.set(None);
    assert_eq!(run.id(), "ASIA2");
}

#[test]
fn an_expired_token_brings_others_once_and_keys_that_cannot_change_bring_none() {
    let run = Run::new(machine(&[], "", ""), &Arguments::default(), unchecked());
    let old = run.session.credentials(run.outside()).unwrap();
    let new = run
        .session
        .renewed(&old.key, run.outside())
        .unwrap()
        .unwrap();
    assert_eq!(new.key.id, "ASIA2");
    let again = run
        .session
        .renewed(&old.key, run.outside())
        .unwrap()
        .unwrap();
    assert_eq!(
        again.key.id, "ASIA2",
        "another call has renewed them already"
    );

    let run = Run::new(machine(&KEYS, "", ""), &Arguments::default(), unchecked());
    let old = run.session.credentials(run.outside()).unwrap();
    assert!(
        run.session
            .renewed(&old.key, run.outside())
            .unwrap()
            .is_none()
    );
}

#[test]
fn what_the_host_lends_comes_first_and_the_blocks_role_on_top_of_it() {
    let run = Run::new(
        machine(&KEYS, "", ""),
        &Arguments::default(),
        Checks::default(),
    );
    *run.fake.lent.borrow_mut() = Some(key("AKIALENT", None));
    assert_eq!(run.id(), "AKIALENT");
    assert!(run.fake.called().is_empty(), "the host answers for them");
    *run.fake.lent.borrow_mut() = None;
    assert_eq!(run.id(), "AKIAENV");

    let arguments = Arguments {
        assume_role: Some(role("block")),
        ..profile("gone")
    };
    let run = Run::new(machine(&[], "", ""), &arguments, unchecked());
    *run.fake.lent.borrow_mut() = Some(key("AKIALENT", None));
    assert_eq!(run.id(), "ASIA1", "a plan that failed is not needed");
    assert_eq!(run.fake.called(), ["assume block with AKIALENT"]);
}

#[test]
fn identity_is_checked_once_and_the_lists_of_accounts_hold() {
    let list = |accounts: &[&str]| accounts.iter().map(ToString::to_string).collect();
    let (mine, other) = (["111122223333"], ["444455556666"]);
    let not_allowed = "Invalid account ID: AWS account ID not allowed: ";
    for (allowed, forbidden, skip_validation, skip_account, lent, calls, outcome) in [
        (
            &[][..],
            &[][..],
            false,
            false,
            false,
            &["identity of AKIAENV"][..],
            "AKIAENV".to_owned(),
        ),
        (
            &mine,
            &[],
            false,
            false,
            false,
            &["identity of AKIAENV"],
            "AKIAENV".to_owned(),
        ),
        (
            &other,
            &[],
            false,
            false,
            false,
            &["identity of AKIAENV"],
            format!("{not_allowed}111122223333"),
        ),
        (
            &[],
            &mine,
            false,
            false,
            false,
            &["identity of AKIAENV"],
            format!("{not_allowed}111122223333"),
        ),
        (
            &[],
            &other,
            true,
            false,
            false,
            &["account with AKIAENV"],
            "AKIAENV".to_owned(),
        ),
        (&[], &[], true, false, false, &[], "AKIAENV".to_owned()),
        (&[], &mine, true, true, false, &[], "AKIAENV".to_owned()),
        (
            &mine,
            &[],
            true,
            true,
            false,
            &[],
            format!(
                "{not_allowed} (skip_credentials_validation and skip_requesting_account_id leave it unknown)"
            ),
        ),
        (
            &other,
            &[],
            false,
            false,
            true,
            &["identity of AKIALENT"],
            format!("{not_allowed}111122223333"),
        ),
    ] {
        let checks = Checks {
            allowed_accounts: list(allowed),
            forbidden_accounts: list(forbidden),
            skip_credentials_validation: skip_validation,
            skip_requesting_account_id: skip_account,
        };
        let run = Run::new(machine(&KEYS, "", ""), &Arguments::default(), checks);
        if lent {
            *run.fake.lent.borrow_mut() = Some(key("AKIALENT", None));
        }
        assert_eq!(run.id(), outcome);
        assert_eq!(run.fake.called(), calls);
        if outcome.starts_with("AKIA") {
            run.id();
            assert!(run.fake.called().is_empty(), "once is enough");
        }
    }
}

#[test]
fn an_instances_account_is_asked_of_the_instance() {
    let checks = Checks {
        allowed_accounts: vec!["111122223333".to_owned()],
        skip_credentials_validation: true,
        ..Checks::default()
    };
    let run = Run::new(machine(&[], "", ""), &Arguments::default(), checks);
    run.id();
    let calls = [
        "instance at http://169.254.169.254",
        "account of the instance with ASIA1",
    ];
    assert_eq!(run.fake.called(), calls);
}

#[test]
fn a_failure_names_the_source_and_what_was_passed_over() {
    let variables = [&KEYS[..], &[("AWS_PROFILE", "p")]].concat();
    let config = "[profile p]\nsso_session = s\n[sso-session s]\nsso_region = eu-west-1\nsso_start_url = x\n";
    let run = Run::new(machine(&variables, config, ""), &profile("p"), unchecked());
    run.fake.outage.set(Some("the SSO session has expired"));
    assert_eq!(
        run.id(),
        "A Profile was specified along with the environment variables \"AWS_ACCESS_KEY_ID\" and \
         \"AWS_SECRET_ACCESS_KEY\". The Profile is now used instead of the environment variable credentials: \
         the SSO session has expired. Chosen: IAM Identity Center by profile p. Passed over: environment \
         AWS_ACCESS_KEY_ID (the argument profile comes first); environment AWS_PROFILE (the argument profile comes \
         first). Files: /home/me/.aws/config, /home/me/.aws/credentials"
    );

    let run = Run::new(
        Fake::new(&[("HOME", "/h")]),
        &Arguments::default(),
        unchecked(),
    );
    run.fake.outage.set(Some("no EC2 IMDS role found"));
    let message = run.id();
    let start =
        "no EC2 IMDS role found. Chosen: EC2 instance metadata service, as nothing else is there: ";
    let end = ". Files: /h/.aws/config (not there), /h/.aws/credentials (not there)";
    assert!(
        message.starts_with(start) && message.ends_with(end),
        "{message}"
    );
}

#[test]
fn a_command_is_run_by_the_host_or_refused_with_what_to_do() {
    let config = "[profile p]\ncredential_process = get --token CANARY-COMMAND\n";
    let mut fake = machine(&[], config, "").with_file("/block", config);
    let command = "get --token CANARY-COMMAND".to_owned();
    let printed = r#"{"Version":1,"AccessKeyId":"AKIAPROC","SecretAccessKey":"x"}"#;
    fake.commands.insert(command, printed.to_owned());
    let run = Run::new(fake, &profile("p"), unchecked());
    assert_eq!(run.id(), "AKIAPROC");

    let run = Run::new(machine(&[], config, ""), &profile("p"), unchecked());
    let message = run.id();
    assert!(
        message.contains("Whoever runs it has to allow it"),
        "{message}"
    );
    assert!(!message.contains("CANARY"), "{message}");

    let mut block = profile("p");
    block.files.config = vec!["/block".to_owned()];
    let run = Run::new(
        machine(&[], "", "").with_file("/block", config),
        &block,
        unchecked(),
    );
    let message = run.id();
    assert!(message.contains("--allow-credential-process"), "{message}");
    assert!(!message.contains("CANARY"), "{message}");
}
