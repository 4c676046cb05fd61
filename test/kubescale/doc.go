// Package kubescale measures what Damask costs on a Kubernetes cluster: how long it takes from
// an object to what becomes of it, in the store and in packets on four nodes, how often the API
// server is asked and how much it sends, and how much memory each program has with the objects
// of a large cluster.
//
// It owns benchmarks of the programs in bin/ beside a real API server (internal/kubetest);
// what they are compared with is measured in the same run. `make bench-kubernetes` prints them.
// It must not judge: goals are in test/bench. Nothing is left of its labs.
package kubescale
