// Package resolution keeps what policies come down to in the store, up to date
// with the policies, namespaces and pods that are there.
//
// It owns the keys policy.<name>, addressgroup.<id>.<shard>,
// podpolicies.<node>.<namespace>.<pod> and resolution.cluster, and the answers
// about them. One replica at a time resolves: the one with the lease. It
// promises:
//
//   - What is stored depends on the policies, namespaces and pods alone, not on
//     who resolved before: a replica that takes over compares, and writes
//     nothing if nothing differs.
//   - A commit of a replica that lost the lease is refused: every commit changes
//     resolution.cluster, and so does taking over.
//   - Who reads what is stored in order finds groups before the policies that
//     name them and policies before the pods that list them, and the other way
//     round when they go.
//   - A change costs the shards, policies and pods that it changes.
//
// It must not know how policies are written (packages policyspec and
// policystore), nor how they are enforced.
package resolution
