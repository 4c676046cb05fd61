#!/usr/bin/env bash
# Builds the programs that the tool block of go.mod beside this script names into
# the directory that is its argument, unless they are there in these versions.
# The first time takes long (README.md); worktrees that share a directory wait for
# one another, and a program that runs is replaced, never written to.
set -euo pipefail
out=$(realpath -m "$1")
cd "$(dirname "$0")"
export GOWORK=off CGO_ENABLED=0

mkdir -p "$out"
exec 9>"$out/lock"
flock 9
key=$(cat go.mod go.sum build.sh | sha256sum)
# Programs are the last thing that is put in place, and the key the very last.
[ "$key" != "$(cat "$out/built" 2>/dev/null)" ] || exit 0

go mod tidy -diff || { echo "test/kubernetes: not tidy (make fix)" >&2; exit 1; }
version=$(go list -m -f '{{.Version}}' k8s.io/kubernetes)
IFS=. read -r major minor _ <<<"${version#v}"
stamp=''
for package in k8s.io/component-base/version k8s.io/client-go/pkg/version; do
  # Without a version servers take themselves for an unreleased one and compare
  # it with others', and kubectl does too.
  stamp+=" -X $package.gitVersion=$version -X $package.gitMajor=$major -X $package.gitMinor=$minor -X $package.gitTreeState=archive"
done

echo "building Kubernetes $version and etcd for tests: once, and long (test/kubernetes/README.md)"
fresh=$(mktemp -d "$out/fresh.XXXXXX")
trap 'rm -rf "$fresh"' EXIT
# The tags are those of Kubernetes' own releases.
go build -trimpath -buildvcs=false -tags selinux,notest,grpcnotrace -ldflags "-s -w$stamp" -o "$fresh/" tool
mv "$fresh/server" "$fresh/etcd" # its main is go.etcd.io/etcd/server/v3
mv -f "$fresh"/* "$out/"
echo "$key" >"$out/built"
