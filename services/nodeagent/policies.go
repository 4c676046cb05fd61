package nodeagent

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"

	"github.com/hashicorp/go-hclog"
	"golang.org/x/sync/errgroup"

	"github.com/damask-sdn/damask/internal/policy"
	cniv1 "github.com/damask-sdn/damask/proto/damask/cni/v1"
	"github.com/damask-sdn/damask/services/nodeagent/intent"
)

// policies is the agent's part for network policies: which apply to the pods of this
// node, what these say, and the groups that they name. They are followed in every
// mode, so that a change to one in which they decide finds them here.
type policies struct {
	node     string
	state    *intent.State
	queue    func(intent.Change)
	refuse   func(intent.Object, error)
	forget   func(intent.Object)
	followed *policiesFollowed
	log      hclog.Logger

	// mu is held while followers are looked at and the state is told, so that what was
	// seen later is told later.
	mu       sync.Mutex
	policies map[string]struct{}          // Followed, by name.
	groups   map[string]struct{}          // Followed, by id.
	labels   map[string]map[string]string // Of pods that were attached, by namespace/name.
}

func newPolicies(node string, state *intent.State, prog *intent.Programmer, log hclog.Logger) *policies {
	return &policies{
		node: node, state: state, queue: prog.Queue, refuse: prog.Refuse, forget: prog.Forget, log: log,
		policies: map[string]struct{}{}, groups: map[string]struct{}{}, labels: map[string]map[string]string{},
	}
}

// run runs the part until ctx ends.
func (p *policies) run(ctx context.Context) error {
	group, ctx := errgroup.WithContext(ctx)
	for _, part := range []func(context.Context) error{p.followed.policies.Run, p.followed.groups.Run, p.followed.pods.Run} {
		group.Go(func() error { return part(ctx) })
	}
	return group.Wait()
}

// podChanged takes which policies apply to a pod of this node, by the follower's name.
func (p *policies) podChanged(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	object := intent.Object{Kind: intent.KindPodPolicies, Name: name}
	m, exists := p.followed.pods.Get(name)
	if !exists {
		if _, pod, found := strings.Cut(name, "/"); found {
			namespace, pod, _ := strings.Cut(pod, "/")
			p.queue(p.state.DeletePodPolicies(namespace, pod))
			delete(p.labels, namespace+"/"+pod)
		}
		p.forget(object)
	} else {
		change, err := p.state.SetPodPolicies(m)
		p.take(object, change, err)
	}
	p.follow()
}

// policyChanged takes a policy.
func (p *policies) policyChanged(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	object := intent.Object{Kind: intent.KindPolicy, Name: name}
	m, exists := p.followed.policies.Get(name)
	if !exists {
		p.queue(p.state.DeletePolicy(name))
		p.forget(object)
	} else {
		change, err := p.state.SetPolicy(m)
		p.take(object, change, err)
	}
	p.follow()
}

// groupChanged takes a part of a group. A change that comes into force can let go of
// groups that the policies named before.
func (p *policies) groupChanged(name string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	object := intent.Object{Kind: intent.KindAddressGroup, Name: name}
	m, exists := p.followed.groups.Get(name)
	if !exists {
		p.queue(p.state.DeleteAddressGroupShard(name))
		p.forget(object)
	} else {
		change, err := p.state.SetAddressGroupShard(m)
		p.take(object, change, err)
	}
	p.follow()
}

func (p *policies) take(object intent.Object, change intent.Change, err error) {
	if err != nil {
		p.log.Error("object refused, the last good one stays in force", "kind", object.Kind, "name", object.Name, "error", err)
		p.refuse(object, err)
		return
	}
	p.queue(change)
}

// podsChanged says that pods came or went.
func (p *policies) podsChanged() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.follow()
}

