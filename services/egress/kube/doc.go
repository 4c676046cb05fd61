// Package kube is the egress service on Kubernetes: what people say in HostSubnets,
// NetNamespaces and EgressNetworkPolicies (network.openshift.io/v1) is what nodes may host,
// namespaces want and firewalls are, and what became of it shows in the objects.
//
// It owns, of a HostSubnet, the field egressIPs where there are egressCIDRs; of HostSubnets
// and NetNamespaces the condition EgressIPs; of EgressNetworkPolicies the conditions Accepted and NamesResolved;
// and in the bucket of the service the keys kube.lease, kube.cluster,
// kube.adopted and kube.whose.*. It promises that an
// object goes into the store by the checks and the transactions that the RPCs have; that what
// is refused changes nothing and says why in its condition; that a lost store has everything
// again that objects say; and that an object that was lost and is made anew gets back what
// was wished in it. Fields that objects do not have (selections of pods, capacities, drains)
// stay as the RPCs set them.
//
// It must not create or delete objects: HostSubnets are ipam's, NetNamespaces are tenancy's,
// EgressNetworkPolicies are people's.
package kube
