package resolve

import (
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
)

// Changes is what is different since the last Drain. It is to be handed out in
// the order of its fields, so that whoever follows has a group before the policy
// that names it, and a policy before the pod that lists it; what is gone, in the
// opposite order.
type Changes struct {
	// Groups that are new, have other members, or that no policy names any more.
	Groups []group.Change
	// Policies that are new or were written anew, in order of key.
	Policies []policy.Policy
	// Pods that are new, or have other policies, addresses or ports, in order.
	Pods []policy.Pod
	// GonePods and GonePolicies are no more, in order.
	GonePods     []group.PodKey
	GonePolicies []policy.Key
}

// Drain answers the changes since the last time.
func (r *Resolver) Drain() Changes {
	moved := r.groups.Drain()
	c := Changes{Groups: moved.Groups}
	for _, key := range slices.SortedFunc(maps.Keys(r.changed), policy.Key.Compare) {
		if p, ok := r.Policy(key); ok {
			c.Policies = append(c.Policies, p)
		} else {
			c.GonePolicies = append(c.GonePolicies, key)
		}
	}
	clear(r.changed)
	for _, key := range moved.Pods {
		before, had := r.pods[key]
		now, has := r.Pod(key)
		switch {
		case has && (!had || !same(before, now)):
			r.pods[key] = now
			c.Pods = append(c.Pods, now)
		case had && !has:
			delete(r.pods, key)
			c.GonePods = append(c.GonePods, key)
		}
	}
	return c
}

func same(a, b policy.Pod) bool {
	return slices.Equal(a.Addresses, b.Addresses) && slices.Equal(a.Ports, b.Ports) && slices.Equal(a.Policies, b.Policies)
}
