// Package kubescale measures what the control services cost on a Kubernetes cluster: how long
// it takes from an object to what becomes of it, how often the API server is asked and how
// much it sends, and how much memory each service has with the objects of a large cluster.
//
// It owns a benchmark of the programs in bin/ beside a real API server (internal/kubetest);
// what it is compared with is measured in the same run. `make bench-kubernetes` prints it. It
// must not judge: goals are in test/bench.
package kubescale
