package intent

import (
	"sync"
	"testing"
)

func TestKeyLocksExcludeByNameAndNeverCircle(t *testing.T) {
	locks := newKeyLocks()
	counts := map[string]*int{"a": new(int), "b": new(int), "c": new(int)}
	var all sync.WaitGroup
	for _, names := range [][]string{{"a", "b"}, {"b", "a"}, {"c", "a", "c"}, {"b", "c"}} {
		for range 4 {
			all.Go(func() {
				for range 200 {
					unlock := locks.lock(names)
					seen := map[string]bool{}
					for _, name := range names {
						if !seen[name] {
							*counts[name]++ // the race detector is the judge
						}
						seen[name] = true
					}
					unlock()
				}
			})
		}
	}
	all.Wait()
	for name, want := range map[string]int{"a": 3 * 4 * 200, "b": 3 * 4 * 200, "c": 2 * 4 * 200} {
		if *counts[name] != want {
			t.Errorf("%s was held %d times, want %d", name, *counts[name], want)
		}
	}
	if len(locks.locks) != 0 {
		t.Errorf("%d locks are left over", len(locks.locks))
	}
}
