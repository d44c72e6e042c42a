//! Documents say what the code says.

use cofferdam::config::BackendSources;
use cofferdam::{Backend, Grant, Severity};
use cofferdam_tests::tools::workspace_root;
use serde_json::Value;

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
    let contract = ["state-backend.wit", "inspection.wit"];
    for (file, line, before) in contract.into_iter().flat_map(items) {
        let gate = match file {
            "state-backend.wit" if !line.contains("inspection") => "@since(version = 0.1.0)",
            _ => "@unstable(feature = inspection)",
        };
        assert_eq!(before, gate, "before `{line}` in {file}");
    }
}

/// The items of a WIT file, each with the line before it.
fn items(file: &'static str) -> Vec<(&'static str, String, String)> {
    const WORDS: [&str; 8] = [
        "interface ",
        "record ",
        "variant ",
        "enum ",
        "resource ",
        "world ",
        "import ",
        "export ",
    ];
    let text = std::fs::read_to_string(workspace_root().join("wit").join(file)).unwrap();
    let lines: Vec<&str> = text.lines().map(str::trim).collect();
    let found: Vec<_> = lines
        .windows(2)
        .filter(|pair| {
            WORDS.iter().any(|word| pair[1].starts_with(word)) || pair[1].contains("func(")
        })
        .map(|pair| (file, pair[1].to_owned(), pair[0].to_owned()))
        .collect();
    assert!(!found.is_empty(), "no items in {file}");
    found
}

#[test]
fn every_test_that_a_document_names_exists() {
    let root = workspace_root();
    let sources: String = ["guest", "host", "tests"]
        .iter()
        .flat_map(|room| rust_files(&root.join(room)))
        .map(|file| std::fs::read_to_string(file).unwrap())
        .collect();
    let mut named = 0;
    for document in ["docs/incumbents.md", "SECURITY.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        // In tables, the tests stand in the last column.
        let cells = text
            .lines()
            .filter_map(|line| line.strip_suffix('|')?.rsplit('|').next());
        for test in cells.flat_map(|cell| cell.split('`').skip(1).step_by(2)) {
            assert!(
                sources.contains(&format!("fn {test}(")) || sources.contains(&format!("{test},")),
                "{document} names the test {test}, which does not exist"
            );
            named += 1;
        }
    }
    assert!(named > 20, "only {named} tests are named");
}

#[tokio::test]
async fn every_block_of_the_recipes_is_a_valid_configuration() {
    let recipes = std::fs::read_to_string(workspace_root().join("docs/recipes.md")).unwrap();
    let blocks: Vec<&str> = recipes
        .split("```hcl\n")
        .skip(1)
        .map(|rest| rest.split_once("```").unwrap().0)
        .collect();
    assert!(blocks.len() > 5, "only {} blocks", blocks.len());
    let backend = Backend::builder().build().await.unwrap();
    for text in blocks {
        let directory = tempfile::tempdir().unwrap();
        std::fs::write(directory.path().join("recipe.s3.tfbackend"), text).unwrap();
        let sources = BackendSources {
            directory: directory.path().to_owned(),
            data_dir: directory.path().join(".terraform"),
            backend_config: vec!["recipe.s3.tfbackend".to_owned()],
        };
        let block = sources.load().unwrap();
        let config = Value::Object(block.config);
        let found = backend.validate(&config, &Grant::sealed()).await.unwrap();
        let wrong = found
            .iter()
            .find(|diagnostic| diagnostic.severity == Severity::Error);
        assert!(wrong.is_none(), "{wrong:?} in\n{text}");
    }
}

#[test]
fn the_page_on_security_names_every_limit_and_every_import() {
    let page = std::fs::read_to_string(workspace_root().join("SECURITY.md")).unwrap();
    let limits = cofferdam::Limits::documented()
        .map(|it| format!("| {} | {} | {} |", it.name, it.default, it.what));
    let imports = include_str!("../imports.txt")
        .lines()
        .filter(|line| !line.starts_with('#'))
        .map(|line| {
            let (name, why) = line.split_once(' ').unwrap();
            let name = name.split('@').next().unwrap_or_default();
            format!("| `{name}` | {} |", why.trim())
        });
    for row in limits.chain(imports) {
        assert!(page.contains(&row), "SECURITY.md lacks the row: {row}");
    }
}

#[test]
fn the_page_on_observability_names_every_metric() {
    let page = std::fs::read_to_string(workspace_root().join("docs/observability.md")).unwrap();
    for it in cofferdam::documented_metrics() {
        let labels: Vec<_> = it.labels.iter().map(|label| format!("`{label}`")).collect();
        let (name, labels) = (it.name, labels.join(", "));
        let row = format!("| `{name}` | {} | {labels} | {} |", it.kind, it.what);
        assert!(page.contains(&row), "the page lacks the row: {row}");
    }
}

fn rust_files(directory: &std::path::Path) -> Vec<std::path::PathBuf> {
    let mut files = Vec::new();
    for entry in std::fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path
            .file_name()
            .and_then(|name| name.to_str())
            .unwrap_or_default();
        if path.is_dir() && name != "target" && name != "node_modules" {
            files.extend(rust_files(&path));
        } else if name.ends_with(".rs") {
            files.push(path);
        }
    }
    files
}
