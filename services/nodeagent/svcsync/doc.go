// Package svcsync keeps a node's service engine at what the cluster's Services say.
//
// It owns the way from the followed Services and EndpointSlices to what is in force
// here: the view from this node (internal/serviceview), which service has an address
// when several want it, the engine (packages below proxy), the flows that lead pods to
// their services, health-check node ports, and what is held for idle services. For
// every object it knows which revision is wanted, which is in force, and why they differ.
//
// It promises that:
//
//   - Nothing is programmed before all services and endpoints are known, be it from the
//     service or, while that is away, from when the agent last ran.
//   - The cost of a change is that of its service. Changes that come while the engine is
//     busy are taken together. Everything is compared at start, after an error and in
//     audits; what is right already is not touched.
//   - A service that cannot be read, or wants what belongs to another, has an error in
//     its status and disturbs no other.
//   - When it stops, everything stays as it is.
//
// One loop does all the work, so the parts need no locks; marks (what has changed) and
// statuses are all that others touch. It must not know iptables, nftables or OpenFlow.
package svcsync
