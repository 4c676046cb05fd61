// Package serviceview says which backends a service has, seen from one node.
//
// It is pure: a service, its slices and a node go in, backends come out. It
// owns the rules: which endpoints are ready, what happens when only terminating
// ones are left (KEP-1669), what the policy Local, hints and traffic
// distribution mean. It promises that the same input gives the same answer in
// the same order, whatever the order of slices and endpoints, and that nothing
// here grows with anything but the service's own endpoints. It must not know how
// an answer gets into a kernel, nor where the objects come from.
//
// Used by services/nodeagent, which programs the answer, and by
// services/servicelb, for what a service without cluster IPs is.
package serviceview
