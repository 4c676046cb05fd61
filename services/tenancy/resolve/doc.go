// Package resolve turns policies as written into policies without selectors.
//
// It owns the way from selectors to groups: which groups a policy's rules name,
// and which policies apply to which pod. Groups are shared by all policies that
// select the same. Namespaces, pods and policies go in one at a time, in any
// order; what comes out is the difference: a pod's change is a move in the groups
// that hold it, and a policy is only handed out again when it was written anew.
//
// It promises that the result depends on what is there and not on how it came to
// be. It is pure, and not safe for concurrent use. It must not know who stores
// the result (package server) nor how it is enforced (services/nodeagent).
package resolve
