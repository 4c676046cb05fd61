package group

import (
	"github.com/damask-sdn/damask/internal/policy"
	"github.com/damask-sdn/damask/services/tenancy/selector"
)

// A scope is the namespaces of a pair, and the groups of all pairs that have
// them. It is what keeps a pod from being compared with groups of namespaces
// that are not its own.
type scope struct {
	exact      string
	selector   selector.Selector
	namespaces map[*namespace]struct{}
	// anchored are the groups whose pods have one of these labels, loose the
	// others.
	anchored index[*group]
	loose    map[*group]struct{}
	groups   int
}

func (s *scope) selects(ns *namespace) bool {
	if s.exact != "" {
		return s.exact == ns.name
	}
	return s.selector.Matches(ns.labels)
}

// eachCandidate visits the groups that a pod with such labels may be in. It may
// visit one twice.
func (s *scope) eachCandidate(labels map[string]string, visit func(*group)) {
	for g := range s.loose {
		visit(g)
	}
	s.anchored.each(labels, visit)
}

func (s *scope) eachGroup(visit func(*group)) {
	for g := range s.loose {
		visit(g)
	}
	for _, groups := range s.anchored {
		for g := range groups {
			visit(g)
		}
	}
}

// rescope puts the namespace in or out of a scope, with its pods.
func (b *Book) rescope(ns *namespace, s *scope) {
	_, in := ns.scopes[s]
	switch fits := s.selects(ns); {
	case fits && !in:
		ns.scopes[s] = struct{}{}
		s.namespaces[ns] = struct{}{}
		for p := range ns.pods {
			s.eachCandidate(p.Labels, func(g *group) { b.place(p, g) })
		}
	case !fits && in:
		for p := range ns.pods {
			s.eachGroup(func(g *group) {
				if _, in := p.groups[g]; in {
					b.leave(p, g)
				}
			})
		}
		delete(ns.scopes, s)
		delete(s.namespaces, ns)
	}
}

// scope answers the scope of a pair, made if need be.
func (b *Book) scope(p Pair) *scope {
	text := p.scope()
	s := b.scopes[text]
	if s != nil {
		return s
	}
	s = &scope{exact: p.Namespace, selector: p.Namespaces, namespaces: map[*namespace]struct{}{},
		anchored: index[*group]{}, loose: map[*group]struct{}{}}
	b.scopes[text] = s
	if s.exact != "" {
		if ns := b.namespaces[s.exact]; ns != nil {
			b.rescope(ns, s)
		}
		return s
	}
	anchors, anchored := s.selector.Anchors()
	for _, a := range anchors {
		b.anchored.put(a, s)
		for ns := range b.spaces[a] {
			b.rescope(ns, s)
		}
	}
	if !anchored {
		b.loose[s] = struct{}{}
		for _, ns := range b.namespaces {
			b.rescope(ns, s)
		}
	}
	return s
}

// group is a pair in use, and who is in it.
type group struct {
	pair     Pair
	scope    *scope
	pods     map[*pod]struct{}
	subject  policy.GroupID
	subjects int // Uses as subject.
	views    []*view
}

// attach makes the group, and finds its pods.
func (b *Book) attach(p Pair) *group {
	g := &group{pair: p, pods: map[*pod]struct{}{}, subject: Use{Kind: Subject, Pair: p}.ID()}
	s := b.scope(p)
	g.scope = s
	s.groups++
	anchors, anchored := p.Pods.Anchors()
	for _, a := range anchors {
		s.anchored.put(a, g)
	}
	if !anchored {
		s.loose[g] = struct{}{}
	}
	b.fill(g, anchors, anchored)
	b.groups[p.String()] = g
	return g
}

// fill looks for the group's pods where there are the fewest to look at.
func (b *Book) fill(g *group, anchors []selector.Label, anchored bool) {
	inScope, byLabel := 0, 0
	for ns := range g.scope.namespaces {
		inScope += len(ns.pods)
	}
	for _, a := range anchors {
		byLabel += len(b.labelled[a])
	}
	if anchored && byLabel < inScope {
		for _, a := range anchors {
			for p := range b.labelled[a] {
				if _, in := g.scope.namespaces[p.namespace]; in {
					b.place(p, g)
				}
			}
		}
		return
	}
	for ns := range g.scope.namespaces {
		for p := range ns.pods {
			b.place(p, g)
		}
	}
}

// detach forgets the group.
func (b *Book) detach(g *group) {
	for p := range g.pods {
		delete(p.groups, g)
	}
	s := g.scope
	anchors, anchored := g.pair.Pods.Anchors()
	for _, a := range anchors {
		s.anchored.drop(a, g)
	}
	if !anchored {
		delete(s.loose, g)
	}
	delete(b.groups, g.pair.String())
	if s.groups--; s.groups > 0 {
		return
	}
	for ns := range s.namespaces {
		delete(ns.scopes, s)
	}
	delete(b.scopes, g.pair.scope())
	delete(b.loose, s)
	if anchors, ok := s.selector.Anchors(); ok && s.exact == "" {
		for _, a := range anchors {
			b.anchored.drop(a, s)
		}
	}
}
