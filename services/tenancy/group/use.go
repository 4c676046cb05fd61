package group

import (
	"cmp"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
)

// A view is what is handed out of a group: addresses, or addresses with ports.
type view struct {
	id     policy.GroupID
	use    Use
	uses   int
	counts map[policy.Member]int // How many pods have it.
}

// eachMember visits what a pod means to each view of the group.
func (g *group) eachMember(p *pod, visit func(*view, policy.Member)) {
	for _, v := range g.views {
		for _, a := range p.Addresses {
			if v.use.Kind == Addresses {
				visit(v, policy.Member{Addr: a})
				continue
			}
			for _, port := range p.Ports {
				if port.Name == v.use.Port.Name && port.Protocol == v.use.Port.Protocol {
					visit(v, policy.Member{Addr: a, Port: port.Port})
				}
			}
		}
	}
}

// Retain says that a group is used once more, and answers its id.
func (b *Book) Retain(u Use) policy.GroupID {
	g := b.groups[u.Pair.String()]
	if g == nil {
		g = b.attach(u.Pair)
	}
	if u.Kind == Subject {
		if g.subjects++; g.subjects == 1 {
			for p := range g.pods {
				b.touched[p.key] = struct{}{}
			}
		}
		return g.subject
	}
	id := u.ID()
	v := b.views[id]
	if v == nil {
		v = &view{id: id, use: u, counts: map[policy.Member]int{}}
		b.views[id] = v
		b.pend(id).whole, b.pend(id).gone = true, false
		only := group{pods: g.pods, views: []*view{v}}
		for p := range g.pods {
			only.eachMember(p, func(v *view, m policy.Member) { v.counts[m]++ })
		}
		g.views = append(g.views, v)
	}
	v.uses++
	return id
}

// Release says that a group is used once less. Each Retain is released once.
func (b *Book) Release(u Use) {
	g := b.groups[u.Pair.String()]
	if g == nil {
		return
	}
	if u.Kind == Subject {
		if g.subjects--; g.subjects == 0 {
			for p := range g.pods {
				b.touched[p.key] = struct{}{}
			}
		}
	} else if v := b.views[u.ID()]; v != nil {
		if v.uses--; v.uses == 0 {
			delete(b.views, v.id)
			g.views = slices.DeleteFunc(g.views, func(other *view) bool { return other == v })
			p := b.pend(v.id)
			p.gone, p.whole, p.delta = true, false, nil
		}
	}
	if g.subjects == 0 && len(g.views) == 0 {
		b.detach(g)
	}
}

// Members answers who is in a group that is handed out, in order.
func (b *Book) Members(id policy.GroupID) ([]policy.Member, bool) {
	v := b.views[id]
	if v == nil {
		return nil, false
	}
	return slices.SortedFunc(maps.Keys(v.counts), CompareMembers), true
}

// CompareMembers orders members by address, then by port.
func CompareMembers(a, b policy.Member) int {
	return cmp.Or(a.Addr.Compare(b.Addr), cmp.Compare(a.Port, b.Port))
}

func (b *Book) add(v *view, m policy.Member) {
	if v.counts[m]++; v.counts[m] == 1 {
		b.pend(v.id).move(m, true)
	}
}

func (b *Book) remove(v *view, m policy.Member) {
	if v.counts[m]--; v.counts[m] == 0 {
		delete(v.counts, m)
		b.pend(v.id).move(m, false)
	}
}

// Touch says that what applies to the pods of a subject has changed, so that the
// next Drain names them.
func (b *Book) Touch(p Pair) {
	if g := b.groups[p.String()]; g != nil {
		for p := range g.pods {
			b.touched[p.key] = struct{}{}
		}
	}
}
