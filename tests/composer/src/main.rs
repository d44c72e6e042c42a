//! `cofferdam-composer PLUG SOCKET OUT`: satisfies imports of SOCKET with exports of PLUG, and writes what comes of it.

use std::error::Error;

use wac_graph::types::Package;
use wac_graph::{CompositionGraph, EncodeOptions, plug};

fn main() -> Result<(), Box<dyn Error>> {
    let arguments: Vec<String> = std::env::args().skip(1).collect();
    let [plugged, socket, out] = &arguments[..] else {
        return Err("usage: cofferdam-composer PLUG SOCKET OUT".into());
    };
    let mut graph = CompositionGraph::new();
    let mut package = |name: &str, path: &str| -> Result<_, Box<dyn Error>> {
        let package = Package::from_file(name, None, path, graph.types_mut())?;
        Ok(graph.register_package(package)?)
    };
    let (plugged, socket) = (package("plug", plugged)?, package("socket", socket)?);
    plug(&mut graph, vec![plugged], socket)?;
    std::fs::write(out, graph.encode(EncodeOptions::default())?)?;
    Ok(())
}
