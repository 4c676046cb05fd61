// Package clustertest is tests of tenancy beside a Kubernetes cluster: the whole service,
// its store, and a real API server (package kubetest).
//
// It owns nothing else: what is tested is in services/tenancy/kube, whose own tests need
// no cluster.
package clustertest
