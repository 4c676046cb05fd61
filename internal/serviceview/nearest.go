package serviceview

import (
	"slices"

	servicelbv1 "github.com/damask-sdn/damask/proto/damask/servicelb/v1"
)

// nearest answers the test for endpoints that a node should use when the
// policy is Cluster. Hints decide if every ready endpoint has them: whoever
// wrote them knows the whole cluster. Otherwise the service's traffic
// distribution does. Either way a preference that no ready endpoint meets is
// none: traffic goes everywhere rather than nowhere.
func nearest(d servicelbv1.TrafficDistribution, endpoints []endpoint, node Node) func(endpoint) bool {
	tests := []struct {
		applies bool
		meets   func(endpoint) bool
	}{
		{all(endpoints, func(e endpoint) bool { return len(e.forNodes) > 0 }), func(e endpoint) bool { return slices.Contains(e.forNodes, node.Name) }},
		{node.Zone != "" && all(endpoints, func(e endpoint) bool { return len(e.forZones) > 0 }), func(e endpoint) bool { return slices.Contains(e.forZones, node.Zone) }},
	}
	hinted := all(endpoints, func(e endpoint) bool { return len(e.forNodes)+len(e.forZones) > 0 })
	if !hinted {
		sameNode := d == servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_PREFER_SAME_NODE
		sameZone := d != servicelbv1.TrafficDistribution_TRAFFIC_DISTRIBUTION_UNSPECIFIED && node.Zone != ""
		tests[0].applies, tests[0].meets = sameNode, func(e endpoint) bool { return e.Local }
		tests[1].applies, tests[1].meets = sameZone, func(e endpoint) bool { return e.zone == node.Zone }
	}
	for _, t := range tests {
		if t.applies && slices.ContainsFunc(endpoints, func(e endpoint) bool { return e.ready && t.meets(e) }) {
			return t.meets
		}
	}
	return func(endpoint) bool { return true }
}

// all says whether there are ready endpoints and all of them pass.
func all(endpoints []endpoint, pass func(endpoint) bool) bool {
	some := false
	for _, e := range endpoints {
		if !e.ready {
			continue
		}
		if !pass(e) {
			return false
		}
		some = true
	}
	return some
}
