// Package group keeps address groups: who is selected by each pair of selectors.
//
// It owns the answer to "which pods, which addresses" for as long as somebody
// uses a pair, and shares one answer among all who use the same pair. Namespaces
// and pods go in one at a time; what comes out is the difference.
//
// It promises that a change costs what it changes: a pod is compared with the
// groups that its labels and its namespace can lead to, and with no others; and
// that the groups are the same whatever the order in which everything arrived.
// An address that two pods have, as happens for a moment when it is handed on,
// stays in a group until neither of them is in it.
//
// It is pure, and not safe for concurrent use. It must not know what groups are
// used for (package resolve does).
package group
