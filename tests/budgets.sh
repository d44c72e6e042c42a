#!/usr/bin/env bash
# Sizes that a change must keep to. Figures that depend on the machine are benchmarks: cargo bench.
set -euo pipefail
cd "$(dirname "$0")/.."

component="${CARGO_TARGET_DIR:-target}/component/cofferdam_s3.wasm"
size=$(stat -c %s "$component")
limit=600000
echo "component: $size bytes of $limit"
[ "$size" -le "$limit" ] || { echo "the component is larger than its budget"; exit 1; }

# What the component is built from must stay free of what it cannot use and what would make it large.
tree=$(cargo tree --quiet --locked --package cofferdam-s3 --target wasm32-wasip2 --edges normal --prefix none)
for banned in chrono hyper regex reqwest ring tokio-util url; do
  if grep -q "^$banned v" <<<"$tree"; then
    echo "the component must not depend on $banned"; exit 1
  fi
done
echo "component dependencies: nothing banned"
