//! Documents that are generated from the code say what the code says.

use cofferdam_tests::tools::workspace_root;

#[test]
fn the_page_of_arguments_is_the_schema_table() {
    let page = workspace_root().join("docs/arguments.md");
    let generated = format!(
        "# Arguments\n\n<!-- Generated from the schema table: COFFERDAM_BLESS=1 cargo test --release --test docs -->\n\n{}",
        cofferdam_s3::config::arguments_markdown()
    );
    if std::env::var_os("COFFERDAM_BLESS").is_some() {
        std::fs::write(&page, &generated).unwrap();
    }
    let written = std::fs::read_to_string(&page).unwrap_or_default();
    assert!(
        written == generated,
        "docs/arguments.md is stale; COFFERDAM_BLESS=1 rewrites it"
    );
}

#[test]
fn every_item_of_the_contract_says_since_when_it_is_there() {
    let wit = std::fs::read_to_string(workspace_root().join("wit/state-backend.wit")).unwrap();
    let mut before = "";
    for line in wit.lines() {
        let item = line.trim_start();
        let starts_item = [
            "interface ",
            "record ",
            "variant ",
            "enum ",
            "resource ",
            "world ",
            "import ",
            "export ",
        ]
        .iter()
        .any(|word| item.starts_with(word))
            || item.contains("func(");
        if starts_item {
            assert_eq!(before.trim(), "@since(version = 0.1.0)", "before `{item}`");
        }
        before = line;
    }
}
