package policyflow

import (
	"fmt"
	"slices"
	"testing"

	"pgregory.net/rapid"
)

func TestNumbersFollowFromTheNamesThatThereAre(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		few := func(name string, try int) uint32 { return hashOf(name, try) & 31 }
		x := newIdentities()
		x.hash = few
		have := map[string]uint32{} // As somebody has them who hears of moves alone.
		for range rapid.IntRange(0, 60).Draw(t, "steps") {
			name := fmt.Sprint(rapid.IntRange(0, 19).Draw(t, "name"))
			var moved []string
			if _, has := have[name]; has {
				moved = x.release(name)
				delete(have, name)
			} else {
				moved = x.claim(name)
				have[name] = x.of(name)
			}
			for _, other := range moved {
				have[other] = x.of(other)
			}
		}
		anew := newIdentities()
		anew.hash = few
		names := []string{}
		for name := range have {
			names = append(names, name)
		}
		slices.Sort(names)
		for _, name := range names {
			anew.claim(name)
		}
		seen := map[uint32]bool{}
		for _, name := range names {
			if id := have[name]; id != anew.of(name) || id != x.of(name) || id == 0 || seen[id] {
				t.Fatalf("%s got %d, anew %d", name, id, anew.of(name))
			}
			seen[have[name]] = true
		}
	})
}
