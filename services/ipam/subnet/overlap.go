package subnet

import "net/netip"

// Pair is the places of two prefixes in a list, the lower one first.
type Pair struct{ First, Second int }

// Overlaps answers every two prefixes of a list that have an address in
// common, in order of the second. The list is short: an address plan's
// ranges.
func Overlaps(list []netip.Prefix) []Pair {
	var pairs []Pair
	for second := range list {
		for first := range second {
			if list[first].Overlaps(list[second]) {
				pairs = append(pairs, Pair{First: first, Second: second})
			}
		}
	}
	return pairs
}
