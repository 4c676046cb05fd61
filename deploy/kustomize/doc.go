// Package kustomize is the manifests of a cluster, and tests of them.
//
// It owns no more code than what builds them as kubectl does, for tests: the directories
// beside this file are for `kubectl apply -k`. The tests promise that programs, configurations
// and images that the manifests name are there, that nobody has more rights than were
// meant, and that what the pod network needs does not need the pod network. Package check
// asks an API server for its opinion.
package kustomize
