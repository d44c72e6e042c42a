//! The sources of a backend block, each in a directory of its own.

use serde_json::json;
use tempfile::TempDir;

use super::*;

/// A directory with these files.
fn directory(files: &[(&str, &str)]) -> TempDir {
    let directory = tempfile::tempdir().unwrap();
    for (name, text) in files {
        let path = directory.path().join(name);
        std::fs::create_dir_all(path.parent().unwrap()).unwrap();
        std::fs::write(path, text).unwrap();
    }
    directory
}

fn load(files: &[(&str, &str)], options: &[&str]) -> Result<BackendBlock, ConfigError> {
    let directory = directory(files);
    BackendSources {
        directory: directory.path().to_owned(),
        data_dir: directory.path().join(".terraform"),
        backend_config: options.iter().map(ToString::to_string).collect(),
    }
    .load()
}

fn config(files: &[(&str, &str)], options: &[&str]) -> Value {
    Value::Object(load(files, options).unwrap().config)
}

/// The error's diagnostic in one line.
fn refusal(files: &[(&str, &str)], options: &[&str]) -> String {
    load(files, options).unwrap_err().diagnostic().to_string()
}

fn init(kind: &str, config: &Value) -> String {
    json!({ "version": 3, "terraform_version": "1.11.4",
        "backend": { "type": kind, "config": config, "hash": 1 } })
    .to_string()
}

const INITIALISED: &str = ".terraform/terraform.tfstate";

const BLOCK: &str =
    "terraform {\n  backend \"s3\" {\n    bucket = \"b\"\n    key    = \"k\"\n  }\n}\n";

#[test]
fn every_kind_of_literal_becomes_the_json_it_means() {
    let text = r#"
# comment
terraform {
  required_version = ">= 1.0" /* other */
  backend "s3" {
    bucket      = "tab\there \"quoted\" \u00e9 back\\slash $${x} %%{y}"
    key         = <<-EOT
      one
        two $${x} "q" \n
      EOT
    region      = <<EOT
  kept
EOT
    max_retries = 7
    ratio       = 1.5
    minus       = -3
    big         = 18446744073709551615
    encrypt     = true
    acl         = null
    list        = ["a", ("b"), 1, ]
    endpoints   = { s3 = "http://localhost:9000", "sts" : "x", iam = null }
    assume_role {
      role_arn = "arn"
      tags     = { a = "b" }
    }
  }
}
"#;
    assert_eq!(
        config(&[("main.tf", text)], &[]),
        json!({
            "bucket": "tab\there \"quoted\" é back\\slash ${x} %{y}",
            "key": "one\n  two ${x} \"q\" \\n\n",
            "region": "  kept\n",
            "max_retries": 7,
            "ratio": 1.5,
            "minus": -3,
            "big": u64::MAX,
            "encrypt": true,
            "list": ["a", "b", 1],
            "endpoints": { "s3": "http://localhost:9000", "sts": "x" },
            "assume_role": { "role_arn": "arn", "tags": { "a": "b" } },
        })
    );
}

#[test]
fn a_value_that_is_not_literal_is_named_with_its_line() {
    for (value, what) in [
        ("var.x", "a reference"),
        ("local", "a reference"),
        ("\"a-${var.x}\"", "a template with interpolations"),
        (
            "\"%{ if true }a%{ endif }\"",
            "a template with interpolations",
        ),
        ("<<E\n${var.x}\nE", "a template with interpolations"),
        ("file(\"x\")", "a function call"),
        ("true ? \"a\" : \"b\"", "a condition"),
        ("1 + 1", "an operation"),
        ("!true", "an operation"),
        ("[for x in y : x]", "a for expression"),
        ("{ (x) = 1 }", "an object with computed names"),
    ] {
        let text = format!(
            "terraform {{\n  backend \"s3\" {{\n    key = \"k\"\n    bucket = {value}\n  }}\n}}\n"
        );
        let text = refusal(&[("main.tf", &text)], &[]);
        assert!(text.contains("main.tf:4"), "{value}: {text}");
        assert!(
            text.contains(&format!("the value of bucket is {what}")),
            "{value}: {text}"
        );
        assert!(text.contains("not supported"), "{value}: {text}");
    }
    let nested =
        "terraform {\n  backend \"s3\" {\n    endpoints = {\n      s3 = var.x\n    }\n  }\n}\n";
    let text = refusal(&[("main.tf", nested)], &[]);
    assert!(
        text.contains("main.tf:4") && text.contains("endpoints.s3"),
        "{text}"
    );
}

