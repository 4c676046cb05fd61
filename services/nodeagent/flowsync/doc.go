// Package flowsync keeps the flows of one bridge as their owners want them.
//
// It owns the connection to the bridge, the desired flows by owner, and what is known to be installed. It promises that
// only differences are sent, each change as one atomic bundle; that nothing is sent when nothing differs; that an answer
// without an error means that the switch has confirmed; and that changes of different owners do not wait for each other.
//
// Every flow has a cookie made of its owner's name, so a dump tells whose it is. A flow without a living owner is a
// leftover or somebody else's, and Reconcile takes it away: the bridge is ours alone.
//
// It must not know what flows mean (package pipeline), nor decide when to compare: its owner calls Reconcile after each
// connection, and as often as it likes.
package flowsync
