package main

const (
	intents   = "services/nodeagent/intent"
	resolving = "services/tenancy/resolve"
)

// policies are the rows of network policies: a change on a node, in the cluster's
// resolution, and on its way to those who follow it. What must not take longer than a
// time is beside that time.
func policies() []row {
	var all []row
	for _, except := range []string{"false", "true"} {
		name := "BenchmarkPolicyChange/except=" + except
		what := "one of 1,000 policies changes, to its flows"
		if except == "true" {
			what += ", with exceptions of blocks"
		}
		all = append(all,
			row{what + ", median", "ovs-ofctl --bundle add-flows of five", intents, name, "1x", "p50-ms", "ofctl-p50-ms", "ms", 1},
			row{what + ", p99", "ovs-ofctl --bundle add-flows of five", intents, name, "1x", "p99-ms", "ofctl-p99-ms", "ms", 1},
			row{what + ", p99", "50 ms", intents, name, "1x", "p99-ms", "goal-ms", "ms", 1})
	}
	const beside = "BenchmarkChangeBesideAnew"
	return append(all,
		row{"10,000 policies, 10,000 pods: one pod's labels", "all resolved anew", resolving, beside, "1x", "change-ms", "anew-ms", "ms", 1000},
		row{"10,000 policies, 10,000 pods: one pod's labels, p99", "5 ms", resolving, beside, "1x", "change-p99-ms", "change-goal-ms", "ms", 1},
		row{"10,000 policies, 10,000 pods: all resolved", "5 s", resolving, beside, "1x", "anew-ms", "anew-goal-ms", "ms", 1},
		row{"10,000 policies, 10,000 pods: memory", "500 MB", resolving, beside, "1x", "heap-MB", "heap-goal-MB", "MB", 1},
		row{"a group's change to the last of 1,000 followers", "a bare NATS publish", follow, "BenchmarkChangeToLastOfAThousand", "50x", "µs/change", "µs/publish", "µs", 0})
}
