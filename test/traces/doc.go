// Package traces holds a node's flows against the packet walks that were observed
// on real clusters (test/observed/traces.yaml).
//
// It owns the reading of that file, the reading of what ofproto/trace answers, and
// the comparison of the two by meaning: hexadecimal or decimal, prefix or mask,
// cookie or none make no difference; another table, match, priority, action or order
// does.
//
// It promises that a walk which somebody adds to the file fails until it is decided
// here who judges it. It must not know where the node is: whoever compares gives a
// Tracer, which asks a private switch, or a node of a lab.
package traces
