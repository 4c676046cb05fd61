package resolve

import (
	"maps"
	"reflect"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/group"
	"github.com/damask-sdn/damask/services/tenancy/policyspec"
)

// Resolver holds what was said, and what follows from it.
type Resolver struct {
	groups    *group.Book
	policies  map[policy.Key]*entry
	bySubject map[policy.GroupID]map[policy.Key]struct{}
	pods      map[group.PodKey]policy.Pod // As handed out.
	changed   map[policy.Key]struct{}
}

// entry is a policy with what it uses.
type entry struct {
	written  policyspec.Policy
	resolved policy.Policy
	uses     []group.Use
}

// New answers a resolver that knows of nothing.
func New() *Resolver {
	return &Resolver{
		groups:    group.NewBook(),
		policies:  map[policy.Key]*entry{},
		bySubject: map[policy.GroupID]map[policy.Key]struct{}{},
		pods:      map[group.PodKey]policy.Pod{},
		changed:   map[policy.Key]struct{}{},
	}
}

// SetNamespace says what labels a namespace has.
func (r *Resolver) SetNamespace(name string, labels map[string]string) {
	r.groups.SetNamespace(name, labels)
}

// DeleteNamespace forgets a namespace's labels. Its pods and policies stay until
// they are deleted.
func (r *Resolver) DeleteNamespace(name string) { r.groups.DeleteNamespace(name) }

// SetPod says how a pod is that is attached to the network. A pod that completed
// is to be deleted.
func (r *Resolver) SetPod(p group.Pod) { r.groups.SetPod(p) }

// DeletePod forgets a pod: it is gone, or has completed.
func (r *Resolver) DeletePod(namespace, name string) { r.groups.DeletePod(namespace, name) }

// SetPolicy says how a policy is.
func (r *Resolver) SetPolicy(p policyspec.Policy) {
	old := r.policies[p.Key]
	if old != nil && reflect.DeepEqual(old.written, p) {
		return
	}
	e := &entry{written: p}
	r.retain(e, group.Use{Kind: group.Subject, Pair: p.Subject})
	e.resolved = policy.Policy{Key: p.Key, Tier: p.Tier, Priority: p.Priority, Ingress: p.Ingress, Egress: p.Egress}
	for _, rule := range p.Rules {
		e.resolved.Rules = append(e.resolved.Rules, r.rule(e, rule))
	}
	r.policies[p.Key] = e
	r.changed[p.Key] = struct{}{}
	if old == nil || old.subject() != e.subject() {
		r.apply(e)
	}
	// The old groups go after the new ones came, so that those in both stay.
	if old != nil {
		r.release(old, e)
	}
}

// DeletePolicy forgets a policy.
func (r *Resolver) DeletePolicy(key policy.Key) {
	if old := r.policies[key]; old != nil {
		delete(r.policies, key)
		r.changed[key] = struct{}{}
		r.release(old, nil)
	}
}

// subject is the group of the pods that the policy applies to.
func (e *entry) subject() policy.GroupID { return e.uses[0].ID() }

// apply lists the policy at its pods.
func (r *Resolver) apply(e *entry) {
	subject := e.subject()
	if r.bySubject[subject] == nil {
		r.bySubject[subject] = map[policy.Key]struct{}{}
	}
	r.bySubject[subject][e.written.Key] = struct{}{}
	r.groups.Touch(e.written.Subject)
}

// release lets go of what a policy used, and of its pods unless the one that
// comes after it has the same.
func (r *Resolver) release(e, next *entry) {
	if subject := e.subject(); next == nil || next.subject() != subject {
		r.groups.Touch(e.written.Subject)
		delete(r.bySubject[subject], e.written.Key)
		if len(r.bySubject[subject]) == 0 {
			delete(r.bySubject, subject)
		}
	}
	for _, u := range e.uses {
		r.groups.Release(u)
	}
}

func (r *Resolver) retain(e *entry, u group.Use) policy.GroupID {
	e.uses = append(e.uses, u)
	return r.groups.Retain(u)
}

// rule puts groups in the place of selectors. For egress a named port becomes
// the destinations that have it: what a name means is each destination's own.
func (r *Resolver) rule(e *entry, w policyspec.Rule) policy.Rule {
	out := policy.Rule{Name: w.Name, Direction: w.Direction, Action: w.Action, AnyPort: w.AnyPort, Ports: w.Ports}
	if w.Direction == policy.Ingress {
		out.Named = w.Named
	} else {
		for _, name := range w.Named {
			out.Endpoints = append(out.Endpoints, r.endpoints(e, w, name)...)
		}
		if !w.AnyPort && len(w.Ports) == 0 {
			return out // By name only: the peers are in the endpoints.
		}
	}
	out.AnyPeer = w.AnyPeer
	for _, p := range w.Peers {
		if p.Pods == nil {
			out.Peers = append(out.Peers, policy.Peer{Block: p.Block})
			continue
		}
		out.Peers = append(out.Peers, policy.Peer{Group: r.retain(e, group.Use{Kind: group.Addresses, Pair: *p.Pods})})
	}
	return out
}

func (r *Resolver) endpoints(e *entry, w policyspec.Rule, name policy.PortName) []policy.Endpoints {
	use := group.Use{Kind: group.Ports, Port: name}
	if w.AnyPeer {
		return []policy.Endpoints{{Group: r.retain(e, use), Protocol: name.Protocol}}
	}
	var all []policy.Endpoints
	for _, p := range w.Peers {
		use.Pair = group.Pair{} // A block may have pods in it, and these have named ports.
		if p.Pods != nil {
			use.Pair = *p.Pods
		}
		all = append(all, policy.Endpoints{Group: r.retain(e, use), Protocol: name.Protocol, Within: p.Block})
	}
	return all
}

// Policy answers a policy as it is handed out.
func (r *Resolver) Policy(key policy.Key) (policy.Policy, bool) {
	e := r.policies[key]
	if e == nil {
		return policy.Policy{}, false
	}
	return e.resolved, true
}

// Members answers who is in a group that a policy names, in order.
func (r *Resolver) Members(id policy.GroupID) ([]policy.Member, bool) { return r.groups.Members(id) }

// Pod answers a pod with the policies that apply to it.
func (r *Resolver) Pod(key group.PodKey) (policy.Pod, bool) {
	p, subjects, ok := r.groups.Pod(key)
	if !ok {
		return policy.Pod{}, false
	}
	keys := map[policy.Key]struct{}{}
	for _, s := range subjects {
		maps.Copy(keys, r.bySubject[s])
	}
	return policy.Pod{Namespace: key.Namespace, Name: key.Name, Addresses: p.Addresses, Ports: p.Ports,
		Policies: slices.SortedFunc(maps.Keys(keys), policy.Key.Compare)}, true
}
