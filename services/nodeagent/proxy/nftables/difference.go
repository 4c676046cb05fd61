package nftables

import (
	"slices"

	"github.com/damask-sdn/damask/services/nodeagent/proxy"
)

// addAll adds other elements.
func (i items) addAll(others items) {
	for o := range others {
		i[o] = struct{}{}
	}
}

// without answers the elements that are not among others.
func (i items) without(others items) items {
	left := items{}
	for o := range i {
		if _, ok := others[o]; !ok {
			left[o] = struct{}{}
		}
	}
	return left
}

// difference is what leads from what is there to what is wanted.
func difference(there content, shapes []shape, chains []chain, want items) (t transaction, changes proxy.Changes, err error) {
	if there.exists && !there.usable {
		t.anew = true
		changes.Removed = len(there.items) + len(there.chains)
		there = content{}
	}
	wanted := map[string]bool{}
	for _, s := range shapes {
		wanted[s.name] = true
		if !there.sets[s.name] {
			t.sets = append(t.sets, s)
		}
	}
	for name := range there.sets {
		if !wanted[name] {
			t.goneSets = append(t.goneSets, name)
			changes.Removed++
		}
	}
	clear(wanted)
	for _, c := range chains {
		wanted[c.name] = true
		prints, err := c.fingerprints()
		if err != nil {
			return t, changes, err
		}
		if has, ok := there.chains[c.name]; !ok || !slices.Equal(has, prints) {
			t.chains = append(t.chains, c)
			changes.Added += len(prints)
			changes.Removed += len(has)
		}
	}
	for name, rules := range there.chains {
		if !wanted[name] {
			t.goneChains = append(t.goneChains, name)
			changes.Removed += max(1, len(rules))
		}
	}
	t.added, t.taken = want.without(there.items), there.items.without(want)
	t.forgotten = forgotten(t.taken, want)
	changes.Added += len(t.sets) + len(t.added)
	changes.Removed += len(t.taken)
	return t, changes, nil
}
