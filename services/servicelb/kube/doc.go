// Package kube is the servicelb service on Kubernetes: Services and EndpointSlices are
// taken over as Kubernetes has them.
//
// It owns, of a Service of type LoadBalancer that has no class or one of Damask's, the
// addresses in status.loadBalancer; of every Service the condition damask.io/Accepted; and in
// the bucket of the service the keys kube.lease, kube.cluster and kube.adopted. Cluster IPs
// and node ports are given by the API server and taken as they are. It promises that one
// changed EndpointSlice is one write to the store, that what is refused changes nothing and
// says why in the condition and an Event, and that a lost store has everything again that
// objects say, load-balancer addresses included. It must not write slices, which are
// Kubernetes' own controller's, nor choose addresses.
package kube