#[test]
fn json_blocks_may_be_objects_or_lists_and_hold_comments() {
    let expected = json!({ "bucket": "b", "endpoints": { "s3": "x" }, "use_lockfile": true });
    for text in [
        r#"{"terraform":{"backend":{"s3":{"bucket":"b","endpoints":{"s3":"x","iam":null},"use_lockfile":true,"acl":null,"//":"c"}}}}"#,
        r#"[{"terraform":[{"backend":[{"s3":[{"bucket":"b","endpoints":{"s3":"x"},"use_lockfile":true}]}]}]}]"#,
    ] {
        assert_eq!(config(&[("main.tf.json", text)], &[]), expected);
        assert_eq!(config(&[("main.tofu.json", text)], &[]), expected);
    }
    let template = "{\"terraform\": {\n\"backend\": {\"s3\": {\n\"bucket\": \"${var.x}\"}}}}";
    let text = refusal(&[("main.tf.json", template)], &[]);
    assert!(
        text.contains("main.tf.json:3") && text.contains("bucket"),
        "{text}"
    );
}

#[test]
fn an_override_file_replaces_the_whole_block_and_the_last_one_wins() {
    let other = |bucket: &str| {
        format!("terraform {{\n  backend \"s3\" {{\n bucket = \"{bucket}\"\n }}\n}}\n")
    };
    let [first, last] = [other("first"), other("last")];
    for name in ["override.tf", "a_override.tf", "z_override.tofu"] {
        assert_eq!(
            config(&[("main.tf", BLOCK), (name, &first)], &[]),
            json!({ "bucket": "first" })
        );
    }
    let json = r#"{"terraform":{"backend":{"s3":{"bucket":"json"}}}}"#;
    assert_eq!(
        config(
            &[
                ("main.tf", BLOCK),
                ("override.tf.json", json),
                ("a_override.tf", &first)
            ],
            &[]
        ),
        json!({ "bucket": "json" })
    );
    assert_eq!(
        config(
            &[
                ("main.tf", BLOCK),
                ("b_override.tf", &last),
                ("a_override.tf", &first)
            ],
            &[]
        ),
        json!({ "bucket": "last" })
    );
    let local = "terraform {\n  backend \"local\" {}\n}\n";
    assert_eq!(
        config(&[("main.tf", local), ("override.tf", &first)], &[]),
        json!({ "bucket": "first" })
    );
    assert!(refusal(&[("main.tf", BLOCK), ("override.tf", local)], &[]).contains("override.tf:2"));
}

