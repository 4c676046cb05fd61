// Package kustomize is the manifests of a cluster, and tests of them.
//
// It owns nothing that runs: the directories beside this file are for `kubectl apply -k`.
// The tests promise that they can be built, and that programs, configurations and images
// that they name are there.
package kustomize
