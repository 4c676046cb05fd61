#!/usr/bin/env bash
# generate-crds.sh TYPES CODE CRDS: writes what controller-gen makes of the Go types in the
# directory TYPES: their copying into CODE, their CustomResourceDefinitions into CRDS.
set -euo pipefail
mkdir -p "$2" "$3"
code=$(cd "$2" && pwd) crds=$(cd "$3" && pwd)
cd "$1"
controller-gen object crd:headerFile=/dev/null paths=. output:crd:dir="$crds" output:object:dir="$code"
