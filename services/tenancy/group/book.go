package group

import (
	"maps"
	"net/netip"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
)

// nameLabel is the label that every namespace has by itself.
const nameLabel = "kubernetes.io/metadata.name"

// Pod is a pod as groups see it. A pod that has completed is to be deleted: its
// address may already be another's.
type Pod struct {
	Namespace, Name string
	Addresses       []netip.Addr
	Labels          map[string]string
	// Ports are the named ones. Of a name that a protocol has twice the first
	// counts.
	Ports []policy.NamedPort
}

// PodKey names a pod.
type PodKey struct{ Namespace, Name string }

// Book is the namespaces, the pods, and the groups in use.
type Book struct {
	namespaces map[string]*namespace
	pods       map[PodKey]*pod
	labelled   index[*pod]
	scopes     map[string]*scope
	// Which scopes a namespace with a label may be in, which namespaces a scope
	// may have, and the scopes that any namespace may be in.
	anchored index[*scope]
	spaces   index[*namespace]
	loose    map[*scope]struct{}
	groups   map[string]*group // By Pair.String.
	views    map[policy.GroupID]*view
	changed  map[policy.GroupID]*pending
	touched  map[PodKey]struct{}
}

type namespace struct {
	name   string
	known  bool // By SetNamespace, and not only by its pods.
	labels map[string]string
	pods   map[*pod]struct{}
	scopes map[*scope]struct{}
}

type pod struct {
	Pod
	key       PodKey
	namespace *namespace
	groups    map[*group]struct{}
}

// NewBook answers an empty book.
func NewBook() *Book {
	return &Book{
		namespaces: map[string]*namespace{},
		pods:       map[PodKey]*pod{},
		labelled:   index[*pod]{},
		scopes:     map[string]*scope{},
		anchored:   index[*scope]{},
		spaces:     index[*namespace]{},
		loose:      map[*scope]struct{}{},
		groups:     map[string]*group{},
		views:      map[policy.GroupID]*view{},
		changed:    map[policy.GroupID]*pending{},
		touched:    map[PodKey]struct{}{},
	}
}

// SetNamespace says what labels a namespace has. The label with its name is
// there by itself. A namespace that was never set has that label alone.
func (b *Book) SetNamespace(name string, labels map[string]string) {
	ns := b.namespace(name)
	ns.known = true
	b.relabel(ns, labels)
}

// DeleteNamespace forgets a namespace's labels. Its pods, if any, stay.
func (b *Book) DeleteNamespace(name string) {
	ns := b.namespaces[name]
	if ns == nil {
		return
	}
	ns.known = false
	b.relabel(ns, nil)
	b.forget(ns)
}

// namespace answers a namespace, made if need be.
func (b *Book) namespace(name string) *namespace {
	ns := b.namespaces[name]
	if ns == nil {
		ns = &namespace{name: name, pods: map[*pod]struct{}{}, scopes: map[*scope]struct{}{}}
		b.namespaces[name] = ns
		b.relabel(ns, nil)
	}
	return ns
}

func (b *Book) forget(ns *namespace) {
	if ns.known || len(ns.pods) > 0 {
		return
	}
	for s := range ns.scopes {
		delete(s.namespaces, ns)
	}
	b.spaces.remove(ns, ns.labels)
	delete(b.namespaces, ns.name)
}

// relabel gives the namespace its labels, and its pods the groups that go with
// them.
func (b *Book) relabel(ns *namespace, labels map[string]string) {
	all := map[string]string{nameLabel: ns.name}
	for k, v := range labels {
		if k != nameLabel {
			all[k] = v
		}
	}
	if ns.labels != nil && maps.Equal(ns.labels, all) {
		return
	}
	b.spaces.remove(ns, ns.labels)
	ns.labels = all
	b.spaces.add(ns, all)
	for s := range ns.scopes {
		b.rescope(ns, s)
	}
	if s := b.scopes[Pair{Namespace: ns.name}.scope()]; s != nil {
		b.rescope(ns, s)
	}
	for s := range b.loose {
		b.rescope(ns, s)
	}
	b.anchored.each(all, func(s *scope) { b.rescope(ns, s) })
}