#[test]
fn a_tofu_file_hides_its_tf_twin_and_no_other() {
    let hidden = "terraform {\n  backend \"s3\" {\n bucket = \"hidden\"\n }\n}\n";
    assert_eq!(
        config(&[("main.tf", hidden), ("main.tofu", BLOCK)], &[]),
        json!({ "bucket": "b", "key": "k" })
    );
    assert!(
        refusal(
            &[
                ("main.tf", hidden),
                ("main.tofu.json", r#"{"terraform":{"backend":{"s3":{}}}}"#)
            ],
            &[]
        )
        .contains("only one backend")
    );
    for ignored in [".main.tf", "main.tf~", "#main.tf#", "main.txt"] {
        assert_eq!(
            config(&[("main.tf", BLOCK), (ignored, hidden)], &[]),
            json!({ "bucket": "b", "key": "k" })
        );
    }
}

#[test]
fn two_blocks_are_refused_with_both_places() {
    let text = refusal(&[("a.tf", BLOCK), ("b.tf", &format!("\n{BLOCK}"))], &[]);
    assert!(text.contains("a.tf:2") && text.contains("b.tf:3"), "{text}");
    let twice = "terraform {\n  backend \"s3\" {}\n  backend \"s3\" {}\n}\n";
    let text = refusal(&[("main.tf", twice)], &[]);
    assert!(
        text.contains("main.tf:2") && text.contains("main.tf:3"),
        "{text}"
    );
    let text = refusal(&[("main.tf", BLOCK), ("a_override.tf", twice)], &[]);
    assert!(text.contains("a_override.tf:3"), "{text}");
    let cloud = "terraform {\n  cloud {\n    organization = \"x\"\n  }\n}\n";
    assert!(refusal(&[("a.tf", BLOCK), ("b.tf", cloud)], &[]).contains("b.tf:2"));
    let both = "{\"terraform\":{\"backend\":{\n\"s3\":{},\n\"local\":{}}}}";
    assert!(refusal(&[("a.tf.json", both)], &[]).contains("only one backend"));
}

#[test]
fn another_backend_is_named_with_its_place() {
    let cloud = "terraform {\n  cloud {\n    organization = var.x\n  }\n}\n";
    let text = refusal(&[("main.tf", cloud)], &[]);
    assert!(
        text.contains("main.tf:2") && text.contains("a cloud block"),
        "{text}"
    );
    let http = "terraform {\n\n  backend \"http\" {\n    address = var.x\n  }\n}\n";
    let text = refusal(&[("main.tf", http)], &[]);
    assert!(
        text.contains("main.tf:3") && text.contains("backend \"http\""),
        "{text}"
    );
    let json = "{\"terraform\":\n{\"backend\": {\"gcs\": {}}}}";
    let text = refusal(&[("main.tf.json", json)], &[]);
    assert!(
        text.contains("main.tf.json:2") && text.contains("gcs"),
        "{text}"
    );
    assert!(refusal(&[], &[]).contains("--chdir"));
}

#[test]
fn unreadable_files_are_named_without_their_text() {
    let broken = "terraform {\n  backend \"s3\" {\n    secret_key = \"hunter2\" oops\n  }\n}\n";
    let text = refusal(&[("main.tf", broken)], &[]);
    assert!(
        text.contains("main.tf:3") && !text.contains("hunter2"),
        "{text}"
    );
    let json = "{\"terraform\":{\"backend\":\n{\"s3\":{\"secret_key\":\"hunter2\"";
    let text = refusal(&[("main.tf.json", json)], &[]);
    assert!(
        text.contains("main.tf.json:2") && !text.contains("hunter2"),
        "{text}"
    );
    let text = refusal(&[("main.tf", "terraform {\n  backend {}\n}\n")], &[]);
    assert!(
        text.contains("main.tf:2") && text.contains("label"),
        "{text}"
    );
    for text in ["backend = [", "backend = \"x\nx = 1"] {
        assert!(refusal(&[("main.tf", text)], &[]).contains("main.tf"));
    }
    // What concerns nobody is not even parsed.
    assert_eq!(
        config(&[("main.tf", BLOCK), ("broken.tf", "resource {{{")], &[]),
        json!({ "bucket": "b", "key": "k" })
    );
    let text = refusal(
        &[
            ("main.tf", BLOCK),
            (INITIALISED, "{\"backend\":{\"type\":1}}"),
        ],
        &[],
    );
    assert!(text.contains("terraform init"), "{text}");
}

#[test]
fn what_init_left_replaces_the_block_of_the_files() {
    let left = init(
        "s3",
        &json!({ "bucket": "b", "key": "k", "region": "r", "acl": null,
        "endpoints": { "s3": "x", "iam": null } }),
    );
    let block = load(&[("main.tf", BLOCK), (INITIALISED, &left)], &[]).unwrap();
    assert_eq!(
        Value::Object(block.config.clone()),
        json!({ "bucket": "b", "key": "k", "region": "r", "endpoints": { "s3": "x" } })
    );
    assert!(block.origin.contains(".terraform"), "{}", block.origin);
    assert_eq!(block.warnings, []);
    assert_eq!(
        config(&[(INITIALISED, &left)], &[]),
        Value::Object(block.config)
    );
}

#[test]
fn a_block_that_changed_since_init_gives_a_warning_that_names_the_arguments() {
    let text = "terraform {\n  backend \"s3\" {\n    bucket = \"new\"\n    encrypt = \"true\"\n    list = [\"b\", \"a\"]\n    endpoints = { s3 = \"x\" }\n    secret_key = \"hunter2\"\n  }\n}\n";
    let left = init(
        "s3",
        &json!({ "bucket": "old", "encrypt": true, "list": ["a", "b"],
        "endpoints": { "s3": "x", "iam": null }, "key": "k" }),
    );
    let block = load(&[("main.tf", text), (INITIALISED, &left)], &[]).unwrap();
    assert_eq!(block.config["bucket"], "old");
    let [warning] = block.warnings.as_slice() else {
        panic!("{:?}", block.warnings)
    };
    assert!(
        warning
            .detail
            .contains("for: bucket, secret_key. The latter"),
        "{warning}"
    );
    assert!(!warning.detail.contains("hunter2"));
}

#[test]
fn a_directory_that_is_initialised_for_another_backend_needs_init_first() {
    let left = init("local", &json!({ "path": null }));
    let files = [("main.tf", BLOCK), (INITIALISED, left.as_str())];
    for options in [&[][..], &["bucket=b"]] {
        let text = refusal(&files, options);
        assert!(
            text.contains("backend \"local\"") && text.contains("-migrate-state"),
            "{text}"
        );
    }
    let text = refusal(&[(INITIALISED, &left)], &[]);
    assert!(
        text.contains("\"local\"") && text.contains("--backend-config"),
        "{text}"
    );
    // Without a backend it is as if it were not initialised.
    assert_eq!(
        config(
            &[
                ("main.tf", BLOCK),
                (INITIALISED, "{\"version\":3,\"backend\":null}")
            ],
            &[]
        ),
        json!({ "bucket": "b", "key": "k" })
    );
}

#[test]
fn options_stand_alone_where_the_files_say_another_backend() {
    let http = "terraform {\n  backend \"http\" {}\n}\n";
    let initialised = init("http", &json!({ "address": "x" }));
    for files in [
        &[][..],
        &[("main.tf", http)],
        &[("main.tf", http), (INITIALISED, &initialised)],
        &[(INITIALISED, &initialised)],
    ] {
        let block = load(files, &["bucket=b"]).unwrap();
        assert_eq!(Value::Object(block.config), json!({ "bucket": "b" }));
        assert_eq!(block.origin, "--backend-config");
    }
    // The old place is not used behind the new one's back.
    let s3 = init("s3", &json!({ "bucket": "old", "key": "k" }));
    assert!(refusal(&[("main.tf", http), (INITIALISED, &s3)], &[]).contains("main.tf:2"));
    assert_eq!(
        config(&[("main.tf", http), (INITIALISED, &s3)], &["bucket=b"]),
        json!({ "bucket": "b" })
    );
}

#[test]
fn options_merge_over_the_block_and_later_ones_win() {
    let files = [
        ("main.tf", BLOCK),
        (
            "prod.s3.tfbackend",
            "bucket = \"file\"\nregion = \"r\"\nkey = null\nendpoints = { s3 = \"file\" }\n",
        ),
        (
            "prod.json",
            "\n{ \"bucket\": \"json\", \"encrypt\": true, \"//\": \"note\" }",
        ),
    ];
    assert_eq!(
        config(&files, &["prod.s3.tfbackend"]),
        json!({ "bucket": "file", "region": "r", "endpoints": { "s3": "file" } })
    );
    assert_eq!(
        config(
            &files,
            &[
                "bucket=first",
                "prod.json",
                "key=a=b",
                "region=",
                "max_retries=3"
            ]
        ),
        json!({ "bucket": "json", "key": "a=b", "region": "", "encrypt": true, "max_retries": "3" })
    );
    assert_eq!(
        config(&files, &["prod.json", "bucket=last"]),
        json!({ "bucket": "last", "key": "k", "encrypt": true })
    );
    let block = load(&files, &["bucket=x"]).unwrap();
    assert!(
        block.origin.ends_with("main.tf:2 and --backend-config"),
        "{}",
        block.origin
    );
}

#[test]
fn dotted_options_and_objects_replace_each_other() {
    let object = (
        "o.tfbackend",
        "endpoints = { s3 = \"file\", iam = \"i\" }\n",
    );
    let files = [("main.tf", BLOCK), object];
    assert_eq!(
        config(&files, &["o.tfbackend", "endpoints.s3=dotted"]),
        json!({ "bucket": "b", "key": "k", "endpoints": { "iam": "i" }, "endpoints.s3": "dotted" })
    );
    assert_eq!(
        config(&files, &["endpoints.s3=dotted", "o.tfbackend"]),
        json!({ "bucket": "b", "key": "k", "endpoints": { "s3": "file", "iam": "i" } })
    );
}

#[test]
fn a_wrong_option_is_refused_without_showing_it() {
    let text = refusal(&[("main.tf", BLOCK)], &["=hunter2"]);
    assert!(
        text.contains("key=value") && !text.contains("hunter2"),
        "{text}"
    );
    assert!(refusal(&[("main.tf", BLOCK)], &["missing.tfbackend"]).contains("missing.tfbackend"));
    let text = refusal(
        &[("main.tf", BLOCK), ("x.tfbackend", "\nbucket = var.x\n")],
        &["x.tfbackend"],
    );
    assert!(text.contains("x.tfbackend:2"), "{text}");
}

#[test]
fn debug_shows_the_names_of_arguments_and_no_value() {
    let sources = BackendSources {
        directory: "here".into(),
        data_dir: "there".into(),
        backend_config: vec!["secret_key=hunter2".into()],
    };
    let text = format!("{sources:?}");
    assert!(text.contains("here") && !text.contains("hunter2"), "{text}");
    let block = load(
        &[("main.tf", BLOCK)],
        &[
            "secret_key=hunter2",
            "token=hunter2",
            "access_key=hunter2",
            "sse_customer_key=hunter2",
        ],
    )
    .unwrap();
    let text = format!("{block:?}");
    assert!(
        text.contains("secret_key") && !text.contains("hunter2"),
        "{text}"
    );
}

#[test]
fn an_empty_path_is_the_current_directory() {
    let sources = BackendSources {
        directory: PathBuf::new(),
        data_dir: PathBuf::from(".terraform"),
        backend_config: Vec::new(),
    };
    // That of this crate, where no configuration is.
    let error = sources.load().unwrap_err();
    assert!(matches!(error, ConfigError::NoBackend { .. }), "{error}");
    assert!(error.to_string().contains("this directory"), "{error}");
}

#[test]
fn what_only_the_tool_could_work_out_is_taken_from_what_init_left() {
    let text = "terraform {\n  backend \"s3\" {\n    bucket = var.bucket\n  }\n}\n";
    let left = init("s3", &json!({ "bucket": "resolved", "key": "k" }));
    let block = load(&[("main.tofu", text), (INITIALISED, &left)], &[]).unwrap();
    assert_eq!(block.config["bucket"], "resolved");
    assert_eq!(block.warnings, []);
    // Nor does it matter in a block that is overridden.
    assert_eq!(
        config(&[("main.tf", text), ("override.tf", BLOCK)], &[]),
        json!({ "bucket": "b", "key": "k" })
    );
    let text = refusal(&[("main.tf", text)], &["bucket=b"]);
    assert!(text.contains("main.tf:3"), "{text}");
}
