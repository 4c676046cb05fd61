// Package egressrouter makes pods into egress routers: what enters the pod leaves by an
// address of its own on the underlay, towards fixed destinations.
//
// It owns how a pod asks for that (annotations), and the nftables table damask_router
// in the pod's network namespace. It promises that a wrong wish is refused with
// every problem named, and that its rules are compared before they are changed, and
// changed in one step.
//
// It must not make interfaces, addresses or routes (package link), and never does
// anything in the node's own namespace. Whether a namespace may have egress
// routers is not its business.
package egressrouter
