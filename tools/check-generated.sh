#!/usr/bin/env bash
# Fails when what is generated and committed, Go code and CustomResourceDefinitions,
# is not what would be generated today.
set -euo pipefail
top=$(git rev-parse --show-toplevel)
scratch=$(mktemp -d)
trap 'rm -rf "$scratch"' EXIT
cp -r "$top/proto/." "$scratch"
find "$scratch" -name '*.pb.go' -delete
(cd "$scratch" && buf generate)
diff -r -x '*.proto' "$top/proto" "$scratch" || { echo "generated code is stale: run make generate" >&2; exit 1; }

types=$top/internal/kube/networkv1
"$top/tools/generate-crds.sh" "$types" "$scratch/types" "$scratch/crds"
{ diff -r -x Kustomization "$top/deploy/crds" "$scratch/crds" && diff "$types"/zz_generated.*.go "$scratch"/types/zz_generated.*.go; } ||
	{ echo "generated CustomResourceDefinitions are stale: run make generate" >&2; exit 1; }
