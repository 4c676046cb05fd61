// Package policyoracle asks somebody else's engine what network policies mean.
//
// The engine is that of sigs.k8s.io/kube-network-policies. It has no door for
// questions: it evaluates packets that a kernel queues. So the one method that
// answers them is linked by its name, with the type of its argument written down
// once more (engine.go). That binds this package to one version of it, as does
// the module's go.mod; what it brings along stays out of the product, and out of
// the workspace.
//
// Where that version is known not to say what the specification says, the
// clusters that are drawn leave it out, and world.go says so.
package policyoracle
