// Package policyspec reads policies as people write them.
//
// It owns the manifests of NetworkPolicy (networking.k8s.io/v1), of
// AdminNetworkPolicy and BaselineAdminNetworkPolicy
// (policy.networking.k8s.io/v1alpha1), and of ClusterNetworkPolicy
// (policy.networking.k8s.io/v1alpha2), in YAML or JSON: what their fields are,
// what Kubernetes' API server would fill in, what it would refuse. All kinds come
// out in one form, with their selectors and names of ports as written.
//
// It promises that nothing is ignored which says what may pass: a field that it
// does not know, or cannot honour, is a violation that names it, and a policy with a
// violation has no other result. It is pure. It must not know pods and namespaces
// (package resolve does).
package policyspec
