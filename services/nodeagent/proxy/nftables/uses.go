package nftables

import (
	"maps"
	"slices"
)

// standingChoices is how many numbers of backends have their set and chain also when
// no service needs them. Most services have so few; when they grow and shrink, only
// elements change.
const standingChoices = 4

// uses counts the services that need what several can need: a choice's set and chain,
// and elements of hairpin.
type uses struct {
	choices map[choice]int
	hairpin map[item]int
}

func newUses() uses { return uses{map[choice]int{}, map[item]int{}} }

// count adds what a service needs, or takes it away.
func (u uses) count(needs compiled, by int) {
	for c := range needs.choices {
		u.choices[c] += by
	}
	for i := range needs.items {
		if i.set == setHairpin {
			u.hairpin[i] += by
		}
	}
}

// add takes over a difference.
func (u uses) add(by uses) {
	for c, n := range by.choices {
		if u.choices[c] += n; u.choices[c] == 0 {
			delete(u.choices, c)
		}
	}
	for i, n := range by.hairpin {
		if u.hairpin[i] += n; u.hairpin[i] == 0 {
			delete(u.hairpin, i)
		}
	}
}

// settle takes out of a transaction the elements that other services need as well.
func (u uses) settle(t transaction, by uses) {
	for i, n := range by.hairpin {
		if u.hairpin[i] > 0 {
			delete(t.added, i)
		}
		if u.hairpin[i]+n > 0 {
			delete(t.taken, i)
		}
	}
}

// ordered are the choices that are there, in their order.
func (u uses) ordered() []choice { return u.orderedWith(newUses()) }

// orderedWith are the choices that will be there after a difference.
func (u uses) orderedWith(by uses) []choice {
	after := maps.Clone(u.choices)
	for c, n := range by.choices {
		after[c] += n
	}
	maps.DeleteFunc(after, func(_ choice, n int) bool { return n == 0 })
	for count := 1; count <= standingChoices; count++ {
		for _, s := range scopes() {
			after[choice{scope: s, count: count}]++
		}
	}
	return slices.SortedFunc(maps.Keys(after), choice.compare)
}
