package resolution

import (
	"fmt"

	"github.com/damask-sdn/damask/internal/bucket"
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/internal/policy/policywire"
	tenancyv1 "github.com/damask-sdn/damask/proto/damask/tenancy/v1"
)

// Applying is what applies to a pod, as it is stored.
type Applying struct {
	Pod policy.Pod
	// Policies that are there of those that the pod lists.
	Policies []*policy.Policy
	// Groups that they name.
	Groups policy.Groups
}

// Of answers what applies to a pod's present sandbox, nil when that is not
// stored yet.
func Of(s bucket.Reader, pod *tenancyv1.Pod) (*Applying, error) {
	m, exists, err := podPolicies().Get(s, pod.GetNode(), pod.GetNamespace(), pod.GetName())
	if err != nil || !exists || m.GetSandboxId() != pod.GetSandboxId() {
		return nil, err
	}
	placed, err := policywire.ReadPodPolicies(m)
	if err != nil {
		return nil, err
	}
	a := &Applying{Pod: placed.Pod, Groups: policy.Groups{}}
	for _, k := range placed.Pod.Policies {
		m, exists, err := policies().Get(s, policywire.PolicyName(k))
		if err != nil {
			return nil, err
		}
		if !exists {
			continue
		}
		p, err := policywire.ReadPolicy(m)
		if err != nil {
			return nil, err
		}
		a.Policies = append(a.Policies, &p)
		for _, id := range p.Groups() {
			if err := readGroup(s, id, a.Groups); err != nil {
				return nil, err
			}
		}
	}
	return a, nil
}

func readGroup(s bucket.Reader, id policy.GroupID, into policy.Groups) error {
	if into[id] != nil {
		return nil
	}
	into[id] = map[policy.Member]struct{}{}
	for e := range s.Scan(groupPrefix(id), "") {
		m, err := decodeShard(e)
		if err != nil {
			return err
		}
		members, err := policywire.ReadShard(m)
		if err != nil {
			return fmt.Errorf("read group %s: %w", id, err)
		}
		for _, one := range members {
			into[id][one] = struct{}{}
		}
	}
	return nil
}

// Resolved is the resolved form of a policy, in figures.
type Resolved struct {
	Revision        uint64 // 0: there is none.
	Groups, Members int
}

// Figures answers the resolved form of a policy in figures.
func Figures(s bucket.Reader, k policy.Key) (Resolved, error) {
	m, exists, err := policies().Get(s, policywire.PolicyName(k))
	if err != nil || !exists {
		return Resolved{}, err
	}
	seen := map[string]bool{}
	out := Resolved{Revision: m.GetRevision()}
	for _, rule := range m.GetRules() {
		for _, id := range groupsOf(rule) {
			if seen[id] {
				continue
			}
			seen[id] = true
			out.Groups++
			for e := range s.Scan(groupPrefix(policy.GroupID(id)), "") {
				shard, err := decodeShard(e)
				if err != nil {
					return out, err
				}
				out.Members += len(shard.GetMembers())
			}
		}
	}
	return out, nil
}
