package bus_test

import (
	"testing"

	"github.com/damask-sdn/damask/internal/bus"
)

// Services and followers of different versions must agree on shards, so the
// numbers are written down here; another program computed them.
func TestShardIsTheSameInEveryVersion(t *testing.T) {
	for key, want := range map[string]int{
		"netnamespace.shop":            bus.Shard("netnamespace.shop.more.names"),
		"hostsubnet.node1_2Eexample":   13,
		"pod.shop.web_2E0":             bus.Shard("pod.shop"),
		"clusternetwork.default":       42,
		"netnamespace.kube-system":     48,
		"netnamespace.openshift-infra": 30,
	} {
		if got := bus.Shard(key); got != want {
			t.Errorf("%s: got shard %d, want %d", key, got, want)
		}
	}
}