// follow follows what the pods of this node list, and what that names, and nothing
// else. What names something came with it or after it, so the replica that is asked has to
// know that much. The caller holds the lock.
func (p *policies) follow() {
	wanted := p.state.WantedPolicies()
	for name := range wanted {
		if _, has := p.policies[name]; !has {
			p.followed.policies.WantSince(name, p.followed.pods.Newest())
		}
	}
	for name := range p.policies {
		if _, still := wanted[name]; !still {
			p.followed.policies.Drop(name)
			p.queue(p.state.DeletePolicy(name))
			p.forget(intent.Object{Kind: intent.KindPolicy, Name: name})
		}
	}
	p.policies = wanted
	groups := p.state.WantedGroups()
	for id := range groups {
		if _, has := p.groups[id]; !has {
			p.followed.groups.WantSince(id, p.followed.policies.Newest())
		}
	}
	for id := range p.groups {
		if _, still := groups[id]; still {
			continue
		}
		shards, _, _ := p.followed.groups.Of(id)
		p.followed.groups.Drop(id)
		p.queue(p.state.ForgetAddressGroup(id))
		for name := range shards {
			p.forget(intent.Object{Kind: intent.KindAddressGroup, Name: name})
		}
	}
	p.groups = groups
}

// resolve waits until the state knows the policies of the pods that the node began
// with: compared before, the switch would lose the flows of these pods. When that
// takes long there is an error, and it is to be called again: meanwhile the switch goes
// on with the flows that it has.
func (p *policies) resolve(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, resolving)
	defer cancel()
	p.podsChanged()
	if err := p.followed.pods.Known(ctx, p.node); err != nil {
		return fmt.Errorf("the policies of this node's pods are not known: %w", err)
	}
	all, _, _ := p.followed.pods.Of(p.node)
	for _, name := range slices.Sorted(maps.Keys(all)) {
		p.podChanged(name)
	}
	// What policies and groups are wanted follows from what is known; each round knows more.
	for {
		p.mu.Lock()
		policies, groups := slices.Sorted(maps.Keys(p.policies)), slices.Sorted(maps.Keys(p.groups))
		p.mu.Unlock()
		for _, name := range policies {
			if p.followed.policies.Known(ctx, name) == nil {
				p.policyChanged(name)
			}
		}
		for _, id := range groups {
			if p.followed.groups.Known(ctx, id) != nil {
				continue
			}
			shards, _, _ := p.followed.groups.Of(id)
			for name := range shards {
				p.groupChanged(name)
			}
		}
		p.mu.Lock()
		settled := len(p.policies) == len(policies) && len(p.groups) == len(groups)
		p.mu.Unlock()
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("the policies of this node's pods are not known: %w", err)
		}
		if settled {
			return nil
		}
	}
}

// like answers the name of a pod of the same namespace that has, or had, the same labels,
// and so the same policies; empty if there is none.
func (p *policies) like(a *cniv1.Attachment) string {
	p.mu.Lock()
	defer p.mu.Unlock()
	prefix := a.GetPodNamespace() + "/"
	for _, name := range slices.Sorted(maps.Keys(p.labels)) {
		if pod, in := strings.CutPrefix(name, prefix); in && maps.Equal(p.labels[name], a.GetLabels()) {
			return pod
		}
	}
	return ""
}

// remember notes the labels of a pod whose policies are known.
func (p *policies) remember(a *cniv1.Attachment) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.labels[a.GetPodNamespace()+"/"+a.GetPodName()] = a.GetLabels()
}

// namedPorts says what names of ports mean at a pod.
func namedPorts(ports []*cniv1.ContainerPort) []policy.NamedPort {
	protocols := map[cniv1.Protocol]policy.Protocol{
		cniv1.Protocol_PROTOCOL_UNSPECIFIED: policy.TCP, cniv1.Protocol_PROTOCOL_TCP: policy.TCP,
		cniv1.Protocol_PROTOCOL_UDP: policy.UDP, cniv1.Protocol_PROTOCOL_SCTP: policy.SCTP,
	}
	var named []policy.NamedPort
	for _, p := range ports {
		if p.GetName() != "" {
			named = append(named, policy.NamedPort{Name: p.GetName(), Protocol: protocols[p.GetProtocol()], Port: uint16(p.GetContainerPort())}) //nolint:gosec // a port
		}
	}
	return named
}
