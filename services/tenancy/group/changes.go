package group

import (
	"cmp"
	"maps"
	"slices"

	"github.com/damask-sdn/damask/internal/policy"
)

// Change is what happened to a group that is handed out.
type Change struct {
	ID policy.GroupID
	// Gone: nobody uses it any more.
	Gone bool
	// Whole: it is new, or has been gone meanwhile; Added is all of it.
	Whole bool
	// Added and Removed are in order.
	Added, Removed []policy.Member
}

// Changes is what happened since the last Drain.
type Changes struct {
	// Groups that differ, in order of id.
	Groups []Change
	// Pods that are in other subjects, have other addresses or ports, are new or
	// gone, in order. Some may be as they were.
	Pods []PodKey
}

// pending is a change on its way. What came and went leaves nothing.
type pending struct {
	gone, whole bool
	delta       map[policy.Member]bool // true is added.
}

func (p *pending) move(m policy.Member, added bool) {
	if p.whole {
		return
	}
	if was, ok := p.delta[m]; ok && was != added {
		delete(p.delta, m)
		return
	}
	if p.delta == nil {
		p.delta = map[policy.Member]bool{}
	}
	p.delta[m] = added
}

func (b *Book) pend(id policy.GroupID) *pending {
	p := b.changed[id]
	if p == nil {
		p = &pending{}
		b.changed[id] = p
	}
	return p
}

// Drain answers what has changed since the last time.
func (b *Book) Drain() Changes {
	var c Changes
	for id, p := range b.changed {
		change := Change{ID: id, Gone: p.gone, Whole: p.whole}
		if p.whole {
			change.Added, _ = b.Members(id)
		}
		for m, added := range p.delta {
			if added {
				change.Added = append(change.Added, m)
			} else {
				change.Removed = append(change.Removed, m)
			}
		}
		if !p.gone && !p.whole && len(p.delta) == 0 {
			continue
		}
		slices.SortFunc(change.Added, CompareMembers)
		slices.SortFunc(change.Removed, CompareMembers)
		c.Groups = append(c.Groups, change)
	}
	slices.SortFunc(c.Groups, func(a, b Change) int { return cmp.Compare(a.ID, b.ID) })
	c.Pods = slices.SortedFunc(maps.Keys(b.touched), PodKey.Compare)
	clear(b.changed)
	clear(b.touched)
	return c
}

// Compare orders keys by namespace and name.
func (k PodKey) Compare(other PodKey) int {
	return cmp.Or(cmp.Compare(k.Namespace, other.Namespace), cmp.Compare(k.Name, other.Name))
}
