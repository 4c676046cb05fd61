package main

import "fmt"

// egressIPs are the rows of where egress IPs are placed.
func egressIPs() []row {
	const placing = "services/egress/assign"
	of := func(what, baseline, ours, theirs string, goal float64) row {
		return row{"1,000 egress IPs on 100 nodes: " + what, baseline, placing, "BenchmarkPlacement", "5x", ours, theirs, "µs", goal}
	}
	flat := of("a node dies, each address that moves", "the same of 1,000", "move-of-many-µs", "move-of-few-µs", 0)
	flat.what = "10,000 egress IPs on 100 nodes: a node dies, each address that moves"
	return []row{
		of("all placed at once", "one after the other", "all-µs", "one-by-one-µs", 1),
		of("one wish changes", "all placed anew", "change-µs", "all-µs", 20),
		of("a node joins and is filled", "all placed anew", "join-µs", "all-µs", 1),
		of("a node dies, each address that moves", "all placed anew", "move-of-few-µs", "all-µs", 20),
		flat,
	}
}

// failovers are the rows of what the loss of a node costs by how many egress IPs it had: until
// the next one knows, and then on that one.
func failovers() []row {
	var all []row
	for _, n := range []int{10, 100, 1000} {
		all = append(all, row{
			fmt.Sprintf("power-off until the next node is told of the last of %d egress IPs", n), "of one", "services/egress",
			"BenchmarkFailover", "1x", fmt.Sprintf("fail-of-%d-ms", n), "fail-of-1-ms", "ms", 0,
		})
	}
	for _, n := range []int{10, 100, 1000} {
		name, takes := fmt.Sprintf("BenchmarkEgressIPs/%d", n), fmt.Sprintf("a node with %d egress IPs takes ", n)
		of := func(what, baseline, ours, theirs string, goal float64) row {
			return row{takes + what, baseline, "services/nodeagent/egresshost", name, "5x", ours, theirs, "ms", goal}
		}
		all = append(all,
			of(fmt.Sprintf("%d more", max(1, n/10)), "ip and iptables", "tenth-more-ms", "tenth-by-hand-ms", 1),
			of("one more", "all of them", "one-more-ms", "all-ms", 0))
	}
	return all
}

// firewalls are the rows of an egress firewall in a switch.
func firewalls() []row {
	of := func(what, ours string, goal float64) row {
		return row{"10,000 firewall rules: " + what, "ovs-ofctl --bundle add-flows, all of them", flowsync, "BenchmarkFirewall10k", "5x", ours, "us-ofctl", "µs", goal}
	}
	return []row{of("all from nothing, compiled and in the switch", "us-all", 1), of("one more in the middle", "us-change", 5)}
}
