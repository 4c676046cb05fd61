// Package killtest kills real ipam processes and looks at what is left.
//
// It owns the tests that need the built binary: replicas that die with kill -9
// in the middle of their work, and a service that dies with the store inside
// it. What must hold is that no subnet has two owners, nothing is left over,
// and what was answered stays true.
package killtest
