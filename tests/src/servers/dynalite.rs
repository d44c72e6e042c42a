//! dynalite: DynamoDB alone, and an older one. It wants signatures and does not verify them, and a refused condition
//! never tells which item stands in its way.

use super::{Process, Server};
use crate::{RawDynamoDb, Site, site::Table, tools};

/// What `npm ci --prefix tests/servers` installs.
#[derive(Debug)]
pub struct Dynalite;

impl Dynalite {
    /// Starts one with a table; a bucket has to come from elsewhere. `None`, and a line that says so, where it is
    /// not installed.
    pub async fn start() -> Option<Server> {
        let program = tools::find(
            "dynalite",
            "COFFERDAM_DYNALITE",
            "tests/servers/node_modules/.bin/dynalite",
        )?;
        let process = Process::start(&program, |command, port, _| {
            command.args(["--host", "127.0.0.1", "--port", port]);
            command.args(["--createTableMs", "0"]);
        })
        .await;
        let site = Site {
            dynamodb: Some(Table::new(process.url())),
            ..Site::open_to_root("dynalite", process.url())
        };
        RawDynamoDb::new(&site).create_table().await;
        Some(Server {
            site,
            _process: process,
        })
    }
}
