// Package openflow is a small OpenFlow 1.3 codec and connection for the Open vSwitch of one node.
//
// It owns the wire: flows, matches and actions as values with both a wire and an ovs-ofctl text form, the messages that
// install, dump and bundle them, the meters and the copies of packets that flows can send us, and one connection over a bridge's management socket.
//
// It promises that what the switch dumps back decodes to a value equal (==) to what was sent, so that comparing flows is
// comparing values; that nothing which the switch sends can panic or break a dump (what is not understood is kept as raw
// bytes, prints as unknown(…), and so compares unequal to everything we would install); and that a refused flow is named
// in the error.
//
// It must not know what flows mean (that is package pipeline) nor remember what is installed (that is package flowsync).
package openflow