// SetPod says how a pod is.
func (b *Book) SetPod(p Pod) {
	key := PodKey{p.Namespace, p.Name}
	p.Ports = firstOfEach(p.Ports)
	old := b.pods[key]
	if old == nil {
		ns := b.namespace(p.Namespace)
		old = &pod{Pod: p, key: key, namespace: ns, groups: map[*group]struct{}{}}
		b.pods[key] = old
		ns.pods[old] = struct{}{}
		b.labelled.add(old, old.Labels)
		b.touched[key] = struct{}{}
		b.regroup(old, nil)
		return
	}
	if !slices.Equal(old.Addresses, p.Addresses) || !slices.Equal(old.Ports, p.Ports) {
		b.touched[key] = struct{}{}
		b.readdress(old, p)
	}
	if !maps.Equal(old.Labels, p.Labels) {
		before := old.Labels
		b.labelled.remove(old, old.Labels)
		old.Labels = p.Labels
		b.labelled.add(old, old.Labels)
		b.regroup(old, before)
	}
}

// DeletePod forgets a pod, and takes it out of all groups.
func (b *Book) DeletePod(namespace, name string) {
	p := b.pods[PodKey{namespace, name}]
	if p == nil {
		return
	}
	for g := range p.groups {
		b.leave(p, g)
	}
	b.labelled.remove(p, p.Labels)
	delete(b.pods, p.key)
	delete(p.namespace.pods, p)
	b.touched[p.key] = struct{}{}
	b.forget(p.namespace)
}

// Pod answers a pod and the subjects that it is in, in no order.
func (b *Book) Pod(key PodKey) (Pod, []policy.GroupID, bool) {
	p := b.pods[key]
	if p == nil {
		return Pod{}, nil, false
	}
	var in []policy.GroupID
	for g := range p.groups {
		if g.subjects > 0 {
			in = append(in, g.subject)
		}
	}
	return p.Pod, in, true
}

// readdress moves the pod to other addresses and ports in all groups that it is in.
func (b *Book) readdress(p *pod, to Pod) {
	for g := range p.groups {
		g.eachMember(p, func(v *view, m policy.Member) { b.remove(v, m) })
	}
	p.Addresses, p.Ports = to.Addresses, to.Ports
	for g := range p.groups {
		g.eachMember(p, func(v *view, m policy.Member) { b.add(v, m) })
	}
}

// regroup enters the pod into the groups that its labels fulfil, and takes it
// out of those that only the labels before did.
func (b *Book) regroup(p *pod, before map[string]string) {
	for s := range p.namespace.scopes {
		s.eachCandidate(p.Labels, func(g *group) { b.place(p, g) })
		s.eachCandidate(before, func(g *group) { b.place(p, g) })
	}
}

// place puts the pod in or out of a group of a scope that its namespace is in.
func (b *Book) place(p *pod, g *group) {
	_, in := p.groups[g]
	switch fits := g.pair.Pods.Matches(p.Labels); {
	case fits && !in:
		b.enter(p, g)
	case !fits && in:
		b.leave(p, g)
	}
}

func (b *Book) enter(p *pod, g *group) {
	p.groups[g] = struct{}{}
	g.pods[p] = struct{}{}
	if g.subjects > 0 {
		b.touched[p.key] = struct{}{}
	}
	g.eachMember(p, func(v *view, m policy.Member) { b.add(v, m) })
}

func (b *Book) leave(p *pod, g *group) {
	g.eachMember(p, func(v *view, m policy.Member) { b.remove(v, m) })
	if g.subjects > 0 {
		b.touched[p.key] = struct{}{}
	}
	delete(p.groups, g)
	delete(g.pods, p)
}

// firstOfEach keeps the first port of each name and protocol.
func firstOfEach(ports []policy.NamedPort) []policy.NamedPort {
	var kept []policy.NamedPort
	for _, p := range ports {
		same := func(k policy.NamedPort) bool { return k.Name == p.Name && k.Protocol == p.Protocol }
		if p.Name != "" && !slices.ContainsFunc(kept, same) {
			kept = append(kept, p)
		}
	}
	return kept
}
