#!/usr/bin/env bash
# Fails when the generated Go code that is committed is not what the protos
# generate today.
set -euo pipefail
top=$(git rev-parse --show-toplevel)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$top/proto/." "$scratch"
find "$scratch" -name '*.pb.go' -delete
(cd "$scratch" && buf generate)
diff -r -x '*.proto' "$top/proto" "$scratch" || { echo "generated code is stale: run make generate" >&2; exit 1; }
