// Package kube is what the services' adapters to Kubernetes have in common.
//
// It owns the way to the API server: the configuration, a cache of what a service
// watches, trimmed to the fields that anybody here reads, and controllers that compare
// one object at a time with the service's store; and in the service's bucket the keys
// kube.lease, kube.cluster and kube.adopted. It promises that an API server that is
// away, or has not got the CustomResourceDefinitions yet, or does not accept a token that
// ended meanwhile, is waited for and never an error, and that seconds after it is back
// everything is known, however long it was away; that of a service's replicas only one writes; that whoever leads first takes over
// what objects have and the store does not know, then looks at every object once, and then
// at what changes on either side, never with a view of the store that is older; and that a
// store is never brought to another cluster's objects (ErrOtherCluster).
//
// It must not know what is reconciled: what an object means to a service is in that
// service's package kube, whose adapter is a list of kinds and their conversions. Nothing
// here runs where no cluster is configured.
//
// Used by services/ipam, services/tenancy, services/servicelb and services/egress, and by
// services/nodeagent, which has no store and sees nothing of other nodes (NewOnNode).
package kube
