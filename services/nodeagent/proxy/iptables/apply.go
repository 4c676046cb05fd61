package iptables

import "slices"

// replace adds to a batch what turns one fragment of a service port into another.
func (b *batch) replace(old, wish fragment) {
	had := map[string][]string{}
	for _, c := range old.chains {
		had[c.name] = notNil(c.rules)
	}
	for _, c := range wish.chains {
		has, there := had[c.name]
		delete(had, c.name)
		if !there || !slices.Equal(has, c.rules) {
			b.write(place{tableNAT, c.name}, has, c.rules)
		}
	}
	for _, c := range old.chains {
		if has, gone := had[c.name]; gone {
			b.drop(place{tableNAT, c.name}, has)
		}
	}
	has, want := bySpot(old.entries), bySpot(wish.entries)
	for _, at := range spots(old.entries, wish.entries) {
		b.exchange(at.place, has[at], want[at])
	}
}

// exchange changes a service's rules at one address in a shared chain: the chain may
// hold those of 10,000 others, so it is not written anew. The few rules of the address
// all go and come back, since their order matters.
func (b *batch) exchange(at place, has, want []string) {
	if !slices.Equal(has, want) {
		b.delete(at, has)
		b.insert(at, want)
	}
}

// without answers the rules of a list that are not in another, in their order.
func without(list, other []string) []string {
	there := map[string]bool{}
	for _, r := range other {
		there[r] = true
	}
	var rest []string
	for _, r := range list {
		if !there[r] {
			rest = append(rest, r)
		}
	}
	return rest
}

// bySpot sorts entries by where they stand and keeps their order.
func bySpot(entries []entry) map[spot][]string {
	all := map[spot][]string{}
	for _, e := range entries {
		all[e.spot] = append(all[e.spot], e.rule)
	}
	return all
}

// spots lists where entries stand, each once, in the order they are met.
func spots(lists ...[]entry) []spot {
	var all []spot
	for _, e := range slices.Concat(lists...) {
		if !slices.Contains(all, e.spot) {
			all = append(all, e.spot)
		}
	}
	return all
}

// notNil tells a chain without rules from no chain.
func notNil(rules []string) []string {
	if rules == nil {
		return []string{}
	}
	return rules
}
