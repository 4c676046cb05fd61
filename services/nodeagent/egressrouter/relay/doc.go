// Package relay is the proxy of an egress router: what a pod of the cluster asks it for, it
// fetches by the router's own address on the underlay.
//
// It owns the program that runs in the pod, which needs no privilege: the agent has made
// the interface, its address and its routes. It promises that every connection that it
// opens leaves by that interface or not at all, so that nobody reaches the cluster, the
// pod or the node through it; that it answers only what comes by the other
// interfaces, so that it is no proxy for the world outside; and that the address that is
// judged is the address that is connected to.
//
// It must not look into what it carries, and keeps nothing.
package relay
