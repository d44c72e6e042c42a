#!/usr/bin/env bash
# `cargo component build` makes a component of the guest too, and the host and Node take it. Nothing needs
# it: upstream retires that command, and what is released comes from a plain `cargo build`.
#
# How its component differs: the module is built for wasm32-wasip1 with the profile `release`, and an adapter
# within cargo-component 0.21.1 turns its system calls into WASI 0.2. The adapter of `proxy = true` imports of
# wasi:cli no more than stdin, stdout and stderr, in their version 0.2.3; the plain build imports the
# environment, exit, the terminals and wasi:random/insecure-seed besides, which the host links to nothing.
# Without `proxy` the adapter imports wasi:filesystem, and the host refuses the component.
set -euo pipefail
cd "$(dirname "$0")/.."

if ! command -v cargo-component >/dev/null; then
  echo "skipped: cargo-component is not installed (cargo install --locked cargo-component@0.21.1)"
  [ "${COFFERDAM_REQUIRE_TOOLS:-}" != 1 ]
  exit
fi
target="${CARGO_TARGET_DIR:-target}"
cofferdam="${COFFERDAM_BIN:-$target/release/cofferdam}"
[ -x "$cofferdam" ] || { echo "$cofferdam does not exist: run \`cargo build --release\` first"; exit 1; }

# It writes bindings that nothing reads; and its target directory must not mix with that of the host.
trap 'rm -f guest/src/bindings.rs' EXIT
CARGO_TARGET_DIR="$target/cargo-component" cargo component build -p cofferdam-s3 --release --locked
component="$(realpath "$target/cargo-component/wasm32-wasip1/release/cofferdam_s3.wasm")"
echo "component: $(stat -c %s "$component") bytes"

# The host checks the imports before it runs a component; then the suites.
"$cofferdam" --component "$component" demo
COFFERDAM_COMPONENT="$component" cargo test --release --locked --test conformance --test jco
