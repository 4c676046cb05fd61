// Package proxytest is the contract of the service engines, as a test with real
// packets. Each engine's own test calls Run; an engine that passes is a service proxy.
//
// # What every engine promises
//
// Addresses. A connection to a ClusterIP, an ExternalIP, a LoadBalancerIP (each at
// Port) or to an address of the node at NodePort goes to one backend of the list that
// proxy.Service names for it; each backend gets an equal share. It works from a pod,
// from the node itself, and from outside. Replies come from the address that the
// client asked.
//
// Who the backend sees. To a cluster IP: the pod's own address when a pod asks, the
// node's (the gateway device's) when the client is not in the cluster networks. To an
// external address: the node's, with ExternalLocal the client's own, but the node's
// own connections are still masqueraded. A backend that reaches itself through its
// service sees the node's address (hairpin), else it would answer itself. A backend on
// the node itself (host network) always sees the client: no packet leaves the node.
//
// No backend. Reject: the client learns at once ("connection refused" for TCP). Drop:
// silence. See proxy.Verdict. Neither concerns other ports of the same address.
//
// Affinity. Within the time the same client address gets the same backend. The kernel
// keeps who has which; Sync and Apply lose none of it for services and backends that stay.
//
// Source ranges. A LoadBalancerIP with ranges drops packets of others, and only that
// address.
//
// Changes. While backends change under a stream of new connections, none fails that
// had a live backend before and after. Connections that exist stay with their backend.
// For UDP, whose connections have no end, the kernel's conntrack entries to a backend
// that was removed are deleted, also those from before a service had its first backend.
//
// Comparison. Sync with what is there already returns no Changes and sends nothing,
// also from a new engine value, as after a restart of the agent. A damaged rule, a
// leftover service and a leftover endpoint are repaired by the next Sync.
//
// Others. Rules of others in the same tables, and their jumps in built-in chains, stay
// byte for byte, through Sync, Apply and Cleanup. After Cleanup the ruleset is what it
// was before the first Sync. (Built-in chains of iptables that were created empty do
// not count: others may have begun to rely on them.)
//
// Input. A service that does not pass its Check, and two services that claim the same,
// are refused with an error that names them all, and nothing is programmed.
//
// # The network that the test makes
//
// A node namespace routes between pods on tun0 (10.130.0.0/23, the node is
// 10.130.0.1, cluster network 10.128.0.0/14) and outside hosts on eth0 (192.0.2.0/24,
// the node is 192.0.2.1). Service addresses are in 172.30.0.0/16, external ones in
// 198.51.100.0/24; the outside host routes both to the node. Pods have /32 addresses, so
// that all between pods passes the node's hooks, as through the switch of the product.
// The node's default route leads to nobody.
package proxytest
