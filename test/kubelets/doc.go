// Package kubelets tests on real nodes: a control plane of Kubernetes, and three machines
// with containerd and a kubelet each. There is no kube-proxy, and no registry.
//
// It needs root, what `tools/install-packages.sh kubelets` installs, and what `make
// kube-binaries` leaves: `make test-kubelets` does all of it. The machines are on a
// network of their own, and nothing is left when it ends, however it ends: see package
// machine.
package kubelets
