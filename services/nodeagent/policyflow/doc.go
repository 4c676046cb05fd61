// Package policyflow compiles resolved policies to flows.
//
// It owns how policies look in a switch: three tables for each direction (the
// administrator's tier, NetworkPolicy, the baseline), in which a rule is one
// conjunction of what it applies to, who is at the other side, and which ports.
// Each address, block and port is one flow, whatever the number of rules that
// name it, so that flows grow with the sum of these and not with their product.
//
// It promises that the flows decide as policy.Decide does; that they depend on
// what is there and not on how it came to be, so that an agent that starts again
// finds the ones it left; that a change costs the flows that it changes; and
// that nothing opens by halves: a policy is in force when all groups that it
// names are there, a pod is closed until all policies that it lists are in
// force, and what was in force before holds until then.
//
// It is pure, and not safe for concurrent use. IPv4 only, as the pod network is:
// addresses and blocks of IPv6 have no flows. It must not know what is installed
// (package flowsync), where policies come from, nor what happens before and
// after its tables: replies, the node's own probes and services are let past by
// whoever puts the tables into the pipeline.
package policyflow
