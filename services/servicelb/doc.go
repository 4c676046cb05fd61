// Package servicelb will own Services and their endpoints: what each node
// needs to reach every Service, and cluster IPs, node ports and load-balancer
// addresses where Kubernetes does not hand them out.
//
// Nothing of it exists yet: the module is here so that its place, its module
// path and its dependencies are settled. Until it is built, a topology or a
// configuration that names services is refused.
package servicelb
