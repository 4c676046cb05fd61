package resolution

import (
	"slices"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
	"github.com/damask-sdn/damask/services/tenancy/group"
)

// kept is the policies that this version of the service cannot read, which a
// newer one stored. To drop them would open what they close: what was resolved
// of them stays as it is stored, at the sandboxes that had them.
type kept struct {
	policies map[policy.Key]struct{}
	at       map[keptPod][]policy.Key
	stale    bool // One of them is none any more: all is to be compared anew.
}

type keptPod struct {
	key     group.PodKey
	sandbox string
}

func newKept() kept {
	return kept{policies: map[policy.Key]struct{}{}, at: map[keptPod][]policy.Key{}}
}

// release says that a policy can be read, or is gone.
func (k *kept) release(key policy.Key) {
	if _, was := k.policies[key]; was {
		delete(k.policies, key)
		k.stale = true
	}
}

// learn notes which pods a snapshot lists the policies at, and answers the keys
// that stay.
func (k *kept) learn(s bucket.Snapshot) map[string]struct{} {
	keys := map[string]struct{}{}
	if len(k.policies) == 0 {
		return keys
	}
	for e := range s.Scan(policywire.KindPodPolicies+".", "") {
		m := &tenancyv1.PodPolicies{}
		if decode(e, m) != nil {
			continue
		}
		pod := keptPod{group.PodKey{Namespace: m.GetNamespace(), Name: m.GetName()}, m.GetSandboxId()}
		for _, listed := range m.GetPolicies() {
			if key := policywire.KeyOf(listed); k.has(key) {
				k.at[pod] = append(k.at[pod], key)
			}
		}
	}
	for key := range k.policies {
		m, there, err := policies().Get(s, policywire.PolicyName(key))
		if !there || err != nil {
			continue
		}
		keys[policyKey(key)] = struct{}{}
		for _, rule := range m.GetRules() {
			for _, id := range groupsOf(rule) {
				for e := range s.Scan(groupPrefix(policy.GroupID(id)), "") {
					keys[e.Key] = struct{}{}
				}
			}
		}
	}
	return keys
}

func groupsOf(rule *tenancyv1.PolicyRule) []string {
	var ids []string
	for _, p := range rule.GetPeers() {
		if id := p.GetGroup(); id != "" {
			ids = append(ids, id)
		}
	}
	for _, e := range rule.GetEndpoints() {
		ids = append(ids, e.GetGroup())
	}
	return ids
}

func (k *kept) has(key policy.Key) bool {
	_, has := k.policies[key]
	return has
}

// with answers the policies of a pod, and those that are kept at it.
func (k *kept) with(pod group.PodKey, sandbox string, keys []policy.Key) []policy.Key {
	more := k.at[keptPod{pod, sandbox}]
	if len(more) == 0 {
		return keys
	}
	all := append(slices.Clone(keys), more...)
	slices.SortFunc(all, policy.Key.Compare)
	return slices.Compact(all)
}
