// Package pipeline says which flows a node's bridge has.
//
// It owns the meaning of every table, priority, register and port number of br0.
// It is pure: a description of the node, a pod, a remote node or a tenant goes in,
// a fragment of flows comes out. No clock, no I/O, no memory: the same input gives
// the same flows, in the same order.
//
// It promises that two fragments never produce flows with the same table, priority
// and match, provided that pods have different addresses and ports, and nodes
// different addresses and subnets, none of which overlap the service networks; and
// that every goto leads forward to a table that ends in an explicit flow of
// priority 0.
//
// It must not know what is installed (package flowsync) nor how flows look on the
// wire (package openflow). A new capability is a new file here, one a concern.
//
// docs/pipeline.md explains each table to whoever reads flows; a test holds the
// two together. A change of any flow needs a new RuleVersion.
package pipeline
