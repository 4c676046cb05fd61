package liveness

import (
	"cmp"
	"hash/fnv"
	"slices"
	"strings"
)

// WatchersPerNode is how many nodes watch one: three may fail before a decision
// is impossible.
const WatchersPerNode = 5

// Watchers answers, for each node that can watch, the targets that it shall
// watch, in order. Each target is watched by up to WatchersPerNode others,
// chosen so that a node that comes or goes changes little (rendezvous hashing).
func Watchers(targets, observers []string) map[string][]string {
	plan := map[string][]string{}
	type score struct {
		node  string
		value uint64
	}
	for _, target := range targets {
		best := make([]score, 0, WatchersPerNode+1)
		for _, node := range observers {
			if node == target {
				continue
			}
			best = append(best, score{node, weight(target, node)})
			slices.SortFunc(best, func(a, b score) int {
				return cmp.Or(cmp.Compare(b.value, a.value), strings.Compare(a.node, b.node))
			})
			best = best[:min(len(best), WatchersPerNode)]
		}
		for _, b := range best {
			plan[b.node] = append(plan[b.node], target)
		}
	}
	for _, list := range plan {
		slices.Sort(list)
	}
	return plan
}

func weight(target, observer string) uint64 {
	h := fnv.New64a()
	_, _ = h.Write([]byte(target)) // never fails
	_, _ = h.Write([]byte{0})
	_, _ = h.Write([]byte(observer))
	// FNV's last bytes hardly reach the high bits, which decide.
	x := h.Sum64()
	x ^= x >> 33
	x *= 0xff51afd7ed558ccd // finaliser of MurmurHash3
	x ^= x >> 33
	return x
}
