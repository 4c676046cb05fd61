// Package policy is network policy in its resolved form: what is left when all
// selectors have been answered.
//
// It owns the words of that form (policies of three tiers, rules, address
// groups, the pods that policies apply to) and what they mean: Decide says
// whether a connection may be, and which rule says so. NetworkPolicy,
// AdminNetworkPolicy and their kin all come down to it.
//
// It is pure. It promises that a rule which nobody filled in matches nothing, and
// that the order in which policies are given does not matter. It must not know
// selectors and labels (services/tenancy answers those) nor flows
// (services/nodeagent makes those).
//
// Used by services/tenancy, which resolves, services/nodeagent, which enforces,
// and by tests that compare both with an engine of somebody else.
package policy
